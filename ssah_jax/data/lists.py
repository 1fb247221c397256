"""A user's own images, in the lists of HashNet, DeepHash-pytorch and CSQ.

Source of the format: `data/` of https://github.com/thuml/HashNet,
https://github.com/swuxyj/DeepHash-pytorch and
https://github.com/yuanli2333/Hadamard-Matrix-for-hashing.
"""

import codecs
import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from ssah_jax.data.images import Resize, image_suffixes, printable
from ssah_jax.data.listing import UNLABELLED, image_root, listed_source, read_bytes
from ssah_jax.data.source import DataError, Source
from ssah_jax.data.table import decode_text

_LABELLED: Final = ("train", "test", "database")
_UNLABELLED: Final = UNLABELLED
_BITS: Final = (b"0", b"1")
_LABEL_ENDS: Final = tuple(space + bit for space in (b" ", b"\t") for bit in _BITS)


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
    texts = {part: _read_lines(file) for part, file in files.items()}
    labelled = [text for part, text in texts.items() if part != _UNLABELLED]
    numbers = _class_numbers(labelled)
    num_classes = len(numbers) if numbers else _num_classes(labelled[0])
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
            _read_unlabelled(text, num_classes)
            if part == _UNLABELLED
            else _read_numbers(text, numbers)
            if numbers
            else _read_labelled(text, num_classes, first=labelled[0].where)
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
        where=printable(str(directory)),
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


@dataclasses.dataclass(frozen=True, eq=False)
class _Text:
    """The lines of a file that are not empty, without blanks around them.

    Attributes:
        file: where they are.
        numbers: of the lines, from 1 on.
        lines: as bytes in UTF-8, or in what the file has.
        is_utf16: whether the file was in UTF-16.
    """

    file: pathlib.Path
    numbers: Sequence[int]
    lines: Sequence[bytes]
    is_utf16: bool

    @property
    def where(self) -> str:
        """How messages call the file."""
        return printable(str(self.file))


@dataclasses.dataclass(frozen=True, eq=False)
class _List:
    """One list.

    Attributes:
        file: where it is.
        numbers: of the lines, n of them, from 1 on.
        paths: the image of each.
        labels: of each, in {0, 1}, `[n, C]`; zero where they are not known.
    """

    file: pathlib.Path
    numbers: Sequence[int]
    paths: Sequence[str]
    labels: UInt8[np.ndarray, "n C"]

    def row_of(self, path: str) -> int | None:
        """The row of an image, if it is listed here."""
        return self.paths.index(path) if path in self._members else None

    @functools.cached_property
    def _members(self) -> frozenset[str]:
        return frozenset(self.paths)

    def at(self, row: int) -> str:
        """How messages call a line."""
        return f"{printable(str(self.file))}:{self.numbers[row]}"


class _Pool:
    """The images of several lists, each once."""

    def __init__(self, num_classes: int) -> None:
        self._index_of: dict[str, int] = {}
        self._labels = [np.zeros((0, num_classes), np.uint8)]
        self._lists: list[_List] = []
        # Where an image was first seen: which list, and which row of it.
        self._origins = [np.zeros((0, 2), np.int64)]

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

    def add(self, added: _List) -> Int64[np.ndarray, "n"]:
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
        new = indices >= size
        self._labels.append(added.labels[new])
        number = np.full(int(new.sum()), len(self._lists))
        self._origins.append(np.stack([number, rows[new]], axis=1))
        self._lists.append(added)
        return order

    def _check_known(
        self,
        added: _List,
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
        number, earlier = np.concatenate(self._origins)[indices[row]].tolist()
        origin = self._lists[number].at(earlier)
        if unlabelled:
            raise DataError(
                f"{added.at(row)}: found {added.paths[row]!r} as in {origin}, expected "
                "only images without labels"
            )
        column = int(np.flatnonzero(differs[wrong[0]])[0])
        raise DataError(
            f"{added.at(row)}: found {added.paths[row]!r} with other labels than in "
            f"{origin} (the first that differs is number {column + 1}), expected the "
            "same labels in all lists"
        )


def _find_lists(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """The lists that are there, by part."""
    where = printable(str(directory))
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


def _read_lines(file: pathlib.Path) -> _Text:
    """The lines of a list that are not empty."""
    numbers, lines = [], []
    content = read_bytes(file)
    is_utf16 = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if is_utf16:
        text, _ = decode_text(content, printable(str(file)))
        content = text.encode("utf-8", "surrogatepass")
    content = content.removeprefix(codecs.BOM_UTF8)
    for number, line in enumerate(map(bytes.strip, content.splitlines()), start=1):
        if line:
            numbers.append(number)
            lines.append(line)
    if not lines:
        raise DataError(
            f"{printable(str(file))}: found no lines, expected one for each image"
        )
    return _Text(file, numbers, lines, is_utf16)


def _path(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _label_words(line: bytes) -> list[bytes]:
    """What looks like the labels of a line: there may be none, and wrong ones."""
    words = line.split()
    suffixes = tuple(suffix.encode() for suffix in image_suffixes())
    for index in reversed(range(len(words))):
        if words[index].lower().endswith(suffixes):
            return words[index + 1 :]
    start = len(words)
    while start > 1 and words[start - 1] in _BITS:
        start -= 1
    return words[start:]


def _class_numbers(texts: Sequence[_Text]) -> list[int]:
    """The class numbers that occur, sorted, where lines are a path and one; else []."""
    first = _label_words(texts[0].lines[0])
    if len(first) != 1 or not first[0].isdigit():
        return []
    found = set()
    for text in texts:
        for number, line in zip(text.numbers, text.lines, strict=True):
            path, _, word = line.replace(b"\t", b" ").rpartition(b" ")
            if not path.strip() or not word.isdigit():
                raise DataError(
                    f"{text.where}:{number}: found {printable(_path(line[-40:]))!r}, "
                    "expected a path and the number of a class, as in the first line "
                    f"of {texts[0].where}"
                )
            found.add(int(word))
    if len(found) < 2:
        raise DataError(
            f"{texts[0].where}: found the class {found.pop()} alone behind all paths, "
            "expected at least 2 classes: a path, then its class's number, or 0 or 1 "
            "for each class"
        )
    return sorted(found)


def _read_numbers(text: _Text, numbers: Sequence[int]) -> _List:
    paths, column = [], {number: place for place, number in enumerate(numbers)}
    labels = np.zeros((len(text.lines), len(numbers)), np.uint8)
    for row, line in enumerate(text.lines):
        path, word = line.rsplit(None, 1)
        paths.append(_path(path))
        labels[row, column[int(word)]] = 1
    return _List(text.file, text.numbers, paths, labels)


def _num_classes(text: _Text) -> int:
    """C, by the first line of a list."""
    words = _label_words(text.lines[0])
    where = f"{text.where}:{text.numbers[0]}"
    _check_bits(words, where)
    if len(words) < 2:
        raise DataError(
            f"{where}: found {len(words)} labels, expected at least 2: a path, then 0 "
            "or 1 for each class, or one number, its class"
        )
    return len(words)


def _check_bits(words: Sequence[bytes], where: str) -> None:
    for word in words:
        if word not in _BITS:
            raise DataError(
                f"{where}: found the label {_path(word)!r}, expected 0 or 1"
            )


def _read_unlabelled(text: _Text, num_classes: int) -> _List:
    labels = np.zeros((len(text.lines), num_classes), np.uint8)
    return _List(text.file, text.numbers, [_path(line) for line in text.lines], labels)


def _read_labelled(text: _Text, num_classes: int, *, first: str) -> _List:
    lines = text.lines
    # Nearly every line ends in C times a blank and a digit. All of these are looked at
    # together, because there may be tens of millions.
    width = 2 * num_classes
    ends = b"".join(line[-width:].rjust(width) for line in lines)
    pairs = np.frombuffer(ends, np.uint8).reshape(len(lines), num_classes, 2)
    labels = pairs[:, :, 1] - np.uint8(ord("0"))
    blank = (pairs[:, :, 0] == ord(" ")) | (pairs[:, :, 0] == ord("\t"))
    regular = np.all(blank & (labels <= 1), axis=1)
    paths = []
    for row, line in enumerate(lines):
        path = line[:-width].rstrip()
        if not path or path.endswith(_LABEL_ENDS) or not regular[row]:
            where = f"{text.where}:{text.numbers[row]}"
            path, labels[row] = _parse_line(line, num_classes, where, first)
        paths.append(_path(path))
    return _List(text.file, text.numbers, paths, labels)


def _parse_line(
    line: bytes, num_classes: int, where: str, first: str
) -> tuple[bytes, list[int]]:
    """The path and the labels of one line, by the definition of the format."""
    *path, before = line.split()[:-num_classes] or [b""]
    labels = line.split()[-num_classes:]
    if (
        before
        and all(label in _BITS for label in labels)
        and (not path or before not in _BITS)
    ):
        return line.rsplit(None, num_classes)[0], [int(label) for label in labels]
    words = _label_words(line)
    _check_bits(words, where)
    raise DataError(
        f"{where}: found {len(words)} labels, expected {num_classes} as in the first "
        f"line of {first}"
    )
