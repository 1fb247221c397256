"""The lines of a list: paths, and labels behind them."""

import codecs
import dataclasses
import functools
import pathlib
import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import UInt8

from ssah_jax.data.formats import image_suffixes
from ssah_jax.data.listing import read_bytes
from ssah_jax.data.source import DataError
from ssah_jax.data.table_rows import decode_text
from ssah_jax.retrieval.files import one_line

_BITS: Final = (b"0", b"1")
_LABEL_ENDS: Final = tuple(space + bit for space in (b" ", b"\t") for bit in _BITS)


@dataclasses.dataclass(frozen=True, eq=False)
class Text:
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
        return one_line(self.file)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageList:
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
        return f"{one_line(self.file)}:{self.numbers[row]}"


def read_lines(file: pathlib.Path) -> Text:
    """The lines of a list that are not empty."""
    numbers, lines = [], []
    content = read_bytes(file)
    is_utf16 = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if is_utf16:
        text, _ = decode_text(content, one_line(file))
        content = text.encode("utf-8", "surrogatepass")
    content = content.removeprefix(codecs.BOM_UTF8)
    for number, line in enumerate(map(bytes.strip, content.splitlines()), start=1):
        if line:
            numbers.append(number)
            lines.append(line)
    if not lines:
        raise DataError(
            f"{one_line(file)}: found no lines, expected one for each image"
        )
    return Text(file, numbers, lines, is_utf16)


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


def class_numbers(texts: Sequence[Text]) -> list[int]:
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
                    f"{text.where}:{number}: found {one_line(_path(line[-40:]))!r}, "
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


def read_numbers(text: Text, numbers: Sequence[int]) -> ImageList:
    """The images of lines that are a path and the number of a class each."""
    paths, column = [], {number: place for place, number in enumerate(numbers)}
    labels = np.zeros((len(text.lines), len(numbers)), np.uint8)
    for row, line in enumerate(text.lines):
        path, word = line.rsplit(None, 1)
        paths.append(_path(path))
        labels[row, column[int(word)]] = 1
    return ImageList(text.file, text.numbers, paths, labels)


def count_classes(text: Text) -> int:
    """C, by the first line of a list."""
    words = _label_words(text.lines[0])
    where = f"{text.where}:{text.numbers[0]}"
    _check_bits(words, where)
    if len(words) < 2:
        joined = re.search(rb"[,;][\s,;]*[01]$", text.lines[0])
        hint = f"; found {_path(joined[0][:1])!r} where blanks stand" if joined else ""
        raise DataError(
            f"{where}: found {len(words)} labels, expected at least 2: a path, then 0 "
            f"or 1 for each class, or one number, its class{hint}"
        )
    return len(words)


def _check_bits(words: Sequence[bytes], where: str) -> None:
    for word in words:
        if word not in _BITS:
            hint = ", or a table with the columns path and labels for names of classes"
            raise DataError(
                f"{where}: found the label {_path(word)!r}, expected 0 or 1"
                f"{hint if word.isalpha() and len(word) > 1 else ''}"
            )


def read_unlabelled(text: Text, num_classes: int) -> ImageList:
    """The images of lines that are a path each."""
    labels = np.zeros((len(text.lines), num_classes), np.uint8)
    return ImageList(
        text.file, text.numbers, [_path(line) for line in text.lines], labels
    )


def read_labelled(text: Text, num_classes: int, *, first: str) -> ImageList:
    """The images of lines that are a path, and 0 or 1 for each class.

    Args:
        text: the lines.
        num_classes: C.
        first: how messages call the list that tells how many classes there are.

    Raises:
        DataError: a line has other labels.
    """
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
    return ImageList(text.file, text.numbers, paths, labels)


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
