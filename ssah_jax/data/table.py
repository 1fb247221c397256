"""A user's own images, in a table of paths and tags."""

import ast
import codecs
import csv
import io
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float32

from ssah_jax.data.images import Resize, image_suffixes, printable
from ssah_jax.data.listing import UNLABELLED, image_root, listed_source, read_bytes
from ssah_jax.data.naming import check_different, part_of
from ssah_jax.data.source import DataError, Source

_DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
_SUFFIXES: Final = (*_DELIMITERS, ".parquet")
_REQUIRED: Final = ("path", "labels")
_OPTIONAL: Final = ("part",)
_UNLABELLED: Final = UNLABELLED
_PARTS: Final = ("train", "test", "validation", "database", _UNLABELLED)
_OTHER_DELIMITERS: Final = (",", ";", "\t", "|")
_SEPARATORS: Final = (",", ";", "|", "/", "&", "+", ":", "\n", "\t", " ")
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


def image_table(
    table: str | pathlib.Path,
    *,
    images: str = "",
    separator: str = "|",
    size: int = 0,
    resize: Resize = "crop",
    channels: int = 3,
    multi_label: bool | None = None,
    max_missing: float = 0.0,
) -> Source:
    """Images of a table with the columns `path`, `labels` and perhaps `part`.

    `labels` holds tags joined by `separator`; an image without any is one whose labels
    nobody knows, and is in part `unlabelled`. `part` is `train`, `test`, `validation`,
    `database` or `unlabelled`, or another word for them (see `naming.part_of`); without
    that column, or where it is empty in all rows with labels, these are in part `all`.
    Blanks around cells and tags do not count. Other columns are not read. A file by
    several paths is one image.

    Args:
        table: a .csv file (with commas and double quotes), a .tsv file (with tabs) or
            a .parquet file, where `labels` may also be a list of strings. Text is in
            UTF-8 or UTF-16; another delimiter is taken where the names of the columns
            show it, or Excel's first line `sep=;`. Case does not matter in these names.
        images: the folder that paths are relative to, itself relative to that of the
            table; empty for that of the table. Paths may be absolute.
        separator: between tags; lists are not split.
        size: side of the square images delivered, in pixels; 0 as stored.
        resize: how an image becomes square.
        channels: 3 for colour, 1 for grey.
        multi_label: whether an image may show several classes; None where a row that
            does is to tell.
        max_missing: share of the images that may be absent, in [0, 1].

    Returns:
        A source whose pool is in the order of the table, and whose classes are all
        tags, sorted.

    Raises:
        DataError: the table cannot be read, or a row says something else than above,
            repeats a path or has several tags where `multi_label` is False; there are
            fewer than two classes, or some that differ only in upper and lower case;
            tags are plainly separated by something else; too many images are absent.
        ValueError: `separator` is empty.
    """
    if not separator:
        raise ValueError("separator: found none, expected what stands between labels")
    table = pathlib.Path(table)
    where = printable(str(table))
    notes: list[str] = []
    rows = list(_checked(_read(table, separator, notes), where))
    _check_separator(rows, separator, where)
    root = image_root(table.parent, images)
    class_names = sorted({tag for row in rows for tag in row.tags})
    if len(class_names) < 2:
        raise DataError(
            f"{where}: found {len(class_names)} classes in {len(rows)} rows, expected "
            "at least 2 in column 'labels'"
        )
    check_different(class_names, where=f"{where} column 'labels'")
    several = [row for row in rows if len(row.tags) > 1]
    if several and multi_label is False:
        raise DataError(
            f"{several[0].where}: found the labels {', '.join(several[0].tags)}, "
            "expected one label (or multi_label=True)"
        )
    return listed_source(
        "table",
        root=root,
        files=tuple(row.path for row in rows),
        labels=_multi_hot([row.tags for row in rows], class_names),
        parts=_parts(rows),
        class_names=class_names,
        multi_label=bool(several) if multi_label is None else multi_label,
        max_missing=max_missing,
        where=where,
        size=size,
        resize=resize,
        channels=channels,
        place=lambda index: rows[index].where,
        notes=notes,
    )


def read_tags(
    table: str | pathlib.Path, *, separator: str = "|"
) -> list[tuple[str, tuple[str, ...]]]:
    """Paths and tags of a table, whether their files are there or not.

    Args:
        table: as `image_table` takes it.
        separator: between tags.

    Returns:
        The rows that have tags, in the order of the table.

    Raises:
        DataError: the table cannot be read, a row says something else, or tags are
            plainly separated by something else.
    """
    table = pathlib.Path(table)
    where = printable(str(table))
    rows = list(_checked(_read(table, separator, []), where))
    _check_separator(rows, separator, where)
    return [(row.path, tuple(row.tags)) for row in rows if row.tags]


class _Row(NamedTuple):
    where: str  # how messages call it
    path: str
    tags: Sequence[str]  # different ones
    part: str
    cell: str = ""  # the tags as written, where they are text


def _checked(rows: Iterable[_Row], where: str) -> Iterator[_Row]:
    """`rows`, each of which alone or with earlier ones makes sense, with their part."""
    first: dict[str, str] = {}
    labelled: dict[str, str] = {}
    for row in rows:
        if not row.path:
            raise DataError(f"{row.where}: found an empty path, expected an image")
        if first.setdefault(row.path, row.where) != row.where:
            raise DataError(
                f"{row.where}: found {row.path!r} as in {first[row.path]}, expected "
                "each image once"
            )
        part = _part(row)
        if part != _UNLABELLED:
            labelled.setdefault(part, row.where)
            # Protocols that ask for parts would never see such an image.
            if "all" in labelled and len(labelled) > 1:
                named = next(name for name in labelled if name != "all")
                raise DataError(
                    f"{labelled['all']}: found an empty part, but {named!r} in "
                    f"{labelled[named]}, expected a part for all labelled images or "
                    "for none"
                )
        yield row._replace(part=part)
    if not first:
        raise DataError(f"{where}: found no rows, expected one for each image")


def _part(row: _Row) -> str:
    part = (part_of(row.part) or row.part) if row.part else ""
    if part and part not in _PARTS:
        raise DataError(
            f"{row.where}: found the part {part!r}, accepted are {', '.join(_PARTS)} "
            "or nothing"
        )
    if row.tags and part == _UNLABELLED:
        raise DataError(
            f"{row.where}: found the labels {', '.join(row.tags)} in part unlabelled, "
            "expected none"
        )
    if not row.tags and part in ("test", "validation", "database"):
        raise DataError(
            f"{row.where}: found no labels in part {part}, expected at least one"
        )
    return part or "all" if row.tags else _UNLABELLED


def _parts(rows: Sequence[_Row]) -> dict[str, np.ndarray]:
    parts = np.array([row.part for row in rows])
    return {
        part: np.flatnonzero(parts == part).astype(np.int64)
        for part in ("all", *_PARTS)
        if np.any(parts == part)
    }


def _multi_hot(
    tags: Sequence[Sequence[str]], class_names: Sequence[str]
) -> Float32[np.ndarray, "N C"]:
    column = {name: index for index, name in enumerate(class_names)}
    labels = np.zeros((len(tags), len(class_names)), np.float32)
    rows = np.repeat(np.arange(len(tags)), [len(of_row) for of_row in tags])
    labels[rows, [column[tag] for of_row in tags for tag in of_row]] = 1
    return labels


def _tags(words: Iterable[str]) -> tuple[str, ...]:
    """Each tag once, in order, without blanks around it."""
    return tuple(dict.fromkeys(filter(None, map(str.strip, words))))


def _check_columns(found: Sequence[str], where: str, *, text: bool = False) -> None:
    for column in (*_REQUIRED, *_OPTIONAL):
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
                f", expected one each of {' and '.join(_REQUIRED)}, and perhaps part"
                f"{hint}"
            )


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


def _check_separator(rows: Sequence[_Row], separator: str, where: str) -> None:
    """Refuses cells that another separator takes apart, where nobody uses this one.

    Another one it is where it leaves no more tags than there are different cells, and
    some of them also stand alone: `sea` and `sand` of `sea,sand` and `sea`. `Paris,
    France` beside `Rome, Italy` are names with a comma.
    """
    cells = [row.cell for row in rows if row.cell and row.cell[0] != "["]
    if not cells or any(separator in cell for cell in cells):
        return
    different = set(cells)
    for other in _SEPARATORS:
        using = [cell for cell in cells if len(_tags(cell.split(other))) > 1]
        if not using:
            continue
        alone = {cell for cell in different if other not in cell}
        tags = {tag for cell in different for tag in _tags(cell.split(other))}
        # Words of names repeat too (red cat, red dog), so blanks need more than that.
        many = 2 * len(tags) <= len(different)
        some = len(tags) <= len(different) and bool(alone & tags)
        if (many and some) if other == " " else (many or some):
            raise DataError(
                f"{where}: found {printable(using[0])!r} and no {separator!r} in any "
                f"cell of 'labels', but {other!r} in {len(using)} of {len(cells)}, "
                f"expected {separator!r} between tags; data.separator={other!r} makes "
                f"{len(tags)} classes instead of {len(different)}"
            )


def _read(table: pathlib.Path, separator: str, notes: list[str]) -> Iterator[_Row]:
    suffix = table.suffix.lower()
    if suffix not in _SUFFIXES:
        raise DataError(
            f"{printable(str(table))}: found the suffix {printable(suffix)!r}, "
            f"accepted are {', '.join(_SUFFIXES)}"
        )
    if suffix == ".parquet":
        return _read_parquet(table, separator)
    return _read_text(table, separator, _DELIMITERS[suffix], notes)


def _read_text(
    table: pathlib.Path, separator: str, delimiter: str, notes: list[str]
) -> Iterator[_Row]:
    where = printable(str(table))
    text, encoding = decode_text(read_bytes(table), where)
    if encoding != "UTF-8":
        notes.append(f"text in {encoding}")
    text, first_line, delimiter = _delimiter(text, delimiter, notes)
    records = _records(text, where, delimiter, first_line)
    _, first = next(records, ("", []))
    header = [name.strip() for name in first]
    folded = [name.casefold() for name in header]
    _check_columns(folded if folded != header else header, where, text=True)
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
        yield _Row(
            place,
            row["path"],
            _tags(_split(row["labels"], separator)),
            row.get("part", ""),
            row["labels"],
        )
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


def _delimiter(text: str, usual: str, notes: list[str]) -> tuple[str, int, str]:
    """The text without Excel's `sep=`, the number of its first line, the delimiter."""
    number = 1
    declared = re.match(r"\ufeff?\"?sep=(.)\"?[^\S\r\n]*\r?\n?", text, re.IGNORECASE)
    if declared:
        text, number, usual = text[declared.end() :], 2, declared[1]
        notes.append(f"a first line sep={usual}")
        return text, number, usual
    first = next(csv.reader(text.splitlines()[:1], delimiter=usual), [])
    if len(set(map(_name, first)) & set(_REQUIRED)) < len(_REQUIRED):
        for other in filter(lambda other: other != usual, _OTHER_DELIMITERS):
            cells = next(csv.reader(text.splitlines()[:1], delimiter=other), [])
            if set(_REQUIRED) <= set(map(_name, cells)):
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


def _read_parquet(table: pathlib.Path, separator: str) -> Iterator[_Row]:
    # Here, because it is slow to import and other tables do not need it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = printable(str(table))
    try:
        with open(table, "rb") as file:
            parquet = pq.ParquetFile(file)
            names = parquet.schema_arrow.names
            _check_columns(names, where)
            columns = parquet.read(
                [name for name in (*_REQUIRED, *_OPTIONAL) if name in names]
            )
        cells: dict[str, list[Any]] = columns.to_pydict()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise DataError(
            f"{where}: found no table that can be read ({printable(reason)}), "
            "expected a Parquet file"
        ) from error
    for name in cells:
        kind = columns.schema.field(name).type
        if not _is_text(kind, or_lists=name == "labels"):
            accepted = "strings or lists of strings" if name == "labels" else "strings"
            raise DataError(
                f"{where}: found {printable(str(kind))} in column {name!r}, expected "
                f"{accepted}"
            )
    parts = cells.get("part") or [None] * len(columns)
    rows = zip(cells["path"], cells["labels"], parts, strict=True)
    for number, (path, labels, part) in enumerate(rows, start=1):
        cell = labels.strip() if isinstance(labels, str) else ""
        words = _split(cell, separator) if cell else labels or ()
        tags = _tags(word or "" for word in words)
        place = f"{where} row {number}"
        yield _Row(place, (path or "").strip(), tags, (part or "").strip(), cell)


def _is_text(kind: Any, *, or_lists: bool) -> bool:
    """Whether an Arrow type is one of strings, encoded as a dictionary or not."""
    if "list<" in str(kind) and not or_lists:
        return False
    # A column without any value may be of nulls.
    return str(getattr(kind, "value_type", kind)) in _ARROW_TEXT
