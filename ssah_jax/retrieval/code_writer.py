"""Writing a file of codes in parts, so that a killed run goes on where it was."""

import functools
import os
import shutil
from collections.abc import Iterator, KeysView, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Shaped, UInt8

from ssah_jax.retrieval.code_columns import (
    Labels,
    Stamp,
    stamp_columns,
    stamps_of,
    text_columns,
)
from ssah_jax.retrieval.code_files import (
    first_repeated,
    pack_codes,
    read_file,
    read_table,
    schema,
    writing,
)
from ssah_jax.retrieval.files import (
    CodeFileError,
    PathLike,
    one_line,
    synced,
    unusable,
)

PART_ROWS: Final = 8192
"""Rows that a killed writer loses at most."""


class CodeWriter(AbstractContextManager["CodeWriter"]):
    """Writes a file of codes that appears, complete, at `finish`.

    Until then rows are kept in parts in a hidden directory beside it; each part is
    written atomically. Left without `finish`, by an exception or a kill, they are
    there for the next writer of the same file, which goes on after them.

    One writer at a time: each process of a multi-host run writes its own
    `shard_path`. Memory holds the ids of all rows and the codes of one part.
    """

    def __init__(
        self,
        path: PathLike,
        *,
        bits: int,
        fingerprint: str,
        resume: bool = True,
        overwrite: bool = False,
        part_rows: int = PART_ROWS,
    ) -> None:
        """Looks for rows that an interrupted writer of the same codes has left.

        Args:
            path: the file to write; its directory must be there.
            bits: K.
            fingerprint: of the encoder.
            resume: whether to keep such rows; False discards them.
            overwrite: whether `finish` may replace a file that is there.
            part_rows: rows of a part, >= 1.

        Raises:
            CodeFileError: `path` is there and `overwrite` is False, cannot be
                written, or has parts of another encoder or other bits.
            ValueError: `bits` or `part_rows` is below 1.
        """
        for name, value in (("bits", bits), ("part_rows", part_rows)):
            if value < 1:
                raise ValueError(f"{name}: found {value}, accepted is a number >= 1")
        self._path = Path(path)
        self._parts = self._path.with_name(f".{self._path.name}.parts")
        self._bits, self._fingerprint = bits, fingerprint
        self._part_rows, self._overwrite = part_rows, overwrite
        self._done: dict[str, None] = {}
        self._num_parts = 0
        self._ids: list[str] = []
        self._packed: list[np.ndarray] = []
        self._labels: list[Sequence[str] | None] = []
        self._stamps: list[Stamp | None] = []
        if self._path.is_dir() or (self._path.exists() and not overwrite):
            raise _in_the_way(self._path)
        if not resume:
            self._discard_parts()
        try:
            self._parts.mkdir(exist_ok=True)
        except OSError as error:
            raise unusable(self._path, error, "a place to write to") from error
        for temporary in self._parts.glob("*.tmp"):
            temporary.unlink()
        self._take_up()

    @property
    def done(self) -> KeysView[str]:
        """Ids written, in order, with those of an interrupted writer first."""
        return self._done.keys()

    @property
    def stamps(self) -> dict[str, Stamp | None]:
        """By id, those of an interrupted writer's rows, as the parts hold them."""
        found: dict[str, Stamp | None] = {}
        for part in self._part_paths():
            table, codes = read_table(part)
            found |= zip(codes.ids, stamps_of(table), strict=True)
        return found

    def write(
        self,
        ids: Sequence[str],
        codes: Shaped[np.ndarray, "n K"],
        labels: Labels | None = None,
        stamps: Sequence[Stamp | None] | None = None,
    ) -> None:
        """Adds rows.

        Args:
            ids: n names that were not written before.
            codes: `[n, K]`, any real but NaN; binarised at 0 (0 is +1).
            labels: of each image, None for one whose labels are not known; None
                where none are.
            stamps: of each image's file, None for one that is not known; None where
                none are.

        Raises:
            CodeFileError: a code holds NaN, or an id was there before.
            ValueError: lengths, K or the kind of numbers do not fit.
        """
        packed = pack_codes(codes, bits=self._bits, ids=ids)
        self.write_packed(ids, packed, labels, stamps)

    def write_packed(
        self,
        ids: Sequence[str],
        packed: UInt8[np.ndarray, "n bytes"],
        labels: Labels | None = None,
        stamps: Sequence[Stamp | None] | None = None,
    ) -> None:
        """Adds rows of codes `[n, ceil(K / 8)]` that are packed; else as `write`."""
        labels = [None] * len(ids) if labels is None else labels
        stamps = [None] * len(ids) if stamps is None else stamps
        if not len(ids) == len(packed) == len(labels) == len(stamps):
            raise ValueError(
                f"ids, codes, labels, stamps: found {len(ids)}, {len(packed)}, "
                f"{len(labels)} and {len(stamps)} rows, expected equally many"
            )
        new = dict.fromkeys(ids)
        if len(new) < len(ids) or not new.keys().isdisjoint(self._done):
            again = first_repeated([*self._done, *ids])
            raise CodeFileError(
                f"{one_line(self._path)}: found the id {again!r} twice, expected each "
                "once"
            )
        self._done |= new
        self._ids += ids
        self._packed += list(packed)
        self._labels += labels
        self._stamps += stamps
        while len(self._ids) >= self._part_rows:
            self._write_part(self._part_rows)

    def finish(self, *, order: Sequence[str] | None = None) -> None:
        """Merges the parts into the file, and removes them.

        Args:
            order: ids, those written among them, in the order that rows are to have;
                takes all codes into memory. None for the order of writing.

        Raises:
            CodeFileError: the file cannot be written, or has appeared meanwhile.
        """
        self._write_part(len(self._ids))
        temporary = self._parts / "merged.tmp"
        try:
            with (
                synced(temporary) as file,
                writing(file, self._bits, self._fingerprint) as write,
            ):
                for table in self._tables() if order is None else self._sorted(order):
                    write(table)
            if self._path.exists() and not self._overwrite:
                raise _in_the_way(self._path)
            temporary.replace(self._path)
        except OSError as error:
            raise unusable(self._path, error, "a place to write to") from error
        self._discard_parts()

    def __exit__(self, *error: object) -> None:
        """Keeps what was written and not finished, for the next writer."""
        if self._parts.is_dir():
            self._write_part(len(self._ids))

    @functools.cached_property
    def _schema(self) -> Any:
        return schema(self._bits, self._fingerprint)

    def _tables(self) -> Iterator[Any]:
        return (read_table(part)[0] for part in self._part_paths())

    def _sorted(self, order: Sequence[str]) -> Iterator[Any]:
        import pyarrow as pa

        row = {name: number for number, name in enumerate(self._done)}
        taken = [row[name] for name in order if name in row]
        if taken:
            yield pa.concat_tables(self._tables()).take(taken)

    def _part_paths(self) -> list[Path]:
        return sorted(self._parts.glob("part-*.parquet"))

    def _take_up(self) -> None:
        """Take over the rows of an interrupted writer."""
        parts = self._part_paths()
        advice = f"; delete {one_line(self._parts)} to begin again"
        for part in parts:
            try:
                found = read_file(part)
            except CodeFileError as error:
                raise CodeFileError(f"{error}{advice}") from error
            for name, there, wanted in (
                ("bits", found.bits, self._bits),
                ("fingerprint", found.fingerprint, self._fingerprint),
            ):
                if there != wanted:
                    raise CodeFileError(
                        f"{one_line(self._parts)}: found rows of an interrupted run "
                        f"with {name} {there}, expected {wanted}{advice}"
                    )
            self._done |= dict.fromkeys(found.ids)
        # A writer that was killed between moving the file into place and removing the
        # parts: they are of the file that is now to be replaced.
        if parts and self._path.exists() and _ids_of(self._path) == [*self._done]:
            self._done = {}
            self._discard_parts()
            self._parts.mkdir()
        self._num_parts = len(self._part_paths())

    def _write_part(self, rows: int) -> None:
        """Moves the first rows from memory into a part."""
        if not rows:
            return
        import pyarrow as pa

        columns = {
            **text_columns(self._ids[:rows], self._labels[:rows]),
            **stamp_columns(self._stamps[:rows]),
            "code": [code.tobytes() for code in self._packed[:rows]],
        }
        table = pa.Table.from_pydict(columns, schema=self._schema)
        # No glob for parts finds it, whenever the process dies.
        temporary = self._parts / f"{os.getpid()}.tmp"
        part = self._parts / f"part-{self._num_parts:08}.parquet"
        try:
            with (
                synced(temporary) as file,
                writing(file, self._bits, self._fingerprint) as write,
            ):
                write(table)
            if part.exists():
                raise CodeFileError(
                    f"{one_line(self._path)}: found parts of another process, expected "
                    "one writer at a time"
                )
            temporary.replace(part)
        except OSError as error:
            raise unusable(part, error, "a place to write to") from error
        self._num_parts += 1
        for column in (self._ids, self._packed, self._labels, self._stamps):
            del column[:rows]

    def _discard_parts(self) -> None:
        if self._parts.is_dir():
            shutil.rmtree(self._parts)


def _in_the_way(path: Path) -> CodeFileError:
    kind = "a directory" if path.is_dir() else "a file"
    return CodeFileError(
        f"{one_line(path)}: found {kind}, expected none (or a file and overwrite=True)"
    )


def _ids_of(path: Path) -> list[str] | None:
    """Ids of a file, None where it is none of codes."""
    try:
        return [*read_file(path).ids]
    except CodeFileError:
        return None
