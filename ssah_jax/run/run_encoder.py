"""The encoder of a trained run: its teacher, and what makes features for it."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ssah_jax.config import Config
from ssah_jax.data import ImageSequence, SkippedImages
from ssah_jax.data.images import Resize
from ssah_jax.method import steps
from ssah_jax.method.codes import build_hnet
from ssah_jax.run import checkpointing, parallel
from ssah_jax.run.code_batches import code_batches
from ssah_jax.run.encoder_file import (
    EncoderFileError,
    StoredEncoder,
)
from ssah_jax.run.extractor import Extractor, load_extractor
from ssah_jax.run.features import compute_features
from ssah_jax.run.frozen_features import BATCH
from ssah_jax.run.image_encoder import Codes, CodesAndFeatures, ImageEncoder
from ssah_jax.run.model_info import FrozenBackbone, ModelInfo
from ssah_jax.run.workdir import Workdir
from ssah_jax.types import HashOutputs, TrainState


@dataclasses.dataclass(frozen=True, eq=False)
class RunEncoder(ImageEncoder):
    """H-Net's teacher of one checkpoint, ready to hash images.

    Attributes:
        config: of the run.
        info: what the run's images were.
        state: replicated over the local devices.
        fingerprint: as of `ImageEncoder`.
        weights: of a run on stored features, where the backbone's weights are now; None
            for where they were.
        measured: figures of its evaluation, where they came with it.
    """

    config: Config
    info: ModelInfo
    state: TrainState
    fingerprint: str
    weights: str | None = None
    measured: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def with_weights(self, weights: str | os.PathLike[str]) -> "RunEncoder":
        """The same with the weights of the backbone that made its features elsewhere.

        Raises:
            ValueError: it is no run on stored features.
        """
        if self.info.made_by is None:
            raise ValueError(
                "--weights: a run on images has its own, accepted with --workdir of a "
                "run on stored features"
            )
        return dataclasses.replace(self, weights=os.fspath(weights))

    @functools.cached_property
    def _extractor(self) -> Extractor:
        """What computes the features that the run was trained on."""
        made_by = self.info.made_by
        if made_by is None:
            raise ValueError(
                "--workdir: found a run on stored features whose images had no one "
                "size, accepted is one on images, or on features that `ssah features` "
                "made with data.image_size, so that others can be brought to it"
            )
        spec = made_by.weights if self.weights is None else self.weights
        extractor = load_extractor(
            made_by.name,
            spec,
            image_size=made_by.image_size,
            crop_size=made_by.crop_size,
            dtype=made_by.dtype,
        )
        extractor.check_weights(spec, made_by.sha256, whose="run's features")
        return extractor

    @functools.cached_property
    def _step(self) -> parallel.EncodeStep:
        """The same function for every call, so that each shape is compiled once."""
        return parallel.pmap_encode_step(self.config)

    @functools.cached_property
    def _describe(self) -> Callable[..., HashOutputs]:
        return parallel.pmap_describe_step(self.config)

    @property
    def bits(self) -> int:
        """K."""
        return self.config.bits

    @functools.cached_property
    def feature_width(self) -> int:
        """As of `ImageEncoder`."""
        if self.config.data.source == "features":
            return self.info.image_shape[-1]
        shapes = jax.eval_shape(
            functools.partial(steps.describe_step, config=self.config),
            self.state.teacher,
            self.state.teacher_stats,
            jax.ShapeDtypeStruct((1, *self.info.image_shape), np.uint8),
        )
        return int(shapes.feature.shape[-1])

    @property
    def image_form(self) -> tuple[int, Resize, int]:
        """As of `ImageEncoder`, as in the run's training."""
        height, width, channels = self.info.image_shape
        if self.config.data.source == "features":
            self._extractor  # noqa: B018  Raises where there is none.
            made_by = cast(FrozenBackbone, self.info.made_by)
            height, _, channels = made_by.image_shape
            return height, cast(Resize, made_by.resize), channels
        if height != width:
            raise ValueError(
                f"--workdir: found a run on images of {height} x {width} pixels, "
                "accepted is one on square images"
            )
        return height, cast(Resize, self.config.data.resize), channels

    def encode(
        self,
        images: ImageSequence,
        *,
        skipped: SkippedImages | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Codes]:
        """As of `ImageEncoder`; of a run on stored features, also of features."""
        if self._are_to_be_described(images):
            found = self.encode_both(images, skipped=skipped, batch_size=batch_size)
            yield from ((rows, codes) for rows, codes, _ in found)
            return
        yield from code_batches(
            self._step,
            self.state,
            images,
            np.arange(len(images)),
            config=self._config(batch_size),
            skipped=skipped,
        )

    def encode_both(
        self,
        images: ImageSequence,
        *,
        skipped: SkippedImages | None = None,
        batch_size: int | None = None,
    ) -> Iterator[CodesAndFeatures]:
        """As of `ImageEncoder`."""
        if not self._are_to_be_described(images):
            for rows, found in code_batches(
                self._describe,
                self.state,
                images,
                np.arange(len(images)),
                config=self._config(batch_size),
                skipped=skipped,
            ):
                yield rows, np.asarray(found.code), np.asarray(found.feature)
            return
        stored, start = cast(FrozenBackbone, self.info.made_by).stored, 0
        devices = jax.local_device_count()
        size = -(-(batch_size or BATCH) // devices) * devices
        for features, readable in compute_features(
            self._extractor, images, batch_size=size, skipped=skipped
        ):
            rows = start + np.flatnonzero(readable)
            start += len(readable)
            # As those that it was trained on.
            features = features.astype(stored).astype(np.float32)
            filled = np.zeros((size, 1, 1, features.shape[1]), np.float32)
            filled[: len(features), 0, 0] = features
            codes = self._step(
                self.state.teacher, self.state.teacher_stats, parallel.shard(filled)
            )
            real = np.asarray(codes).reshape(size, -1)[: len(features)]
            yield rows, real[readable], features[readable]

    def _are_to_be_described(self, images: ImageSequence) -> bool:
        """Whether images are such as the run's features are of, not these features."""
        shape, accepted = tuple(images.shape[1:]), [self.info.image_shape]
        if self.info.made_by is not None:
            accepted.append(self.info.made_by.image_shape)
        if shape not in accepted:
            raise ValueError(
                f"images: found shape {shape}, accepted is {accepted[-1]} as in "
                "training"
            )
        return shape != self.info.image_shape

    def _config(self, batch_size: int | None) -> Config:
        if batch_size is None:
            return self.config
        evaluation = dataclasses.replace(self.config.eval, batch=batch_size)
        return dataclasses.replace(self.config, eval=evaluation)

    def stored(self, *, measured: Mapping[str, Any] | None = None) -> StoredEncoder:
        """What is written to a file of it.

        Args:
            measured: figures of its evaluation to go with it; None for its own.
        """
        params, stats = jax.device_get((self.state.teacher, self.state.teacher_stats))
        return StoredEncoder(
            self.config,
            self.info,
            params,
            stats,
            self.fingerprint,
            int(self.state.step),
            self.measured if measured is None else measured,
        )

    @staticmethod
    def of_stored(stored: StoredEncoder) -> "RunEncoder":
        """The encoder of such a file; of its state there are teacher and step.

        Raises:
            EncoderFileError: it is not what its fingerprint says.
        """
        nothing = dict.fromkeys(TrainState.__dataclass_fields__)
        kept = (stored.params, stored.stats, np.int32(stored.step))
        teacher, stats, step = parallel.replicate(kept)
        nothing |= {"teacher": teacher, "teacher_stats": stats, "step": step}
        state = TrainState(**nothing)  # type: ignore[arg-type]
        found = fingerprint_of(stored.config, stored.info, state)
        if found != stored.fingerprint:
            raise EncoderFileError(
                f"encoder: found the fingerprint {found}, accepted is the "
                f"{stored.fingerprint} that its file names: it is damaged"
            )
        return RunEncoder(
            stored.config, stored.info, state, found, measured=stored.measured
        )


def load_encoder(workdir: Workdir, wanted: str = "last") -> RunEncoder:
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
    if config.data.source == "features":
        height = 1
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
    return RunEncoder(config, info, state, fingerprint_of(config, info, state))


def fingerprint_of(config: Config, info: ModelInfo, state: TrainState) -> str:
    """A digest of parameters, statistics and what else codes depend on."""
    data, net = config.data, build_hnet(config)
    # Not where the weights came from, nor what did not learn.
    hnet = dataclasses.replace(config.hnet, weights="", frozen=0)
    seen = (hnet, net.mean, net.std, net.channels, info.image_shape, data.resize)
    digest = hashlib.sha256(repr((*seen, data.crop_size)).encode())
    if info.made_by is not None:
        made_by = dataclasses.replace(info.made_by, weights="")
        digest.update(repr(made_by).encode())
    for leaf in jax.tree.leaves((state.teacher, state.teacher_stats)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]
