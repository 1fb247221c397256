"""A user's own images, in a table of paths and tags."""

import csv
import io
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float32

from ssah_jax.data.images import Resize, printable
from ssah_jax.data.listing import image_root, listed_source, read_bytes
from ssah_jax.data.source import DataError, Source

_DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
_SUFFIXES: Final = (*_DELIMITERS, ".parquet")
_REQUIRED: Final = ("path", "labels")
_OPTIONAL: Final = ("part",)
_UNLABELLED: Final = "unlabelled"
_PARTS: Final = ("train", "test", "database", _UNLABELLED)
_BOM: Final = b"\xef\xbb\xbf"
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
    nobody knows, and is in part `unlabelled`. `part` is `train`, `test`, `database` or
    `unlabelled`; without that column, or where it is empty in all rows with labels,
    these are in part `all`. Blanks around cells and tags do not count. Other columns
    are not read.

    Args:
        table: a .csv file (UTF-8, with commas and double quotes), a .tsv file (with
            tabs) or a .parquet file, where `labels` may also be a list of strings.
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
            fewer than two classes; too many images are absent.
        ValueError: `separator` is empty.
    """
    if not separator:
        raise ValueError("separator: found none, expected what stands between labels")
    table = pathlib.Path(table)
    where = printable(str(table))
    rows = list(_checked(_read(table, separator), where))
    root = image_root(table.parent, images)
    class_names = sorted({tag for row in rows for tag in row.tags})
    if len(class_names) < 2:
        raise DataError(
            f"{where}: found {len(class_names)} classes in {len(rows)} rows, expected "
            "at least 2 in column 'labels'"
        )
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
    )


class _Row(NamedTuple):
    where: str  # how messages call it
    path: str
    tags: Sequence[str]  # different ones
    part: str


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
    part = _UNLABELLED if row.part == "unlabeled" else row.part
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
    if not row.tags and part in ("test", "database"):
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


def _check_columns(found: Sequence[str], where: str) -> None:
    for column in (*_REQUIRED, *_OPTIONAL):
        count = found.count(column)
        if count > 1 or (not count and column in _REQUIRED):
            names = ", ".join(map(repr, found)) or "none"
            raise DataError(
                f"{where}: found {count or 'no'} columns {column!r} (columns: {names})"
                f", expected one each of {' and '.join(_REQUIRED)}, and perhaps part"
            )


def _read(table: pathlib.Path, separator: str) -> Iterator[_Row]:
    suffix = table.suffix.lower()
    if suffix not in _SUFFIXES:
        raise DataError(
            f"{printable(str(table))}: found the suffix {printable(suffix)!r}, "
            f"accepted are {', '.join(_SUFFIXES)}"
        )
    if suffix == ".parquet":
        return _read_parquet(table, separator)
    return _read_text(table, separator, _DELIMITERS[suffix])


def _read_text(table: pathlib.Path, separator: str, delimiter: str) -> Iterator[_Row]:
    where = printable(str(table))
    records = _records(read_bytes(table), where, delimiter)
    _, first = next(records, ("", []))
    header = [name.strip() for name in first]
    _check_columns(header, where)
    for place, cells in records:
        if len(cells) != len(header):
            raise DataError(
                f"{place}: found {len(cells)} cells, expected {len(header)}, one for "
                "each column of the first line"
            )
        row = dict(zip(header, map(str.strip, cells), strict=True))
        tags = _tags(row["labels"].split(separator))
        yield _Row(place, row["path"], tags, row.get("part", ""))


def _records(
    content: bytes, where: str, delimiter: str
) -> Iterator[tuple[str, list[str]]]:
    """The records of a text table that are not empty, each with its place."""
    try:
        text = content.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        offset = error.start + (len(_BOM) if content.startswith(_BOM) else 0)
        line = content.count(b"\n", 0, offset) + 1
        raise DataError(
            f"{where}:{line}: found the byte {content[offset]:#04x} at offset {offset} "
            "of the file, expected UTF-8 text"
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        place = f"{where}:{reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{place}: found a row that cannot be parsed ({error}), expected cells "
                "with double quotes in pairs, if any"
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
        words = labels.split(separator) if isinstance(labels, str) else labels or ()
        tags = _tags(word or "" for word in words)
        place = f"{where} row {number}"
        yield _Row(place, (path or "").strip(), tags, (part or "").strip())


def _is_text(kind: Any, *, or_lists: bool) -> bool:
    """Whether an Arrow type is one of strings, encoded as a dictionary or not."""
    if "list<" in str(kind) and not or_lists:
        return False
    # A column without any value may be of nulls.
    return str(getattr(kind, "value_type", kind)) in _ARROW_TEXT
