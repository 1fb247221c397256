"""The rows of a table of images and labels, in text or Parquet."""

import ast
import codecs
import csv
import io
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from ssah_jax.data.formats import image_suffixes
from ssah_jax.data.listing import read_bytes
from ssah_jax.data.source import DataError
from ssah_jax.retrieval.files import one_line

_DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
SUFFIXES: Final = (*_DELIMITERS, ".parquet")
_REQUIRED: Final = ("path", "labels")
_OPTIONAL: Final = ("part",)
_OTHER_DELIMITERS: Final = (",", ";", "\t", "|")
_LIKE: Final = {
    "path": (
        *("file", "filename", "file_name", "filepath", "file_path", "image", "img"),
        *("image_path", "image_name", "name", "id", "image_id", "paths"),
    ),
    "labels": (
        *("label", "tags", "tag", "class", "classes", "category", "categories"),
        *("target", "targets", "class_name", "label_name"),
    ),
    "part": ("split", "set", "subset", "fold", "partition"),
}
_ARROW_TEXT: Final = ("string", "large_string", "string_view", "null")


class Row(NamedTuple):
    """A row, as it was written.

    Attributes:
        where: how messages call it.
        path: of the image; may be empty.
        tags: different ones.
        part: a word, or empty.
        cell: the tags as written, where they are text.
    """

    where: str
    path: str
    tags: Sequence[str]
    part: str
    cell: str = ""


def as_tags(words: Iterable[str]) -> tuple[str, ...]:
    """Each tag once, in order, without blanks around it."""
    return tuple(dict.fromkeys(filter(None, map(str.strip, words))))


def _check_columns(
    found: Sequence[str], where: str, columns: Sequence[str], *, text: bool = False
) -> None:
    for column in columns:
        count = found.count(column)
        if count > 1 or (not count and column in _REQUIRED):
            names = ", ".join(map(repr, found)) or "none"
            hint = ""
            if text and any(name.endswith(image_suffixes()) for name in found):
                hint = "; the first line is of an image: put a line path,labels above"
            elif other := [name for name in found if name.casefold() in _LIKE[column]]:
                hint = f"; call {other[0]!r} {column}"
            raise DataError(
                f"{where}: found {count or 'no'} columns {column!r} (columns: {names})"
                f", expected {_expected(columns)}{hint}"
            )


def _expected(columns: Sequence[str]) -> str:
    if len(columns) == 1:
        return f"one {columns[0]}"
    return f"one each of {' and '.join(_REQUIRED)}, and perhaps part"


def _split(cell: str, separator: str) -> Sequence[str]:
    """The tags of a cell, which may also be a list as Python and JSON write it."""
    if cell[:1] == "[" and cell[-1:] == "]" and separator not in cell:
        try:
            words = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return cell.split(separator)


def read_rows(
    table: pathlib.Path, separator: str, notes: list[str], *, labelled: bool = True
) -> Iterator[Row]:
    """The rows of a table.

    Args:
        table: its file, whose suffix says of what kind.
        separator: between tags.
        notes: takes what was understood otherwise than it was spelled.
        labelled: whether other columns than `path` are read.

    Raises:
        DataError: it cannot be read, or has no such columns.
    """
    suffix = table.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{one_line(table)}: found the suffix {one_line(suffix)!r}, "
            f"accepted are {', '.join(SUFFIXES)}"
        )
    columns = (*_REQUIRED, *_OPTIONAL) if labelled else ("path",)
    if suffix == ".parquet":
        return _read_parquet(table, separator, columns)
    return _read_text(table, separator, _DELIMITERS[suffix], notes, columns)


def _read_text(
    table: pathlib.Path,
    separator: str,
    delimiter: str,
    notes: list[str],
    columns: Sequence[str],
) -> Iterator[Row]:
    where = one_line(table)
    text, encoding = decode_text(read_bytes(table), where)
    if encoding != "UTF-8":
        notes.append(f"text in {encoding}")
    text, first_line, delimiter = _delimiter(text, delimiter, notes, columns)
    records = _records(text, where, delimiter, first_line)
    _, first = next(records, ("", []))
    header = [name.strip() for name in first]
    folded = [name.casefold() for name in header]
    _check_columns(folded if folded != header else header, where, columns, text=True)
    header = folded
    longer = 0
    for place, cells in records:
        if len(cells) > len(header) and not any(map(str.strip, cells[len(header) :])):
            cells, longer = cells[: len(header)], longer + 1
        if len(cells) != len(header):
            more = len(cells) > len(header)
            hint = (
                f"; a value with {_named(delimiter)} in it needs double quotes"
                if more
                else "; an empty cell still needs its delimiter"
            )
            raise DataError(
                f"{place}: found {len(cells)} cells, expected {len(header)}, one for "
                f"each column of the first line{hint}"
            )
        row = dict(zip(header, map(str.strip, cells), strict=True))
        path, cell, part = (
            row.get(name, "") if name in columns else ""
            for name in ("path", "labels", "part")
        )
        yield Row(place, path, as_tags(_split(cell, separator)), part, cell)
    if longer:
        notes.append(f"{longer:,} rows with empty cells beyond the last column")


def decode_text(content: bytes, where: str) -> tuple[str, str]:
    """The text of a file in UTF-8 or UTF-16, and which of them, without a mark of it.

    Raises:
        DataError: it is neither; one line that says where and what to do.
    """
    encodings = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
    encoding = encodings.get(content[:2])
    # Without a mark: text of mostly ASCII letters has a null in every second byte.
    if encoding is None and content[:1] and content[1:4:2] == b"\0\0":
        encoding = "utf-16-le"
    elif encoding is None and content[:3:2] == b"\0\0" and len(content) > 3:
        encoding = "utf-16-be"
    if encoding is not None:
        try:
            return content.decode(encoding).removeprefix("\ufeff"), "UTF-16"
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where}: found damaged UTF-16 text ({error.reason} at offset "
                f"{error.start}), expected text; save it as UTF-8"
            ) from error
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode(), "UTF-8"
    except UnicodeDecodeError as error:
        bom = content.startswith(codecs.BOM_UTF8)
        offset = error.start + (len(codecs.BOM_UTF8) if bom else 0)
        line = content.count(b"\n", 0, offset) + 1
        raise DataError(
            f"{where}:{line}: found the byte {content[offset]:#04x} at offset {offset} "
            "of the file, expected UTF-8 text; save it as UTF-8 (in Excel: CSV UTF-8)"
        ) from error


def _delimiter(
    text: str, usual: str, notes: list[str], columns: Sequence[str]
) -> tuple[str, int, str]:
    """The text without Excel's `sep=`, the number of its first line, the delimiter."""
    number, required = 1, set(columns) & set(_REQUIRED)
    declared = re.match(r"\ufeff?\"?sep=(.)\"?[^\S\r\n]*\r?\n?", text, re.IGNORECASE)
    if declared:
        text, number, usual = text[declared.end() :], 2, declared[1]
        notes.append(f"a first line sep={usual}")
        return text, number, usual
    first = next(csv.reader(text.splitlines()[:1], delimiter=usual), [])
    if not required <= set(map(_name, first)):
        for other in filter(lambda other: other != usual, _OTHER_DELIMITERS):
            cells = next(csv.reader(text.splitlines()[:1], delimiter=other), [])
            if required <= set(map(_name, cells)):
                notes.append(f"{_named(other)} for {_named(usual)} between columns")
                return text, number, other
    return text, number, usual


def _name(cell: str) -> str:
    return cell.strip().casefold()


def _named(delimiter: str) -> str:
    return {"\t": "a tab", ",": "a comma", ";": "a semicolon"}.get(
        delimiter, repr(delimiter)
    )


def _records(
    text: str, where: str, delimiter: str, first_line: int
) -> Iterator[tuple[str, list[str]]]:
    """The records of a text table that are not empty, each with its place."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + first_line
        place = f"{where}:{line}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            last = reader.line_num + first_line - 1
            hint = (
                f"; a double quote in line {line} closes only in line {last} or never"
                if last > line
                else ""
            )
            raise DataError(
                f"{place}: found a row that cannot be parsed ({error}), expected cells "
                f"with double quotes in pairs, if any{hint}"
            ) from error
        if cells is None:
            return
        if any(map(str.strip, cells)):
            yield place, cells


def _read_parquet(
    table: pathlib.Path, separator: str, wanted: Sequence[str]
) -> Iterator[Row]:
    # Here, because it is slow to import and other tables do not need it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = one_line(table)
    try:
        with open(table, "rb") as file:
            parquet = pq.ParquetFile(file)
            names = parquet.schema_arrow.names
            _check_columns(names, where, wanted)
            columns = parquet.read([name for name in wanted if name in names])
        cells: dict[str, list[Any]] = columns.to_pydict()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise DataError(
            f"{where}: found no table that can be read ({one_line(reason)}), "
            "expected a Parquet file"
        ) from error
    for name in cells:
        kind = columns.schema.field(name).type
        if not _is_text(kind, or_lists=name == "labels"):
            accepted = "strings or lists of strings" if name == "labels" else "strings"
            raise DataError(
                f"{where}: found {one_line(str(kind))} in column {name!r}, expected "
                f"{accepted}"
            )
    rest = (cells.get(name) or [None] * len(columns) for name in ("labels", "part"))
    rows = zip(cells["path"], *rest, strict=True)
    for number, (path, labels, part) in enumerate(rows, start=1):
        cell = labels.strip() if isinstance(labels, str) else ""
        words = _split(cell, separator) if cell else labels or ()
        tags = as_tags(word or "" for word in words)
        place = f"{where} row {number}"
        yield Row(place, (path or "").strip(), tags, (part or "").strip(), cell)


def _is_text(kind: Any, *, or_lists: bool) -> bool:
    """Whether an Arrow type is one of strings, encoded as a dictionary or not."""
    if "list<" in str(kind) and not or_lists:
        return False
    # A column without any value may be of nulls.
    return str(getattr(kind, "value_type", kind)) in _ARROW_TEXT
