"""Images to codes: by a trained run, or by a frozen backbone and a binariser."""

import abc
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Float32, Int8, Int64

from ssah_jax.data import ImageSequence, SkippedImages
from ssah_jax.data.given import GivenImages
from ssah_jax.data.images import RESIZES, EncodedImages, Resize, image_files
from ssah_jax.networks.backbones import SPECS
from ssah_jax.retrieval.binarisers import check_kind
from ssah_jax.run.code_model import CodeModel
from ssah_jax.run.encoder_file import (
    find_encoder_file,
    is_encoder_file,
    read_encoder_file,
)
from ssah_jax.run.features import Extractor, load_extractor
from ssah_jax.run.frozen_features import BATCH, FeatureFunction
from ssah_jax.run.workdir import Workdir

# What follows makes encoders of both kinds, and these are encoders.
if TYPE_CHECKING:
    from ssah_jax.run.frozen_encoder import FrozenEncoder
    from ssah_jax.run.run_encoder import RunEncoder


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
        workdir: str | os.PathLike[str],
        *,
        step: str | int = "last",
        weights: str | os.PathLike[str] | None = None,
    ) -> "RunEncoder":
        """The encoder of a trained run; its training data need not be there.

        Args:
            workdir: the directory of the run.
            step: "last", "best" (on validation queries), or a step's number.
            weights: of a run on stored features, where those of the backbone are that
                made them; None for where they were.

        Raises:
            ValueError: no run, or no such checkpoint.
        """
        from ssah_jax.run.run_encoder import load_encoder

        encoder = load_encoder(Workdir(workdir), str(step))
        return encoder if weights is None else encoder.with_weights(weights)

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
        from ssah_jax.run.frozen_encoder import FrozenEncoder

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
        from ssah_jax.run.frozen_encoder import FrozenEncoder
        from ssah_jax.run.run_encoder import RunEncoder

        path = find_encoder_file(path)
        if is_encoder_file(path):
            encoder = RunEncoder.of_stored(read_encoder_file(path))
            return encoder if weights is None else encoder.with_weights(weights)
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

    @property
    @abc.abstractmethod
    def feature_width(self) -> int:
        """D of the features that `encode_both` gives."""

    @abc.abstractmethod
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
        """As `encode`, with the backbone's features `[n, D]` that codes are made of."""

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
