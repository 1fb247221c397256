"""Features beside codes, to order candidates by: one file, read where it lies.

A file of features is a header of `_HEADER` bytes, the rows, and the ids of the images
in Parquet. The header is a line of JSON, filled with spaces: version, type and shape of
the rows, the fingerprint of the codes that were made of the same features, and the
sha256 of the ids. Rows of float16 have unit length; those of int8 are scaled to their
own largest number, which the cosine does not see.
"""

import hashlib
import io
import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int64, Shaped

from ssah_jax.retrieval.code_columns import from_text_columns, text_columns
from ssah_jax.retrieval.files import CodeFileError, PathLike, one_line, unusable

STORED: Final = ("float16", "int8")
"""Types that features are kept in."""

_VERSION: Final = 1
_MAGIC: Final = b"ssah features "
_HEADER: Final = 4096
_CHUNK: Final = 4096
_EXPECTED: Final = "a file of features, as `ssah encode --keep` writes"


class KeptFeatures:
    """Features of N images on disk: an array `[N, D]` that is read when indexed.

    Attributes:
        ids: N different names.
        fingerprint: of the codes that were made of the same features.
        shape: `(N, D)`.
    """

    ids: tuple[str, ...]
    fingerprint: str
    shape: tuple[int, int]

    def __init__(
        self,
        parts: Sequence[np.ndarray],
        ids: Sequence[str],
        fingerprint: str,
        rows: Int64[np.ndarray, "n"] | None = None,
    ) -> None:
        """Takes what was checked.

        Args:
            parts: `[n, D]` each, one after another.
            ids: of the rows in use.
            fingerprint: as of the class.
            rows: which rows of all parts are in use, in which order; None for all.
        """
        self._parts = list(parts)
        self._starts = np.cumsum([0, *map(len, self._parts)])
        self._rows = rows
        self.ids, self.fingerprint = tuple(ids), fingerprint
        self.shape = (len(self.ids), self._parts[0].shape[1])

    @property
    def stored(self) -> str:
        """The type of the rows, of `STORED`."""
        return str(self._parts[0].dtype)

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Shaped[np.ndarray, "n D"]:
        """Rows by a slice or an array of row numbers, in their stored type."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows)
        if self._rows is not None:
            rows = self._rows[rows]
        part = np.searchsorted(self._starts, rows, side="right") - 1
        found = np.empty((len(rows), self.shape[1]), self._parts[0].dtype)
        for number in np.unique(part):
            here = part == number
            found[here] = self._parts[number][rows[here] - self._starts[number]]
        return found

    def after(self, earlier: "KeptFeatures") -> "KeptFeatures":
        """These, and those of an earlier file that are of other images, before them.

        Raises:
            CodeFileError: they are of another model, type or width.
        """
        for name in ("fingerprint", "stored"):
            found, wanted = getattr(self, name), getattr(earlier, name)
            if found != wanted:
                raise CodeFileError(
                    f"features: found {name} {found} to add, expected {wanted} as of "
                    "those that are there"
                )
        mine = set(self.ids)
        kept = [row for row, name in enumerate(earlier.ids) if name not in mine]
        first = np.arange(len(earlier)) if earlier._rows is None else earlier._rows
        own = np.arange(len(self)) if self._rows is None else self._rows
        rows = np.concatenate([first[kept], own + earlier._starts[-1]])
        ids = [*(earlier.ids[row] for row in kept), *self.ids]
        parts = [*earlier._parts, *self._parts]
        return KeptFeatures(parts, ids, self.fingerprint, rows.astype(np.int64))

    def of(self, ids: Sequence[str]) -> "KeptFeatures":
        """The same features in the order of others' ids, such as an index's.

        Raises:
            CodeFileError: there are none of some of them.
        """
        if tuple(ids) == self.ids:
            return self
        where = {name: row for row, name in enumerate(self.ids)}
        rows = np.array([where.get(name, -1) for name in ids], np.int64)
        if (rows < 0).any():
            first = ids[int(np.flatnonzero(rows < 0)[0])]
            raise CodeFileError(
                f"features: found none of {int((rows < 0).sum())} of {len(ids)} images "
                f"(the first: {first!r}), expected those of all; encode with --keep"
            )
        if self._rows is not None:
            rows = self._rows[rows]
        return KeptFeatures(self._parts, ids, self.fingerprint, rows)


def read_features(*paths: PathLike) -> KeptFeatures:
    """Features of one file or several, memory-mapped.

    Args:
        paths: files that `FeatureWriter` wrote of one model.

    Raises:
        CodeFileError: a file is absent, damaged or something else; files disagree, or
            share an id.
    """
    found = [_read_file(Path(path)) for path in paths]
    _, _, first = found[0]
    for path, (_, _, header) in zip(paths, found, strict=True):
        for name in ("fingerprint", "type", "width"):
            if header[name] != first[name]:
                raise CodeFileError(
                    f"{one_line(path)}: found {name} {header[name]}, expected "
                    f"{first[name]} as in {one_line(paths[0])}"
                )
    ids = [name for _, names, _ in found for name in names]
    if len(set(ids)) < len(ids):
        raise CodeFileError(
            f"{one_line(paths[-1])}: found an id a second time, expected each once"
        )
    return KeptFeatures([rows for rows, _, _ in found], ids, first["fingerprint"])


class KeptWriter(AbstractContextManager["KeptWriter"]):
    """Writes a file of features that appears, complete, at `finish`.

    Until then rows are kept in a hidden file beside it, which the next writer of the
    same features goes on with.
    """

    def __init__(
        self, path: PathLike, *, stored: str, width: int, fingerprint: str, rows: int
    ) -> None:
        """Looks for rows that an interrupted writer has left.

        Args:
            path: the file to write.
            stored: of `STORED`.
            width: D.
            fingerprint: of the codes.
            rows: how many are to be kept of those that were left.

        Raises:
            CodeFileError: there are fewer rows, or no place to write to.
        """
        self._path = Path(path)
        self._stored, self._width, self._fingerprint = stored, width, fingerprint
        self._part = self._path.with_name(f".{self._path.name}.{stored}.part")
        self._row = width * np.dtype(stored).itemsize
        wanted = _HEADER + rows * self._row
        try:
            there = self._part.stat().st_size if self._part.exists() else 0
            if rows and there < wanted:
                raise CodeFileError(
                    f"{one_line(self._part)}: found features of fewer images than an "
                    f"interrupted run has left codes of, expected {rows}; delete the "
                    "hidden files beside it to begin again"
                )
            self._file = open(self._part, "r+b" if rows else "wb")  # noqa: SIM115
            self._file.truncate(wanted)
            self._file.seek(wanted)
        except OSError as error:
            raise unusable(self._path, error, "a place to write to") from error

    def write(self, features: Float[np.ndarray, "n D"]) -> None:
        """Adds rows, which are on their way to the disk when it returns.

        Raises:
            CodeFileError: they cannot be written.
        """
        self.write_stored(stored_as(features, self._stored))

    def write_stored(self, rows: Shaped[np.ndarray, "n D"]) -> None:
        """Adds rows that are in their stored type already.

        Raises:
            CodeFileError: they cannot be written.
        """
        assert rows.dtype == self._stored and rows.shape[1] == self._width
        try:
            self._file.write(rows.tobytes())
            self._file.flush()
        except OSError as error:
            raise unusable(self._path, error, "a place to write to") from error

    def finish(self, ids: Sequence[str]) -> None:
        """Makes the file complete.

        Args:
            ids: of all rows, in their order.

        Raises:
            CodeFileError: it cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        trailer = io.BytesIO()
        column = text_columns(ids, None)["id"]
        pq.write_table(pa.table({"id": pa.array(column, pa.string())}), trailer)
        header = {
            "version": _VERSION,
            "type": self._stored,
            "rows": len(ids),
            "width": self._width,
            "fingerprint": self._fingerprint,
            "ids_sha256": hashlib.sha256(trailer.getvalue()).hexdigest(),
        }
        try:
            assert self._file.tell() == _HEADER + len(ids) * self._row
            self._file.write(trailer.getvalue())
            self._file.seek(0)
            self._file.write((_MAGIC + json.dumps(header).encode()).ljust(_HEADER))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self._path)
        except OSError as error:
            raise unusable(self._path, error, "a place to write to") from error

    def __exit__(self, *error: object) -> None:
        """Keeps what was written and not finished, for the next writer."""
        self._file.close()


def stored_as(
    features: Float[np.ndarray, "n D"], stored: str
) -> Shaped[np.ndarray, "n D"]:
    """Features as they are kept: their directions.

    Args:
        features: any real, `[n, D]`.
        stored: of `STORED`.

    Returns:
        float16 of unit length, or int8 in -127 .. 127.
    """
    x = np.asarray(features, np.float32)
    tiny = np.finfo(np.float32).tiny
    if stored == "int8":
        largest = np.abs(x).max(axis=1, keepdims=True)
        return np.rint(127 * (x / np.maximum(largest, tiny))).astype(np.int8)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.maximum(length, tiny)).astype(np.float16)


def _read_file(path: Path) -> tuple[np.ndarray, tuple[str, ...], dict[str, Any]]:
    """Rows, ids and header of one file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open(path, "rb") as file:
            start = file.read(_HEADER)
            if len(start) < _HEADER or not start.startswith(_MAGIC):
                raise ValueError("another beginning")
            header = json.loads(start.removeprefix(_MAGIC))
            if header["version"] != _VERSION or header["type"] not in STORED:
                raise ValueError(f"version {header['version']} of the format")
            shape = (int(header["rows"]), int(header["width"]))
            end = _HEADER + shape[0] * shape[1] * np.dtype(header["type"]).itemsize
            file.seek(end)
            trailer = file.read()
        if hashlib.sha256(trailer).hexdigest() != header["ids_sha256"]:
            raise ValueError("other ids than it says, or cut off")
        ids, _ = from_text_columns(pq.read_table(io.BytesIO(trailer)))
        if len(ids) != shape[0] or not ids:
            raise ValueError(f"{len(ids)} ids for {shape[0]} rows")
        rows = np.memmap(path, header["type"], "r", offset=_HEADER, shape=shape)
    except (
        pa.ArrowException,
        *(OSError, ValueError, KeyError, TypeError, AttributeError),
    ) as error:
        raise unusable(path, error, _EXPECTED) from error
    return rows, ids, header


def write_features(path: PathLike, features: KeptFeatures) -> None:
    """Writes features to one file, which appears when it is whole.

    Args:
        path: replaced if it is there; may be one that the features lie in.
        features: of any files.

    Raises:
        CodeFileError: it cannot be written.
    """
    with KeptWriter(
        path,
        stored=features.stored,
        width=features.shape[1],
        fingerprint=features.fingerprint,
        rows=0,
    ) as writer:
        for start in range(0, len(features), _CHUNK):
            writer.write_stored(features[start : start + _CHUNK])
        writer.finish(features.ids)
