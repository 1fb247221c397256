"""Images to codes: by a trained run, or by a frozen backbone and a binariser."""

import abc
import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int8, Int64

from ssah_jax.config import Config
from ssah_jax.data import ImageSequence, SkippedImages
from ssah_jax.data.encoded import EncodedImages, image_files
from ssah_jax.data.given import GivenImages
from ssah_jax.data.images import RESIZES, Resize
from ssah_jax.method import steps
from ssah_jax.method.codes import build_hnet
from ssah_jax.networks.backbones import SPECS
from ssah_jax.retrieval.binarisers import Binariser, check_fit, check_kind
from ssah_jax.run import checkpointing, parallel
from ssah_jax.run.code_batches import code_batches
from ssah_jax.run.code_model import CodeModel
from ssah_jax.run.encoder_file import (
    EncoderFileError,
    StoredEncoder,
    find_encoder_file,
    is_encoder_file,
    read_encoder_file,
)
from ssah_jax.run.features import Extractor, load_extractor
from ssah_jax.run.frozen_features import BATCH, FeatureFunction, FrozenFeatures
from ssah_jax.run.workdir import ModelInfo, Workdir
from ssah_jax.types import TrainState

BITS: Final = 64
"""K where nobody says how many."""

SAMPLE: Final = 10_000
"""Images that a binariser learns from at most, unless told otherwise."""


class Encoder(abc.ABC):
    """Images to binary codes.

    Made by `from_run`, `from_backbone` or `load`:

    >>> import numpy as np
    >>> from ssah_jax import Encoder
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    >>> def pixels(images):
    ...     return images[:, ::4, ::4].reshape(len(images), -1) / 255
    >>> encoder = Encoder.from_backbone(pixels, image_size=16, bits=8).fit(images)
    >>> encoder.transform(images[:5]).shape
    (5, 8)

    Attributes:
        bits: K.
        fingerprint: 16 hexadecimal digits that change with anything that codes depend
            on; codes of two encoders are comparable only if theirs are equal.
    """

    if TYPE_CHECKING:  # Fields of some, properties of others.

        @property
        def bits(self) -> int: ...  # noqa: D102

        @property
        def fingerprint(self) -> str: ...  # noqa: D102

    @staticmethod
    def from_run(
        workdir: str | os.PathLike[str], *, step: str | int = "last"
    ) -> "RunEncoder":
        """The encoder of a trained run; its training data need not be there.

        Args:
            workdir: the directory of the run.
            step: "last", "best" (on validation queries), or a step's number.

        Raises:
            ValueError: no run, or no such checkpoint.
        """
        return load_encoder(Workdir(workdir), str(step))

    @staticmethod
    def from_backbone(
        backbone: str | FeatureFunction,
        *,
        weights: str | os.PathLike[str] = "default",
        image_size: int | None = None,
        resize: str = "crop",
        binarise: str = "itq",
        bits: int | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> "FrozenEncoder":
        """An encoder without training, which `fit` makes ready.

        Args:
            backbone: a word of `weight_tables.CONVERTIBLE`, such as "vit_s14"; or a
                function from uint8 images `[B, S, S, 3]` to features `[B, D]`, which
                normalises images itself.
            weights: of a word: a file, `hf:OWNER/NAME`, `torchvision:NAME`, or
                "default" for the backbone's own.
            image_size: S, in pixels; None for what the weights were made for, and 224
                for a function.
            resize: how images become square, "crop" or "squash".
            binarise: a word of `ssah_jax.retrieval.binarisers.KINDS`.
            bits: K; None for 64, or for D with "sign".
            seed: of what is drawn at random.
            name: of a function, part of the fingerprint: codes of functions with other
                names are not comparable; None for the function's own name.

        Raises:
            ValueError: an argument is none of these, or weights cannot be had.
        """
        check_kind(binarise)
        if resize not in RESIZES:
            raise ValueError(
                f"resize: found {resize!r}, accepted are {' and '.join(RESIZES)}"
            )
        if callable(backbone):
            function: Extractor | FeatureFunction = backbone
            side = 224 if image_size is None else image_size
            own = getattr(backbone, "__qualname__", type(backbone).__name__)
            called = str(name or own)
            if side < 1:
                raise ValueError(f"image_size: found {side}, accepted is 1 or more")
        else:
            # A later command may run elsewhere.
            spec = os.fspath(weights)
            spec = os.path.abspath(spec) if os.path.exists(spec) else spec
            function, called = load_extractor(backbone, spec), backbone
            side = SPECS[backbone].image_size if image_size is None else image_size
            function.check_images((side, side, 3))
        return FrozenEncoder(
            function,
            name=called,
            image_size=side,
            resize=cast(Resize, resize),
            binarise=binarise,
            bits=bits,
            seed=seed,
        )

    @staticmethod
    def load(
        path: str | os.PathLike[str],
        *,
        backbone: FeatureFunction | None = None,
        weights: str | os.PathLike[str] | None = None,
    ) -> "Encoder":
        """The encoder in a file.

        That is one that `save` or `ssah encode --backbone` wrote, or `ssah export --to
        safetensors` of a trained run.

        Args:
            path: the file; `hf:OWNER/NAME` for what `ssah push` has sent there; or
                "small" for the one that comes with the package.
            backbone: the function, where it is of one.
            weights: where the backbone's weights are now; None for where they were.

        Raises:
            ValueError: the file cannot be used, or weights or function are others.
        """
        path = find_encoder_file(path)
        if is_encoder_file(path):
            return RunEncoder.of_stored(read_encoder_file(path))
        return FrozenEncoder.of_model(
            CodeModel.load(path), backbone=backbone, weights=weights
        )

    @property
    @abc.abstractmethod
    def image_form(self) -> tuple[int, Resize, int]:
        """Side in pixels, way of becoming square, and channels of images it takes.

        Raises:
            ValueError: it takes no such images.
        """

    @abc.abstractmethod
    def encode(
        self,
        images: ImageSequence,
        *,
        skipped: SkippedImages | None = None,
        batch_size: int | None = None,
    ) -> Iterator[tuple[Int64[np.ndarray, "n"], Float32[np.ndarray, "n K"]]]:
        """Real-valued codes of images, a batch at a time.

        Args:
            images: `[N, H, W, ch]` as of `image_form`.
            skipped: takes images that cannot be read; None makes them an error.
            batch_size: images at once; None for the encoder's own number.

        Yields:
            Indices `[n]` into `images`, ascending, and their codes `[n, K]`, whose
            signs are the bits. Images that could not be read are left out.

        Raises:
            DataError: an image cannot be read, or too many cannot.
            ValueError: images have another shape.
        """

    def image_files(self, names: Sequence[str]) -> EncodedImages:
        """Image files of any size and format, brought to what the encoder takes.

        Args:
            names: N paths, relative to the working directory or absolute.

        Raises:
            ValueError: the encoder takes no images, or none that are square.
        """
        size, resize, channels = self.image_form
        return image_files(Path(), names, size=size, resize=resize, channels=channels)

    def given_images(self, images: Any) -> GivenImages:
        """Images in any form, brought to what the encoder takes.

        Args:
            images: as of `transform`.

        Raises:
            ValueError: they are none of these forms.
        """
        size, resize, channels = self.image_form
        return GivenImages(images, size=size, resize=resize, channels=channels)

    def transform(self, images: Any) -> Int8[np.ndarray, "N K"]:
        """Codes of images, `[N, K]` in {-1, +1}.

        Args:
            images: an array `[N, H, W, ch]`, uint8 or float in [0, 1]; a folder or a
                file; or a sequence of paths, arrays `[H, W, ch]` and Pillow's images.

        Raises:
            ValueError: they are none of these, or the encoder is not fitted.
            DataError: an image cannot be read.
        """
        given = self.given_images(images)
        codes = np.ones((len(given), self.bits), np.int8)
        if not len(given):
            return codes
        for rows, values in self.encode(given, batch_size=min(BATCH, len(given))):
            codes[rows] = np.where(values >= 0, 1, -1)
        return codes


@dataclasses.dataclass(frozen=True, eq=False)
class RunEncoder(Encoder):
    """H-Net's teacher of one checkpoint, ready to hash images.

    Attributes:
        config: of the run.
        info: what the run's images were.
        state: replicated over the local devices.
        fingerprint: as of `Encoder`.
    """

    config: Config
    info: ModelInfo
    state: TrainState
    fingerprint: str

    @functools.cached_property
    def _step(self) -> parallel.EncodeStep:
        """The same function for every call, so that each shape is compiled once."""
        return parallel.pmap_encode_step(self.config)

    @property
    def bits(self) -> int:
        """K."""
        return self.config.bits

    @property
    def image_form(self) -> tuple[int, Resize, int]:
        """As of `Encoder`, as in the run's training."""
        if self.config.data.source == "features":
            raise ValueError(
                "--workdir: found a run on stored features, which holds no backbone to "
                "make them of other images with; accepted is a run on images"
            )
        height, width, channels = self.info.image_shape
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
    ) -> Iterator[tuple[Int64[np.ndarray, "n"], Float32[np.ndarray, "n K"]]]:
        """As of `Encoder`."""
        if tuple(images.shape[1:]) != self.info.image_shape:
            raise ValueError(
                f"images: found shape {tuple(images.shape[1:])}, accepted is "
                f"{self.info.image_shape} as in training"
            )
        config = self.config
        if batch_size is not None:
            config = dataclasses.replace(
                config, eval=dataclasses.replace(config.eval, batch=batch_size)
            )
        yield from code_batches(
            self._step,
            self.state,
            images,
            np.arange(len(images)),
            config=config,
            skipped=skipped,
        )

    def stored(self, *, measured: Mapping[str, Any] | None = None) -> StoredEncoder:
        """What is written to a file of it.

        Args:
            measured: figures of its evaluation to go with it.
        """
        params, stats = jax.device_get((self.state.teacher, self.state.teacher_stats))
        return StoredEncoder(
            self.config, self.info, params, stats, self.fingerprint, measured or {}
        )

    @staticmethod
    def of_stored(stored: StoredEncoder) -> "RunEncoder":
        """The encoder of such a file; of its state there is only the teacher.

        Raises:
            EncoderFileError: it is not what its fingerprint says.
        """
        nothing = dict.fromkeys(TrainState.__dataclass_fields__)
        teacher, stats = parallel.replicate((stored.params, stored.stats))
        nothing |= {"teacher": teacher, "teacher_stats": stats}
        state = TrainState(**nothing)  # type: ignore[arg-type]
        found = _fingerprint(stored.config, stored.info, state)
        if found != stored.fingerprint:
            raise EncoderFileError(
                f"encoder: found the fingerprint {found}, accepted is the "
                f"{stored.fingerprint} that its file names: it is damaged"
            )
        return RunEncoder(stored.config, stored.info, state, found)


class FrozenEncoder(Encoder):
    """A frozen backbone and a binariser; made by `Encoder.from_backbone`.

    Attributes:
        model: what is stored of it; None before `fit`.
        features: the backbone.
    """

    def __init__(
        self,
        backbone: Extractor | FeatureFunction,
        *,
        name: str,
        image_size: int,
        resize: Resize = "crop",
        binarise: str = "itq",
        bits: int | None = None,
        seed: int = 0,
    ) -> None:
        """Takes what `Encoder.from_backbone` has checked."""
        self.model: CodeModel | None = None
        self.features = FrozenFeatures(backbone, image_size=image_size)
        self._name, self._resize = name, resize
        self._kind, self._bits, self._seed = binarise, bits, seed

    @staticmethod
    def of_model(
        model: CodeModel,
        *,
        backbone: FeatureFunction | None = None,
        weights: str | os.PathLike[str] | None = None,
    ) -> "FrozenEncoder":
        """The encoder of a stored model; see `Encoder.load`."""
        function: Extractor | FeatureFunction
        if not model.sha256:
            if backbone is None:
                raise ValueError(
                    f"backbone: found a model of the function {model.backbone}, "
                    "accepted is this function, in Python: Encoder.load(path, "
                    "backbone=function)"
                )
            function = backbone
        else:
            spec = model.weights if weights is None else os.fspath(weights)
            function = load_extractor(model.backbone, spec)
            if function.sha256 != model.sha256:
                raise ValueError(
                    f"--weights: found {spec} with sha256 {function.sha256[:16]}, "
                    f"accepted is the file of the model's, {model.sha256[:16]}"
                )
        encoder = FrozenEncoder(
            function,
            name=model.backbone,
            image_size=model.image_size,
            resize=cast(Resize, model.resize),
            binarise=model.binariser.kind,
            bits=model.binariser.bits,
        )
        encoder.model = model
        return encoder

    @property
    def _fitted(self) -> CodeModel:
        if self.model is None:
            raise ValueError(
                "encoder: found none that has learnt, accepted is one after fit(images)"
            )
        return self.model

    @property
    def bits(self) -> int:
        """K."""
        return self._fitted.binariser.bits

    @property
    def fingerprint(self) -> str:
        """As of `Encoder`."""
        return self._fitted.fingerprint

    @property
    def image_form(self) -> tuple[int, Resize, int]:
        """As of `Encoder`."""
        return self.features.image_size, self._resize, 3

    def adopt(self, model: CodeModel) -> bool:
        """Take a stored binariser, if it is what `fit` would learn.

        Args:
            model: of anything.

        Returns:
            Whether backbone, weights, images, kind and bits are the same.
        """
        shipped = self.features.extractor
        mine = (
            self._name,
            shipped.sha256 if shipped else "",
            self.features.image_size,
            self._resize,
            self._kind,
            self._bits_of(self._kind, len(model.binariser.mean)),
        )
        theirs = (
            model.backbone,
            model.sha256,
            model.image_size,
            model.resize,
            model.binariser.kind,
            model.binariser.bits,
        )
        if mine == theirs:
            self.model = model
        return mine == theirs

    def check_fit(self, number: int) -> None:
        """Check that so many images are enough, before anything is computed.

        Raises:
            ValueError: they are not, or there are not so many bits.
        """
        width = self.features.width()
        if width is not None:
            check_fit(
                number, width, kind=self._kind, bits=self._bits_of(self._kind, width)
            )

    def fit(self, images: Any) -> "FrozenEncoder":
        """Learn the binariser from images, without labels.

        Args:
            images: as of `transform`; 2 or more, and K or more for "pca", "itq" and
                "random-rotation". Beyond `SAMPLE`, a draw of so many is looked at.

        Returns:
            Itself, ready.

        Raises:
            ValueError: they are too few, or none of these forms.
            DataError: an image cannot be read.
        """
        given = self.given_images(images)
        indices = sample_of(len(given), SAMPLE, seed=self._seed)
        self.check_fit(len(indices))
        found = [features for _, features in self.features.compute(given, indices)]
        if not found:
            raise ValueError("images: found none, accepted are 2 or more")
        return self.fit_features(np.concatenate(found))

    def fit_features(
        self, features: Float32[np.ndarray, "N D"], *, learnt_from: str = ""
    ) -> "FrozenEncoder":
        """As `fit`, from the backbone's own features of images.

        Args:
            features: any real, `[N, D]`.
            learnt_from: what is to be stored of which images they are of.

        Raises:
            ValueError: they are too few, or one is no number.
        """
        binariser = Binariser.fit(
            features,
            kind=self._kind,
            bits=self._bits_of(self._kind, features.shape[1]),
            seed=self._seed,
        )
        shipped = self.features.extractor
        self.model = CodeModel(
            backbone=self._name,
            weights=shipped.weights if shipped else "",
            sha256=shipped.sha256 if shipped else "",
            image_size=self.features.image_size,
            resize=self._resize,
            binariser=binariser,
            learnt_from=learnt_from,
        )
        return self

    def encode(
        self,
        images: ImageSequence,
        *,
        skipped: SkippedImages | None = None,
        batch_size: int | None = None,
    ) -> Iterator[tuple[Int64[np.ndarray, "n"], Float32[np.ndarray, "n K"]]]:
        """As of `Encoder`."""
        found = self.encode_both(images, skipped=skipped, batch_size=batch_size)
        for rows, codes, _ in found:
            yield rows, codes

    def encode_both(
        self,
        images: ImageSequence,
        *,
        skipped: SkippedImages | None = None,
        batch_size: int | None = None,
    ) -> Iterator[
        tuple[
            Int64[np.ndarray, "n"],
            Float32[np.ndarray, "n K"],
            Float32[np.ndarray, "n D"],
        ]
    ]:
        """As `encode`, with the features `[n, D]` that codes are made of."""
        binariser = self._fitted.binariser
        for rows, features in self.features.compute(
            images, skipped=skipped, batch_size=batch_size
        ):
            yield rows, binariser.project(features), features

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes what `Encoder.load` reads: one file, without the weights.

        Args:
            path: replaced if it is there.

        Raises:
            ValueError: it was not fitted.
        """
        self._fitted.save(path)

    def _bits_of(self, kind: str, width: int) -> int:
        if self._bits is not None:
            return self._bits
        return width if kind == "sign" else BITS


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
    return RunEncoder(config, info, state, _fingerprint(config, info, state))


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


def sample_of(number: int, most: int, *, seed: int) -> Int64[np.ndarray, "n"]:
    """Indices of `number` images, ascending; of more than `most`, a draw of so many."""
    if number <= most:
        return np.arange(number)
    return np.sort(np.random.default_rng(seed).permutation(number)[:most])
