"""A trained run as a function from images to codes, without its training data."""

import dataclasses
import hashlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int64

from ssah_jax.config import Config
from ssah_jax.data import ImageSequence, SkippedImages, eval_batches
from ssah_jax.method import steps
from ssah_jax.method.codes import build_hnet
from ssah_jax.run import checkpointing, parallel
from ssah_jax.run.workdir import ModelInfo, Workdir
from ssah_jax.types import TrainState


@dataclasses.dataclass(frozen=True, eq=False)
class Encoder:
    """H-Net's teacher of one checkpoint, ready to hash images.

    Attributes:
        config: of the run.
        info: what the run's images were.
        state: replicated over the local devices.
        fingerprint: 16 hexadecimal digits that change with anything that codes depend
            on; codes of two encoders are comparable only if theirs are equal.
    """

    config: Config
    info: ModelInfo
    state: TrainState
    fingerprint: str

    @property
    def bits(self) -> int:
        """K."""
        return self.config.bits

    def encode(
        self, images: ImageSequence, *, skipped: SkippedImages | None = None
    ) -> Iterator[tuple[Int64[np.ndarray, "n"], Float32[np.ndarray, "n K"]]]:
        """Real-valued codes of images, a batch at a time.

        Args:
            images: `[N, H, W, ch]` of `info.image_shape`.
            skipped: takes images that cannot be read; None makes them an error.

        Yields:
            Indices `[n]` into `images`, ascending, and their codes `[n, K]`, whose
            signs are the bits. Images that could not be read are left out.

        Raises:
            DataError: an image cannot be read, or too many cannot.
            ValueError: images have another shape.
        """
        if tuple(images.shape[1:]) != self.info.image_shape:
            raise ValueError(
                f"images: found shape {tuple(images.shape[1:])}, accepted is "
                f"{self.info.image_shape} as in training"
            )
        yield from code_batches(
            parallel.pmap_encode_step(self.config),
            self.state,
            images,
            np.arange(len(images)),
            config=self.config,
            skipped=skipped,
        )


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


def load_encoder(workdir: Workdir, wanted: str = "last") -> Encoder:
    """The encoder of a run; its training data need not be there.

    Args:
        workdir: of a run that has a checkpoint.
        wanted: "last", "best" (on validation queries), or a step's number.

    Raises:
        ValueError: no run, no such checkpoint, or one that does not fit.
    """
    config, info = workdir.read_config(), workdir.read_model_info()
    size = config.data.crop_size
    height, width, channels = info.image_shape
    like = jax.eval_shape(
        lambda: steps.init_state(
            jax.random.key(config.seed),
            config=config,
            image_shape=(size or height, size or width, channels),
            num_classes=len(info.class_names),
        )
    )
    # Of several processes each encodes for itself.
    local = parallel.replicate(jnp.zeros(())).sharding
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=local), like
    )
    with checkpointing.open_checkpoints(workdir.checkpoints, read_only=True) as saved:
        state = saved.restore(like, step=saved.find(wanted))
    return Encoder(config, info, state, _fingerprint(config, info, state))


def _fingerprint(config: Config, info: ModelInfo, state: TrainState) -> str:
    """A digest of parameters, statistics and what else codes depend on."""
    data, net = config.data, build_hnet(config)
    # Not where the weights came from, nor what did not learn.
    hnet = dataclasses.replace(config.hnet, weights="", frozen=0)
    seen = (hnet, net.mean, net.std, net.channels, info.image_shape, data.resize)
    digest = hashlib.sha256(repr((*seen, data.crop_size)).encode())
    for leaf in jax.tree.leaves((state.teacher, state.teacher_stats)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]
