r"""Codes on disk: Parquet files that are written in parts, resumed, and read whole.

A file of codes has one row an image:

| column | type | |
| --- | --- | --- |
| `id` | string | what the image is called; unique |
| `code` | fixed_size_binary(ceil(K / 8)) | bit order of `ssah_jax.retrieval.codes` |
| `labels` | list<string>, nullable | names of what it shows; null where not known |

and says in its metadata `ssah.version` (of this layout), `ssah.bits` (K) and
`ssah.fingerprint` (of the encoder: codes of two encoders are not comparable).

Parquet strings are UTF-8, names of files need not be: a byte that is none reaches
Python as a lone surrogate and is stored as text, `\udcff` for the byte 0xff, as Python
prints it. Where such text occurs by itself the backslashes before it are doubled, so
that every id comes back as it was; all other ids are stored as they are.
"""

import contextlib
import dataclasses
import functools
import os
import re
import shutil
from collections.abc import Iterable, Iterator, KeysView, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped, UInt8

VERSION: Final = "1"
"""Of the layout of these files."""

PART_ROWS: Final = 8192
"""Rows that a killed writer loses at most."""

_SHARD: Final = re.compile(r"(.*)-(\d{5,})-of-(\d{5,})", re.DOTALL)
_TO_TEXT: Final = re.compile(r"(\\*)([\ud800-\udfff]|ud[89a-f][0-9a-f]{2})")
_FROM_TEXT: Final = re.compile(r"(\\+)(ud[89a-f][0-9a-f]{2})")

PathLike = str | os.PathLike[str]
Labels = Sequence[Sequence[str] | None]


class CodeFileError(ValueError):
    """A file of codes, or an index of them, that cannot be used; one line."""


@dataclasses.dataclass(frozen=True, eq=False)
class CodeSet:
    """Codes of N images, and what is known of them.

    Attributes:
        ids: N different names.
        packed: `[N, ceil(K / 8)]`, as `ssah_jax.retrieval.pack` makes them.
        bits: K.
        fingerprint: of the encoder.
        labels: for each image the names of its tags or classes, empty where they are
            not known; None where none are.
    """

    ids: tuple[str, ...]
    packed: UInt8[np.ndarray, "N bytes"]
    bits: int
    fingerprint: str
    labels: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self) -> None:
        """Checks that the fields fit each other.

        Raises:
            ValueError: they do not.
        """
        wanted = (len(self.ids), -(-self.bits // 8))
        if self.bits < 1 or self.packed.shape != wanted:
            raise ValueError(
                f"packed: found shape {self.packed.shape} for {len(self.ids)} ids and "
                f"bits={self.bits}, expected [ids, ceil(bits / 8)] and bits >= 1"
            )
        if self.labels is not None and len(self.labels) != len(self.ids):
            raise ValueError(
                f"labels: found {len(self.labels)}, expected {len(self.ids)}, as ids"
            )
        if self.bits % 8 and np.any(self.packed[:, -1] & (0xFF >> self.bits % 8)):
            raise ValueError(
                f"packed: found ones after bit {self.bits}, expected zeros there"
            )


class CodeWriter:
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

    def write(
        self,
        ids: Sequence[str],
        codes: Shaped[np.ndarray, "n K"],
        labels: Labels | None = None,
    ) -> None:
        """Adds rows.

        Args:
            ids: n names that were not written before.
            codes: `[n, K]`, any real but NaN; binarised at 0 (0 is +1).
            labels: of each image, None for one whose labels are not known; None
                where none are.

        Raises:
            CodeFileError: a code holds NaN, or an id was there before.
            ValueError: lengths, K or the kind of numbers do not fit.
        """
        packed = pack_codes(codes, bits=self._bits, ids=ids)
        labels = [None] * len(ids) if labels is None else labels
        if not len(ids) == len(packed) == len(labels):
            raise ValueError(
                f"ids, codes, labels: found {len(ids)}, {len(packed)} and "
                f"{len(labels)} rows, expected equally many"
            )
        new = dict.fromkeys(ids)
        if len(new) < len(ids) or not new.keys().isdisjoint(self._done):
            again = _first_repeated([*self._done, *ids])
            raise CodeFileError(
                f"{one_line(self._path)}: found the id {again!r} twice, expected each "
                "once"
            )
        self._done |= new
        self._ids += ids
        self._packed += list(packed)
        self._labels += labels
        while len(self._ids) >= self._part_rows:
            self._write_part(self._part_rows)

    def finish(self) -> None:
        """Merges the parts into the file, and removes them.

        Raises:
            CodeFileError: the file cannot be written, or has appeared meanwhile.
        """
        import pyarrow.parquet as pq

        self._write_part(len(self._ids))
        temporary = self._parts / "merged.tmp"
        try:
            with synced(temporary) as file, pq.ParquetWriter(file, self._schema) as to:
                for part in self._part_paths():
                    with open(part, "rb") as rows:
                        to.write_table(pq.read_table(rows))
            if self._path.exists() and not self._overwrite:
                raise _in_the_way(self._path)
            temporary.replace(self._path)
        except OSError as error:
            raise unusable(self._path, error, "a place to write to") from error
        self._discard_parts()

    def __enter__(self) -> "CodeWriter":
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Keeps what was written and not finished, for the next writer."""
        if self._parts.is_dir():
            self._write_part(len(self._ids))

    @functools.cached_property
    def _schema(self) -> Any:
        return _schema(self._bits, self._fingerprint)

    def _part_paths(self) -> list[Path]:
        return sorted(self._parts.glob("part-*.parquet"))

    def _take_up(self) -> None:
        """Take over the rows of an interrupted writer."""
        parts = self._part_paths()
        advice = f"; delete {one_line(self._parts)} to begin again"
        for part in parts:
            try:
                found = _read(part)
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
        import pyarrow.parquet as pq

        columns = {
            **text_columns(self._ids[:rows], self._labels[:rows]),
            "code": [code.tobytes() for code in self._packed[:rows]],
        }
        table = pa.Table.from_pydict(columns, schema=self._schema)
        # No glob for parts finds it, whenever the process dies.
        temporary = self._parts / f"{os.getpid()}.tmp"
        part = self._parts / f"part-{self._num_parts:08}.parquet"
        try:
            with synced(temporary) as file:
                pq.write_table(table, file)
            if part.exists():
                raise CodeFileError(
                    f"{one_line(self._path)}: found parts of another process, expected "
                    "one writer at a time"
                )
            temporary.replace(part)
        except OSError as error:
            raise unusable(part, error, "a place to write to") from error
        self._num_parts += 1
        del self._ids[:rows], self._packed[:rows], self._labels[:rows]

    def _discard_parts(self) -> None:
        if self._parts.is_dir():
            shutil.rmtree(self._parts)


def read_codes(*paths: PathLike) -> CodeSet:
    """Codes of one file or several, such as the shards of a multi-host run.

    Args:
        paths: files; directories, for all `*.parquet` in them; or a file that is not
            there, for its shards beside it. Shards must be complete.

    Returns:
        All rows, in the order of `paths`; those of shards in the order of shards.

    Raises:
        CodeFileError: a file or a shard is absent, damaged or something else; files
            disagree in bits or fingerprint, or share an id.
    """
    files = [file for path in paths for file in _files(Path(path))]
    if not files:
        raise CodeFileError("paths: found none, expected files of codes")
    _check_shards(files)
    sets = [_read(file) for file in files]
    for file, found in zip(files, sets, strict=True):
        for name in ("bits", "fingerprint"):
            there, wanted = getattr(found, name), getattr(sets[0], name)
            if there != wanted:
                raise CodeFileError(
                    f"{one_line(file)}: found {name} {there}, expected {wanted} as in "
                    f"{one_line(files[0])}"
                )
    ids = tuple(name for found in sets for name in found.ids)
    if len(set(ids)) < len(ids):
        again = _first_repeated(ids)
        where = next(
            file for file, f in zip(files, sets, strict=True) if again in f.ids
        )
        raise CodeFileError(
            f"{one_line(where)}: found the id {again!r} there and a second time, "
            "expected each once"
        )
    labels = None
    if any(found.labels is not None for found in sets):
        labels = tuple(
            row for found in sets for row in found.labels or ((),) * len(found.ids)
        )
    packed = np.concatenate([found.packed for found in sets])
    return CodeSet(ids, packed, sets[0].bits, sets[0].fingerprint, labels)


def shard_path(path: PathLike, process_index: int, process_count: int) -> Path:
    """The file that one process of a multi-host run writes.

    Args:
        path: of the whole, such as `codes.parquet`.
        process_index: 0 .. process_count - 1.
        process_count: processes of the run.

    Returns:
        Such as `codes-00003-of-00008.parquet`, beside `path`.

    Raises:
        ValueError: there is no such process.
    """
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index: found {process_index}, accepted is 0 to process_count - 1 "
            f"({process_count - 1})"
        )
    path = Path(path)
    name = f"{path.stem}-{process_index:05}-of-{process_count:05}{path.suffix}"
    return path.with_name(name)


def pack_codes(
    codes: Shaped[np.ndarray, "..."],
    *,
    bits: int,
    ids: Sequence[str] | None = None,
) -> UInt8[np.ndarray, "n bytes"]:
    """Packs codes from outside, once they are seen to be codes.

    Args:
        codes: `[n, K]`, any real but NaN; binarised at 0 (0 is +1).
        bits: K.
        ids: what messages call the n rows; their numbers if None.

    Returns:
        `[n, ceil(K / 8)]`, as `ssah_jax.retrieval.pack` does.

    Raises:
        CodeFileError: a code holds NaN.
        ValueError: another shape, or other than signed numbers.
    """
    if codes.ndim != 2 or codes.shape[1] != bits:
        raise ValueError(
            f"codes: found shape {codes.shape}, accepted is [rows, {bits}], as many "
            "bits as there"
        )
    floating = jnp.issubdtype(codes.dtype, jnp.floating)
    # {0, 1} and packed bytes would all binarise to +1, silently.
    if not floating and not np.issubdtype(codes.dtype, np.signedinteger):
        raise ValueError(
            f"codes: found dtype {codes.dtype}, accepted are signed numbers, binarised "
            "at 0"
        )
    if floating and np.isnan(codes).any():
        row = int(np.flatnonzero(np.isnan(codes).any(axis=1))[0])
        name = f"row {row}" if ids is None else repr(ids[row])
        raise CodeFileError(f"codes: found NaN in {name}, accepted are real numbers")
    return np.packbits(codes >= 0, axis=1)


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


def one_line(text: PathLike | Exception) -> str:
    """`text` with whatever does not print as backslash escapes, for messages."""
    text = str(text) if isinstance(text, Exception) else os.fspath(text)
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


@contextlib.contextmanager
def synced(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to, which is on the disk once the block is left."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def unusable(path: Path, error: Exception, expected: str) -> CodeFileError:
    """The error that says in one line why a file cannot be used."""
    reason = (isinstance(error, OSError) and error.strerror) or error
    return CodeFileError(
        f"{one_line(path)}: found {type(error).__name__} ({one_line(str(reason))}), "
        f"expected {expected}"
    )


def _in_the_way(path: Path) -> CodeFileError:
    kind = "a directory" if path.is_dir() else "a file"
    return CodeFileError(
        f"{one_line(path)}: found {kind}, expected none (or a file and overwrite=True)"
    )


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


def _first_repeated(ids: Iterable[str]) -> str:
    seen: set[str] = set()
    return next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _schema(bits: int, fingerprint: str) -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("code", pa.binary(-(-bits // 8)), nullable=False),
            pa.field("labels", pa.list_(pa.string())),
        ],
        metadata={
            "ssah.version": VERSION,
            "ssah.bits": str(bits),
            "ssah.fingerprint": fingerprint,
        },
    )


def _read(path: Path) -> CodeSet:
    """One file; whether its ids are unique is not looked at."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open(path, "rb") as file:
            parquet = pq.ParquetFile(file)
            bits, fingerprint = _check_schema(path, parquet.schema_arrow)
            table = parquet.read(["id", "code", "labels"])
        for name in ("id", "code"):
            if table[name].null_count:
                raise CodeFileError(
                    f"{one_line(path)}: found {table[name].null_count} nulls in column "
                    f"{name!r}, expected none"
                )
        ids, labels = from_text_columns(table)
        packed = np.frombuffer(b"".join(table["code"].to_pylist()), np.uint8).reshape(
            len(ids), -(-bits // 8)
        )
        return CodeSet(ids, packed, bits, fingerprint, labels)
    except CodeFileError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unusable(
            path, error, "a file of codes, as `ssah encode` writes"
        ) from error


def _check_schema(path: Path, schema: Any) -> tuple[int, str]:
    """Bits and fingerprint of a file."""
    import pyarrow as pa

    metadata = schema.metadata or {}
    found = {
        name: metadata.get(f"ssah.{name}".encode(), b"").decode(errors="replace")
        for name in ("version", "bits", "fingerprint")
    }
    if found["version"] != VERSION or not re.fullmatch(
        "[1-9][0-9]{0,8}", found["bits"]
    ):
        raise CodeFileError(
            f"{one_line(path)}: found ssah.version {found['version']!r} and ssah.bits "
            f"{found['bits']!r} in its metadata, expected {VERSION!r} and a number, as "
            "`ssah encode` writes"
        )
    bits = int(found["bits"])
    for field in _schema(bits, ""):
        column = schema.get_field_index(field.name)
        kind = schema.field(column).type if column >= 0 else None
        if kind != field.type and not (
            pa.types.is_list(field.type) and str(kind) == "list<element: string>"
        ):
            raise CodeFileError(
                f"{one_line(path)}: found {kind or 'no column'} for {field.name!r}, "
                f"expected {field.type}"
            )
    return bits, found["fingerprint"]


def _ids_of(path: Path) -> list[str] | None:
    """Ids of a file, None where it is none of codes."""
    try:
        return [*_read(path).ids]
    except CodeFileError:
        return None


def _files(path: Path) -> list[Path]:
    """The files that a path given to `read_codes` stands for."""
    if path.is_dir():
        inside = [p for p in path.glob("*.parquet") if not p.name.startswith(".")]
        if not inside:
            raise CodeFileError(
                f"{one_line(path)}: found no *.parquet, expected files of codes"
            )
        return sorted(inside, key=_order)
    if not path.exists():
        beside = [
            p
            for p in path.parent.glob(f"*{path.suffix}")
            if (match := _SHARD.fullmatch(p.stem)) and match[1] == path.stem
        ]
        return sorted(beside, key=_order) or [path]
    return [path]


def _order(path: Path) -> tuple[str, int]:
    match = _SHARD.fullmatch(path.stem)
    return (match[1], int(match[2])) if match else (path.stem, 0)


def _check_shards(files: Sequence[Path]) -> None:
    """Check that sets of shards are whole."""
    found: dict[tuple[Path, str], dict[int, set[int]]] = {}
    for file in files:
        if match := _SHARD.fullmatch(file.stem):
            counts = found.setdefault((file.parent, match[1]), {})
            counts.setdefault(int(match[3]), set()).add(int(match[2]))
    for (folder, stem), counts in found.items():
        where = one_line(folder / stem)
        if len(counts) > 1:
            raise CodeFileError(
                f"{where}: found shards of {' and of '.join(map(str, sorted(counts)))},"
                " expected those of one run"
            )
        for count, indices in counts.items():
            absent = sorted(set(range(count)) - indices)
            if absent:
                raise CodeFileError(
                    f"{where}: found {len(indices)} of {count} shards, expected all "
                    f"(the first absent is {absent[0]:05}-of-{count:05})"
                )
