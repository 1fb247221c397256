"""Real-valued codes of many images by the teacher of a run, a batch at a time."""

from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Float32, Int64

from ssah_jax.config import Config
from ssah_jax.data import ImageSequence, SkippedImages, eval_batches
from ssah_jax.run import parallel
from ssah_jax.types import TrainState


def code_batches(
    encode: parallel.EncodeStep,
    state: TrainState,
    images: ImageSequence,
    indices: Int64[np.ndarray, "N"],
    *,
    config: Config,
    skipped: SkippedImages | None,
) -> Iterator[tuple[Int64[np.ndarray, "n"], Float32[np.ndarray, "n K"]]]:
    """Real-valued codes of some images by the teacher, a batch at a time.

    Every batch has one shape, so there is one compilation.

    Args:
        encode: of `parallel.pmap_encode_step`.
        state: replicated over the local devices.
        images: where they are.
        indices: which of them, `[N]`, in any order.
        config: of the run.
        skipped: takes images that cannot be read; None makes them an error.

    Yields:
        The indices `[n]` of a batch that could be read, and their codes `[n, K]`.
    """
    devices = jax.local_device_count()
    # This process's part of it, rounded up to a multiple of its devices.
    batch_size = -(-config.eval.batch // jax.device_count()) * devices
    batches = eval_batches(
        images,
        indices,
        batch_size=batch_size,
        threads=config.data.threads,
        skipped=skipped,
    )
    for number, (batch, readable) in enumerate(batches):
        code = encode(state.teacher, state.teacher_stats, parallel.shard(batch))
        rows = np.flatnonzero(readable)
        codes = np.asarray(code).reshape(len(batch), -1)
        yield indices[number * batch_size + rows], codes[rows]
