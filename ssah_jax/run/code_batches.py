"""Real-valued codes of many images by the teacher of a run, a batch at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Int64

from ssah_jax.config import Config
from ssah_jax.data import ImageSequence, SkippedImages, eval_batches
from ssah_jax.run import parallel
from ssah_jax.types import Params, TrainState


def code_batches(
    encode: Callable[[Params, Params, Any], Any],
    state: TrainState,
    images: ImageSequence,
    indices: Int64[np.ndarray, "N"],
    *,
    config: Config,
    skipped: SkippedImages | None,
) -> Iterator[tuple[Int64[np.ndarray, "n"], Any]]:
    """Real-valued codes of some images by the teacher, a batch at a time.

    Every batch has one shape, so there is one compilation.

    Args:
        encode: of `parallel.pmap_encode_step`, or `pmap_describe_step` for features
            beside the codes.
        state: replicated over the local devices.
        images: where they are.
        indices: which of them, `[N]`, in any order.
        config: of the run.
        skipped: takes images that cannot be read; None makes them an error.

    Yields:
        The indices `[n]` of a batch that could be read, and of these what `encode`
        gives, such as codes `[n, K]`, as NumPy's arrays.
    """
    devices = jax.local_device_count()
    # This process's part of it, rounded up to a multiple of its devices.
    batch_size = -(-config.eval.batch // jax.device_count()) * devices
    batches = eval_batches(
        images,
        indices,
        batch_size=batch_size,
        threads=config.data.num_threads,
        skipped=skipped,
    )
    for number, (batch, readable) in enumerate(batches):
        found = encode(state.teacher, state.teacher_stats, parallel.shard(batch))
        rows = np.flatnonzero(readable)

        def chosen(x: jax.Array, rows: np.ndarray = rows) -> np.ndarray:
            return np.asarray(x).reshape(-1, x.shape[-1])[rows]

        yield indices[number * batch_size + rows], jax.tree.map(chosen, found)
