r"""Ids, labels and stamps as columns of Arrow: what of a row is text or may be unknown.

Parquet strings are UTF-8, names of files need not be: a byte that is none reaches
Python as a lone surrogate and is stored as text, `\udcff` for the byte 0xff, as Python
prints it. Where such text occurs by itself the backslashes before it are doubled, so
that every id comes back as it was; all other ids are stored as they are.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

_TO_TEXT: Final = re.compile(r"(\\*)([\ud800-\udfff]|ud[89a-f][0-9a-f]{2})")
_FROM_TEXT: Final = re.compile(r"(\\+)(ud[89a-f][0-9a-f]{2})")

Labels = Sequence[Sequence[str] | None]

DIGEST_BYTES: Final = 16
"""Of BLAKE2b, in `Stamp`."""


class Stamp(NamedTuple):
    """What an image's file was when it was encoded, to tell whether it still is.

    Attributes:
        size: in bytes.
        modified: nanoseconds since 1970, as the file system says; -1 where the file was
            so new that another change could have left the same time.
        digest: BLAKE2b of the content, `DIGEST_BYTES` long.
    """

    size: int
    modified: int
    digest: bytes


def text_columns(ids: Sequence[str], labels: Labels | None) -> dict[str, list[Any]]:
    """Ids and labels as Arrow takes them.

    Args:
        ids: N names.
        labels: of each, None for one whose labels are not known; None where none are.

    Returns:
        Columns `id` and `labels`, of text that UTF-8 can hold.
    """
    rows = [None] * len(ids) if labels is None else labels
    return {
        "id": [_to_text(name) for name in ids],
        "labels": [None if row is None else [*map(_to_text, row)] for row in rows],
    }


def from_text_columns(
    table: Any,
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...] | None]:
    """The inverse of `text_columns`.

    Args:
        table: an Arrow table with these columns; `labels` may be absent.

    Returns:
        Ids and labels, as in `CodeSet`.
    """
    ids = tuple(map(_from_text, table["id"].to_pylist()))
    if "labels" not in table.column_names or table["labels"].null_count == len(ids):
        return ids, None
    # Few names, many rows: each is looked at once, and is one object.
    text = functools.cache(_from_text)
    rows = table["labels"].to_pylist()
    return ids, tuple(tuple(map(text, row or ())) for row in rows)


def _to_text(name: str) -> str:
    return _TO_TEXT.sub(
        lambda match: (
            2 * match[1]
            + (match[2] if len(match[2]) > 1 else f"\\u{ord(match[2]):04x}")
        ),
        name,
    )


def _from_text(text: str) -> str:
    return _FROM_TEXT.sub(
        lambda match: (
            match[1][: len(match[1]) // 2]
            + (chr(int(match[2][1:], 16)) if len(match[1]) % 2 else match[2])
        ),
        text,
    )


def stamps_of(table: Any) -> list[Stamp | None]:
    """What is known of each row's file, of a table of `read_table`."""
    columns = [table[name].to_pylist() for name in Stamp._fields]
    return [
        None if row[0] is None else Stamp._make(row)
        for row in zip(*columns, strict=True)
    ]


def stamp_columns(stamps: Sequence[Stamp | None]) -> dict[str, list[Any]]:
    """Stamps as Arrow takes them: the columns `size`, `modified` and `digest`."""
    empty = (None,) * len(Stamp._fields)
    rows = [empty if stamp is None else stamp for stamp in stamps]
    return {
        name: [row[column] for row in rows] for column, name in enumerate(Stamp._fields)
    }
