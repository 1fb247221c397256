"""What the page and its JSON are about: an index, its images, and searches in it."""

import dataclasses
import functools
import hashlib
import io
import os
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int64, Real, UInt8
from PIL import Image

from ssah_jax.data.encoded import image_files
from ssah_jax.data.images import decode
from ssah_jax.data.source import DataError
from ssah_jax.retrieval.duplicates import comparisons, distances_to, groups
from ssah_jax.retrieval.feature_files import KeptFeatures
from ssah_jax.retrieval.files import one_line
from ssah_jax.retrieval.index import Index
from ssah_jax.retrieval.reranking import rerank
from ssah_jax.retrieval.rows import among, matching

MOST_LABELS: Final = 1000
"""Labels that are listed, those of most images first."""

MOST_GROUPS: Final = 100
"""Groups of like images that are listed, and images of a group."""

_MOST_COMPARISONS: Final = 3 * 10**8
_SIDES: Final = {"small": 192, "large": 1280}
_QUALITY: Final = 85


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a search is to find.

    Attributes:
        k: how many, >= 1.
        labels: of which an image must have one; none for any.
        paths: patterns of which its id must match one; none for any.
    """

    k: int
    labels: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


class Engine:
    """Searches an index and draws its images; safe in several threads."""

    def __init__(
        self,
        index: Index,
        *,
        root: Path | None = None,
        features: KeptFeatures | None = None,
        oversample: int = 1,
    ) -> None:
        """Takes an index.

        Args:
            index: of N images.
            root: where relative ids start, and which no image may lie outside of;
                None for the working directory, and anywhere.
            features: of the images, in their order: what is found is ordered by the
                cosine of these; None for by distance.
            oversample: candidates for each image wanted that are then looked at.
        """
        self.index, self.features = index, features
        self._oversample = oversample
        self._root = root
        self._packed = index.packed
        self._part = functools.lru_cache(8)(self._part_of)
        self._groups = functools.lru_cache(4)(self._groups_of)

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """What is indexed: number of images, bits, kind, model, and labels."""
        counts = Counter(
            label for labels in self.index.labels or () for label in labels
        )
        return {
            "images": len(self.index.ids),
            "bits": self.index.bits,
            "kind": self.index.kind,
            "model": self.index.fingerprint,
            "labels": [
                {"name": name, "images": count}
                for name, count in counts.most_common(MOST_LABELS)
            ],
        }

    @functools.cached_property
    def version(self) -> str:
        """Changes with anything that a row's number depends on."""
        digest = hashlib.sha256(self._packed.tobytes())
        for name in self.index.ids:
            digest.update(name.encode(errors="surrogateescape") + b"\0")
        return digest.hexdigest()[:12]

    def search(
        self,
        code: UInt8[np.ndarray, "bytes"],
        wanted: Wanted,
        *,
        feature: Real[np.ndarray, "D"] | None = None,
        but: int = -1,
    ) -> list[dict[str, Any]]:
        """The nearest images.

        Args:
            code: packed, `[ceil(K / 8)]`.
            wanted: how many, among which.
            feature: of the same image, where images have features.
            but: a row that is not to be found; -1 for none.

        Returns:
            Objects of `rank`, `distance`, `similarity`, `row`, `id` and `labels`,
            nearest first; the similarity is None without features.

        Raises:
            CodeFileError: there is no such label or path.
        """
        part, rows = self._part(wanted.labels, wanted.paths)
        candidates = wanted.k * self._oversample + (but >= 0)
        distances, found = part.search_packed(code[None], candidates)
        away = {
            int(row if rows is None else rows[row]): int(distance)
            for distance, row in zip(distances[0], found[0], strict=True)
            if row >= 0 and distance <= self.index.bits
        }
        away.pop(but, None)
        order: list[tuple[int, float | None]] = [(row, None) for row in away]
        if feature is not None and self.features is not None and away:
            cosines, ordered = rerank(
                np.asarray(feature, np.float32)[None],
                self.features,
                np.array([*away])[None],
                k=wanted.k,
            )
            order = list(zip(ordered[0].tolist(), cosines[0].tolist(), strict=True))
        return [
            {"rank": rank, "distance": away[row], "similarity": similarity}
            | self.image(row)
            for rank, (row, similarity) in enumerate(order[: wanted.k], start=1)
            if row >= 0
        ]

    def search_row(self, row: int, wanted: Wanted) -> list[dict[str, Any]]:
        """The images nearest to an indexed one, but itself; else as `search`."""
        feature = None if self.features is None else self.features[[row]][0]
        return self.search(self._packed[row], wanted, feature=feature, but=row)

    def image(self, row: int) -> dict[str, Any]:
        """`row`, `id` and `labels` of an indexed image."""
        labels = self.index.labels[row] if self.index.labels else ()
        # Names need not be UTF-8, JSON is.
        return {
            "row": row,
            "id": one_line(self.index.ids[row]),
            "labels": list(map(one_line, labels)),
        }

    def picture(self, row: int, side: str) -> bytes:
        """A JPEG of an indexed image, made anew: never the bytes of the file.

        Args:
            row: of the index.
            side: "small", its centre square, or "large", all of it.

        Raises:
            DataError: it is not there any more, cannot be read, or lies outside.
        """
        path = self._path(self.index.ids[row])
        content = image_files(path.parent, [path.name]).encoded(0)
        square = _SIDES[side] if side == "small" else 0
        picture = Image.fromarray(decode(content, name=path.name, size=square))
        picture.thumbnail((_SIDES[side], _SIDES[side]))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=_QUALITY)
        return file.getvalue()

    def duplicates(self, distance: int) -> dict[str, Any]:
        """Groups of images with like codes.

        Args:
            distance: the greatest Hamming distance of two that are alike.

        Returns:
            `groups`, how many there are; `shown`, the largest of them, each of `size`
            and of `images` as in `search`.

        Raises:
            ValueError: `distance` is no distance, or takes too long to wait for.
        """
        return self._groups(distance)

    def _part_of(
        self, labels: tuple[str, ...], paths: tuple[str, ...]
    ) -> tuple[Index, Int64[np.ndarray, "n"] | None]:
        if not labels and not paths:
            return self.index, None
        rows = matching(self.index, labels=labels, paths=paths)
        return among(self.index, rows), rows

    def _groups_of(self, distance: int) -> dict[str, Any]:
        bits = self.index.bits
        if not 0 <= distance < bits:
            raise ValueError(f"distance: found {distance}, accepted is 0 to {bits - 1}")
        pairs = distance and comparisons(self._packed, bits=bits, radius=distance)
        if pairs > _MOST_COMPARISONS:
            raise ValueError(
                f"distance: found {distance}, which takes minutes here, accepted is "
                "less; `ssah duplicates` has no such limit"
            )
        found = groups(self._packed, bits=bits, radius=distance)
        largest = sorted(found, key=len, reverse=True)[:MOST_GROUPS]
        return {
            "groups": len(found),
            "shown": [
                {"size": len(rows), "images": self._members(rows[:MOST_GROUPS])}
                for rows in largest
            ],
        }

    def _members(self, rows: Int64[np.ndarray, "n"]) -> list[dict[str, Any]]:
        away = distances_to(self._packed[rows[0]], self._packed[rows])
        return [
            {"rank": rank, "distance": distance, "similarity": None} | self.image(row)
            for rank, (row, distance) in enumerate(
                zip(rows.tolist(), away.tolist(), strict=True), start=1
            )
        ]

    def _path(self, name: str) -> Path:
        if self._root is None:
            return Path(name)
        path, root = os.path.realpath(self._root / name), os.path.realpath(self._root)
        if os.path.commonpath([root, path]) != root:
            raise DataError(f"{one_line(name)}: lies outside the folder of the images")
        return Path(path)
