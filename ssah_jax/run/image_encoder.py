"""What encodes images, whatever it is made of."""

import abc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int8, Int64

from ssah_jax.data import ImageSequence, SkippedImages
from ssah_jax.data.encoded import EncodedImages, image_files
from ssah_jax.data.given import GivenImages
from ssah_jax.data.images import Resize
from ssah_jax.run.frozen_features import BATCH

Codes = tuple[Int64[np.ndarray, "n"], Float32[np.ndarray, "n K"]]
"""Indices of a batch's images that could be read, and their codes."""

CodesAndFeatures = tuple[
    Int64[np.ndarray, "n"], Float32[np.ndarray, "n K"], Float32[np.ndarray, "n D"]
]
"""The same, with the backbone's features that codes are made of."""


class ImageEncoder(abc.ABC):
    """Images to binary codes; made by `ssah_jax.run.encoder.Encoder`.

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
    ) -> Iterator[CodesAndFeatures]:
        """As `encode`, with the backbone's features `[n, D]` that codes are made of."""

    @abc.abstractmethod
    def encode(
        self,
        images: ImageSequence,
        *,
        skipped: SkippedImages | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Codes]:
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
