"""The encoder of a frozen backbone and a binariser, without any training."""

import os
from collections.abc import Iterator
from typing import Any, Final, cast

import numpy as np
from jaxtyping import Float32, Int64

from ssah_jax.data import ImageSequence, SkippedImages
from ssah_jax.data.images import Resize
from ssah_jax.retrieval.binarisers import Binariser, check_fit
from ssah_jax.run.code_model import CodeModel
from ssah_jax.run.extractor import Extractor, load_extractor
from ssah_jax.run.frozen_features import FeatureFunction, FrozenFeatures
from ssah_jax.run.image_encoder import Codes, CodesAndFeatures, ImageEncoder

BITS: Final = 64
"""K where nobody says how many."""

SAMPLE: Final = 10_000
"""Images that a binariser learns from at most, unless told otherwise."""


class FrozenEncoder(ImageEncoder):
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
            function.check_weights(spec, model.sha256, whose="model's")
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
        """As of `ImageEncoder`."""
        return self._fitted.fingerprint

    @property
    def image_form(self) -> tuple[int, Resize, int]:
        """As of `ImageEncoder`."""
        return self.features.image_size, self._resize, 3

    @property
    def feature_width(self) -> int:
        """As of `ImageEncoder`."""
        return len(self._fitted.binariser.mean)

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
    ) -> Iterator[Codes]:
        """As of `ImageEncoder`."""
        found = self.encode_both(images, skipped=skipped, batch_size=batch_size)
        for rows, codes, _ in found:
            yield rows, codes

    def encode_both(
        self,
        images: ImageSequence,
        *,
        skipped: SkippedImages | None = None,
        batch_size: int | None = None,
    ) -> Iterator[CodesAndFeatures]:
        """As of `ImageEncoder`."""
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


def sample_of(number: int, most: int, *, seed: int) -> Int64[np.ndarray, "n"]:
    """Indices of `number` images, ascending; of more than `most`, a draw of so many."""
    if number <= most:
        return np.arange(number)
    return np.sort(np.random.default_rng(seed).permutation(number)[:most])
