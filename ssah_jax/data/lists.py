"""A user's own images, in the lists of HashNet, DeepHash-pytorch and CSQ.

Source of the format: `data/` of https://github.com/thuml/HashNet,
https://github.com/swuxyj/DeepHash-pytorch and
https://github.com/yuanli2333/Hadamard-Matrix-for-hashing.
"""

import pathlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from ssah_jax.data.images import Resize
from ssah_jax.data.list_lines import (
    ImageList,
    class_numbers,
    count_classes,
    read_labelled,
    read_lines,
    read_numbers,
    read_unlabelled,
)
from ssah_jax.data.listing import UNLABELLED, image_root, listed_source
from ssah_jax.data.source import DataError, Source
from ssah_jax.retrieval.files import one_line

_LABELLED: Final = ("train", "test", "database")
_UNLABELLED: Final = UNLABELLED


def image_lists(
    directory: str | pathlib.Path,
    *,
    images: str = "",
    size: int = 0,
    resize: Resize = "crop",
    channels: int = 3,
    max_missing: float = 0.0,
    class_names: Sequence[str] | None = None,
    multi_label: bool | None = None,
) -> Source:
    """Images of `train.txt`, `test.txt`, `database.txt`, `unlabelled.txt`.

    At least one of the first three has to be there; most protocols need `train.txt`
    and `test.txt`. A line of these is a path and, behind blanks, 0 or 1 for each class:
    `cats/tom 1.jpg 0 1 0`. How many classes there are is told by the first line of the
    first list: what follows its last word with the suffix of an image, or else all
    the words 0 and 1 at its end; every line must have as many. So a path may hold
    blanks, but not end in a word 0 or 1. Where it is followed by one number, all lines
    are, and it is that of the class: `cats/tom 1.jpg 3`; classes are the numbers that
    occur. A line of `unlabelled.txt` is a path. Empty lines are skipped; paths need not
    be UTF-8, and a list in UTF-16 is read as well.

    An image may be in several lists, but not twice in one. Whether queries are in the
    database is left to the split to check.

    Args:
        directory: the folder of the lists.
        images: the folder that paths are relative to, itself relative to `directory`;
            empty for `directory`.
        size: side of the square images delivered, in pixels; 0 as stored.
        resize: how an image becomes square.
        channels: 3 for colour, 1 for grey.
        max_missing: share of the images that may be absent, in [0, 1].
        class_names: of the classes, in order; their numbers by default.
        multi_label: whether a line may show any number of classes; None where those
            that show several are to tell.

    Returns:
        A source with a part for each list.

    Raises:
        DataError: there is no list, one is damaged or does not fit the others, a line
            shows no class or several where `multi_label` is False (or none where no
            line shows several), or too many images are absent.
        ValueError: `class_names` are not as many as the classes.
    """
    directory = pathlib.Path(directory)
    files = _find_lists(directory)
    root = image_root(directory, images)
    texts = {part: read_lines(file) for part, file in files.items()}
    labelled = [text for part, text in texts.items() if part != _UNLABELLED]
    numbers = class_numbers(labelled)
    num_classes = len(numbers) if numbers else count_classes(labelled[0])
    if class_names is None:
        class_names = [str(n) for n in (numbers or range(num_classes))]
    if len(class_names) != num_classes:
        raise ValueError(
            f"class_names: found {len(class_names)} names, expected {num_classes}, one "
            f"for each label in {labelled[0].where}"
        )
    pool = _Pool(num_classes)
    parts = {
        part: pool.add(
            read_unlabelled(text, num_classes)
            if part == _UNLABELLED
            else read_numbers(text, numbers)
            if numbers
            else read_labelled(text, num_classes, first=labelled[0].where)
        )
        for part, text in texts.items()
    }
    labels = pool.labels
    known = np.ones(len(labels), bool)
    known[parts.get(_UNLABELLED, [])] = False
    multi_label = _decide_multi_label(pool, known, multi_label)
    notes = [f"{text.where} in UTF-16" for text in texts.values() if text.is_utf16]
    if numbers:
        notes.append("numbers behind paths taken for classes")
    return listed_source(
        "list",
        root=root,
        files=pool.paths,
        labels=labels.astype(np.float32),
        parts=parts,
        class_names=class_names,
        multi_label=multi_label,
        max_missing=max_missing,
        where=one_line(directory),
        size=size,
        resize=resize,
        channels=channels,
        place=pool.places,
        notes=notes,
    )


def _decide_multi_label(
    pool: "_Pool", known: Bool[np.ndarray, "N"], asked: bool | None
) -> bool:
    """Whether images may show any number of classes; refuses what does not fit."""
    counts = pool.labels.sum(axis=1, dtype=np.int64)
    several, none = (np.flatnonzero(known & c) for c in (counts > 1, counts == 0))
    if asked or (asked is None and len(several)):
        return True
    if len(several):
        raise DataError(
            f"{pool.places(int(several[0]))}: found {counts[several[0]]} labels (and "
            f"several in {len(several)} lines), expected one label, or "
            "data.multi_label=True"
        )
    if len(none):
        raise DataError(
            f"{pool.places(int(none[0]))}: found no label (in {len(none)} lines of "
            f"{int(known.sum())}, all others have one), expected one: remove these "
            "lines, or move their paths to unlabelled.txt"
        )
    return False


class _Pool:
    """The images of several lists, each once."""

    def __init__(self, num_classes: int) -> None:
        self._index_of: dict[str, int] = {}
        self._labels = [np.zeros((0, num_classes), np.uint8)]
        self._lists: list[ImageList] = []

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self._index_of)

    @property
    def labels(self) -> UInt8[np.ndarray, "N C"]:
        return np.concatenate(self._labels)

    def places(self, index: int) -> str:
        """Where image `index` is listed: each list's name and line."""
        path = self.paths[index]
        found = [
            f"{one.file.name}:{one.numbers[row]}"
            for one in self._lists
            if (row := one.row_of(path)) is not None
        ]
        return ", ".join(found)

    def add(self, added: ImageList) -> Int64[np.ndarray, "n"]:
        """Adds a list; the sorted indices of its images."""
        size = len(self._index_of)
        rows = np.arange(len(added.paths))
        # An argument is evaluated before the call: the length is the next free index.
        indices = np.fromiter(
            (self._index_of.setdefault(p, len(self._index_of)) for p in added.paths),
            np.int64,
            len(rows),
        )
        order, first = np.unique(indices, return_index=True)
        if len(order) < len(rows):
            row = int(np.setdiff1d(rows, first)[0])
            earlier = int(np.flatnonzero(indices == indices[row])[0])
            raise DataError(
                f"{added.at(row)}: found {added.paths[row]!r} as in line "
                f"{added.numbers[earlier]}, expected each image once in a list"
            )
        self._check_known(added, np.flatnonzero(indices < size), indices)
        self._labels.append(added.labels[indices >= size])
        self._lists.append(added)
        return order

    def _check_known(
        self,
        added: ImageList,
        rows: Int64[np.ndarray, "k"],
        indices: Int64[np.ndarray, "n"],
    ) -> None:
        """Refuses images that earlier lists hold and say something else of."""
        differs = added.labels[rows] != self.labels[indices[rows]]
        unlabelled = added.file.stem == _UNLABELLED
        wrong = np.flatnonzero(differs.any(axis=1) | unlabelled)
        if not len(wrong):
            return
        row = int(rows[wrong[0]])
        path = added.paths[row]
        origin = next(
            one.at(there)
            for one in self._lists
            if (there := one.row_of(path)) is not None
        )
        if unlabelled:
            raise DataError(
                f"{added.at(row)}: found {path!r} as in {origin}, expected only images "
                "without labels"
            )
        column = int(np.flatnonzero(differs[wrong[0]])[0])
        raise DataError(
            f"{added.at(row)}: found {path!r} with other labels than in {origin} (the "
            f"first that differs is number {column + 1}), expected the same labels in "
            "all lists"
        )


def _find_lists(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """The lists that are there, by part."""
    where = one_line(directory)
    if not directory.is_dir():
        raise DataError(
            f"{where}: found no such directory, expected that of train.txt and test.txt"
        )
    files = {part: directory / f"{part}.txt" for part in (*_LABELLED, _UNLABELLED)}
    found = {part: file for part, file in files.items() if file.is_file()}
    if not set(found) & set(_LABELLED):
        raise DataError(
            f"{where}: found no train.txt, test.txt or database.txt, expected "
            "train.txt and test.txt, and perhaps database.txt and unlabelled.txt"
        )
    return found
