"""Features of images by a frozen backbone or by anybody's function."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from ssah_jax.data import ImageSequence, SkippedImages, eval_batches
from ssah_jax.retrieval.code_columns import Stamp
from ssah_jax.run.extractor import Extractor, feature_width
from ssah_jax.run.features import compute_features

BATCH = 64
"""Images that a frozen backbone sees at once."""

FeatureFunction = Callable[[UInt8[np.ndarray, "B S S 3"]], Any]
"""Anybody's function from images in 0 .. 255 to features `[B, D]`, any real."""


class FrozenFeatures:
    """What features are computed by, and what needs not be computed again.

    Attributes:
        backbone: an `Extractor`, or a function.
        image_size: S, the side of the square images that it sees, in pixels.
        seen: features `[D]` of images that were seen before, by name.
        stamps: of the files that these are of, likewise.
    """

    def __init__(
        self, backbone: Extractor | FeatureFunction, *, image_size: int
    ) -> None:
        """Computes nothing yet."""
        self.backbone, self.image_size = backbone, image_size
        self.seen: Mapping[str, np.ndarray] = {}
        self.stamps: Mapping[str, Stamp] = {}

    @property
    def extractor(self) -> Extractor | None:
        """The backbone, if it is one of the shipped ones."""
        return self.backbone if isinstance(self.backbone, Extractor) else None

    def width(self) -> int | None:
        """D; None of a function, which was not asked yet."""
        if self.extractor is None:
            return None
        return feature_width(self.extractor, (self.image_size, self.image_size, 3))

    def compute(
        self,
        images: ImageSequence,
        indices: Int64[np.ndarray, "N"] | None = None,
        *,
        skipped: SkippedImages | None = None,
        batch_size: int | None = None,
    ) -> Iterator[tuple[Int64[np.ndarray, "n"], Float32[np.ndarray, "n D"]]]:
        """Features of images, a batch at a time.

        Args:
            images: `[N, S, S, 3]`.
            indices: which of them, `[n]`, ascending; all of them if None.
            skipped: takes images that cannot be read; None makes them an error.
            batch_size: images at once; None for `BATCH`.

        Yields:
            Indices `[n]` into `images`, ascending, and features `[n, D]`. Images that
            could not be read are left out.

        Raises:
            DataError: an image cannot be read, or too many cannot.
            ValueError: images have another shape, or features are none.
        """
        if indices is None:
            indices = np.arange(len(images))
        wanted = (self.image_size, self.image_size, 3)
        if tuple(images.shape[1:]) != wanted:
            raise ValueError(
                f"images: found shape {tuple(images.shape[1:])}, accepted is {wanted}"
            )
        names: Sequence[str] = getattr(images, "names", ())
        known = np.zeros(len(indices), bool)
        if self.seen:
            known[:] = [names[i] in self.seen for i in indices.tolist()]
        rest, waiting = indices[np.logical_not(known)], indices[known]
        for rows, found in self._computed(images, rest, skipped, batch_size or BATCH):
            last = rows[-1] if len(rows) else -1
            until = int(np.searchsorted(waiting, last))
            yield self._merged(names, waiting[:until], rows, found)
            waiting = waiting[until:]
        for start in range(0, len(waiting), BATCH):
            rows = waiting[start : start + BATCH]
            yield rows, np.stack([self.seen[names[i]] for i in rows.tolist()])

    def _merged(
        self,
        names: Sequence[str],
        before: Int64[np.ndarray, "m"],
        rows: Int64[np.ndarray, "n"],
        found: Float32[np.ndarray, "n D"],
    ) -> tuple[Int64[np.ndarray, "l"], Float32[np.ndarray, "l D"]]:
        """A batch, and what was seen before that belongs before its last image."""
        if not len(before):
            return rows, found
        rows = np.concatenate([rows, before])
        order = np.argsort(rows)
        seen = np.stack([self.seen[names[i]] for i in before.tolist()])
        return rows[order], np.concatenate([found, seen])[order]

    def _computed(
        self,
        images: ImageSequence,
        indices: Int64[np.ndarray, "N"],
        skipped: SkippedImages | None,
        batch_size: int,
    ) -> Iterator[tuple[Int64[np.ndarray, "n"], Float32[np.ndarray, "n D"]]]:
        if isinstance(self.backbone, Extractor):
            batches = compute_features(
                self.backbone, images, indices, batch_size=batch_size, skipped=skipped
            )
        else:
            batches = _called(self.backbone, images, indices, batch_size, skipped)
        start = 0
        for features, readable in batches:
            rows = indices[start : start + len(readable)]
            start += len(readable)
            yield rows[readable], features[readable]


def _called(
    function: FeatureFunction,
    images: ImageSequence,
    indices: Int64[np.ndarray, "N"],
    batch_size: int,
    skipped: SkippedImages | None,
) -> Iterator[tuple[Float32[np.ndarray, "n D"], Bool[np.ndarray, "n"]]]:
    """Features by somebody's function, which sees batches of one size."""
    batches = eval_batches(
        images, indices, batch_size=batch_size, threads=4, skipped=skipped
    )
    for number, (batch, readable) in enumerate(batches):
        found = np.asarray(function(batch), np.float32)
        if found.ndim != 2 or len(found) != len(batch):
            raise ValueError(
                f"backbone: found features of shape {found.shape} of {len(batch)} "
                "images, accepted is [images, features]"
            )
        size = min(batch_size, len(indices) - number * batch_size)
        yield found[:size], readable[:size]
