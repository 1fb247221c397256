"""Codes on disk: the layout of their Parquet files, and reading them.

A file of codes has one row an image:

| column | type | |
| --- | --- | --- |
| `id` | string | what the image is called; unique |
| `code` | fixed_size_binary(ceil(K / 8)) | bit order of `ssah_jax.retrieval.codes` |
| `labels` | list<string>, nullable | names of what it shows; null where not known |
| `size`, `modified`, `digest` | nullable | of the file encoded: `code_columns.Stamp` |

and says in its metadata `ssah.version` (of this layout), `ssah.bits` (K),
`ssah.fingerprint` (of the encoder: codes of two encoders are not comparable) and
`ssah.sha256` (of all of it: a damaged file is never taken for what was written).
"""

import dataclasses
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from jaxtyping import Shaped, UInt8

from ssah_jax.retrieval.code_columns import DIGEST_BYTES, from_text_columns
from ssah_jax.retrieval.files import (
    CodeFileError,
    PathLike,
    check_shards,
    find_files,
    one_line,
    unusable,
)
from ssah_jax.similarity import checks

VERSION: Final = "2"
"""Of the layout of these files."""

# A row has an id of its own: no file holds many more rows than bytes.
_MOST_ROWS_A_BYTE: Final = 8


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
    files = [file for path in paths for file in find_files(Path(path))]
    if not files:
        raise CodeFileError("paths: found none, expected files of codes")
    check_shards(files)
    sets = [read_file(file) for file in files]
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
        again = first_repeated(ids)
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


def pack_codes(
    codes: Shaped[np.ndarray, "..."],
    *,
    bits: int,
    ids: Sequence[str] | None = None,
) -> UInt8[np.ndarray, "n bytes"]:
    """Packs codes from outside, once they are seen to be codes.

    Args:
        codes: `[n, K]`, any real but NaN, binarised at 0 (0 is +1), or booleans.
        bits: K.
        ids: what messages call the n rows; their numbers if None.

    Returns:
        `[n, ceil(K / 8)]`, as `ssah_jax.retrieval.pack` does.

    Raises:
        CodeFileError: a code holds NaN.
        ValueError: another shape, unsigned numbers, 0 and 1, or many numbers and none
            below 0.
    """
    codes = checks.host_array("codes", codes)
    if codes.ndim != 2 or codes.shape[1] != bits:
        raise ValueError(
            f"codes: found shape {codes.shape}, accepted is [rows, {bits}], as many "
            "bits as there"
        )
    if np.isnan(codes).any():
        row = int(np.flatnonzero(np.isnan(codes).any(axis=1))[0])
        name = f"row {row}" if ids is None else repr(ids[row])
        raise CodeFileError(f"codes: found NaN in {name}, accepted are real numbers")
    return np.packbits(checks.bits_of("codes", codes), axis=1)


def first_repeated(ids: Iterable[str]) -> str:
    """The first that was there before; there must be one."""
    seen: set[str] = set()
    return next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def schema(bits: int, fingerprint: str) -> Any:
    """What Arrow calls the layout of a file of codes."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("code", pa.binary(-(-bits // 8)), nullable=False),
            pa.field("labels", pa.list_(pa.string())),
            pa.field("size", pa.int64()),
            pa.field("modified", pa.int64()),
            pa.field("digest", pa.binary(DIGEST_BYTES)),
        ],
        metadata={
            "ssah.version": VERSION,
            "ssah.bits": str(bits),
            "ssah.fingerprint": fingerprint,
        },
    )


class Digest:
    """SHA-256 of what a file of codes says, whichever way Parquet lays it out."""

    def __init__(self, bits: int, fingerprint: str) -> None:
        """Of no rows yet."""
        self._about = f"{VERSION} {bits} {fingerprint}"
        self._parts = tuple(hashlib.sha256() for _ in range(6))

    def add(self, found: CodeSet, table: Any) -> None:
        """Goes on over more rows, and their stamps in the table of them."""
        labels = found.labels or ((),) * len(found.ids)
        ids, tags, codes, sizes, times, digests = self._parts
        for column, part in (("size", sizes), ("modified", times)):
            part.update(table[column].fill_null(-1).to_numpy().tobytes())
        known = table["digest"].to_pylist()
        digests.update(b"".join(each or bytes(DIGEST_BYTES) for each in known))
        ids.update(_counted(found.ids))
        tags.update(b"".join(b"%d=%b" % (len(r), _counted(r)) for r in labels))
        codes.update(found.packed.tobytes())

    def hexdigest(self) -> str:
        """Of all rows so far."""
        parts = [self._about, *(part.hexdigest() for part in self._parts)]
        return hashlib.sha256(
            " ".join(parts).encode(errors="surrogatepass")
        ).hexdigest()


def _counted(names: Iterable[str]) -> bytes:
    text = "".join(f"{len(name)}:{name}" for name in names)
    return text.encode(errors="surrogatepass")


@contextmanager
def writing(file: BinaryIO, bits: int, fingerprint: str) -> Iterator[Any]:
    """Yields a function that appends a table of `schema` to a file of codes."""
    import pyarrow.parquet as pq

    digest = Digest(bits, fingerprint)
    with pq.ParquetWriter(file, schema(bits, fingerprint)) as writer:

        def write(table: Any) -> None:
            writer.write_table(table)
            digest.add(_code_set(table, bits, fingerprint), table)

        yield write
        writer.add_key_value_metadata({"ssah.sha256": digest.hexdigest()})


def open_parquet(source: io.BufferedIOBase, size: int) -> Any:
    """A file to be read, which claims no more rows than so many bytes can hold.

    Raises:
        ValueError: it claims more.
    """
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(source)
    rows = [parquet.metadata.num_rows]
    for group in range(parquet.metadata.num_row_groups):
        about = parquet.metadata.row_group(group)
        rows += [about.num_rows]
        rows += [about.column(0).num_values] if about.num_columns else []
    if max(rows) > _MOST_ROWS_A_BYTE * size:
        raise ValueError(f"{max(rows)} rows in {size} bytes")
    return parquet


def _code_set(table: Any, bits: int, fingerprint: str) -> CodeSet:
    ids, labels = from_text_columns(table)
    codes = np.frombuffer(b"".join(table["code"].to_pylist()), np.uint8)
    packed = codes.reshape(len(ids), -(-bits // 8))
    return CodeSet(ids, packed, bits, fingerprint, labels)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, int, str]]:
    """A file of codes, its bits and fingerprint; whatever is wrong is one line."""
    import pyarrow as pa

    try:
        with open(path, "rb") as file:
            parquet = open_parquet(file, path.stat().st_size)
            yield parquet, *_check_schema(path, parquet.schema_arrow)
    except CodeFileError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unusable(
            path, error, "a file of codes, as `ssah encode` writes"
        ) from error


def read_header(path: Path) -> tuple[int, str]:
    """Bits and fingerprint of a file of codes, without its rows.

    Raises:
        CodeFileError: it is absent, damaged or something else.
    """
    with _opened(path) as (_, bits, fingerprint):
        return bits, fingerprint


def read_file(path: Path) -> CodeSet:
    """One file; whether its ids are unique is not looked at."""
    return read_table(path)[1]


def read_table(path: Path) -> tuple[Any, CodeSet]:
    """One file, as Arrow has it and as codes."""
    with _opened(path) as (parquet, bits, fingerprint):
        table = parquet.read(schema(bits, "").names)
        for name in ("id", "code"):
            if table[name].null_count:
                raise CodeFileError(
                    f"{one_line(path)}: found {table[name].null_count} nulls in column "
                    f"{name!r}, expected none"
                )
        found = _code_set(table, bits, fingerprint)
        digest = Digest(bits, fingerprint)
        digest.add(found, table)
        said = (parquet.metadata.metadata or {}).get(b"ssah.sha256", b"")
        if digest.hexdigest().encode() != said:
            raise CodeFileError(
                f"{one_line(path)}: found a damaged file (its rows have not the sha256 "
                "that it says), expected what `ssah encode` wrote; encode again"
            )
        return table, found


def _check_schema(path: Path, theirs: Any) -> tuple[int, str]:
    """Bits and fingerprint of a file."""
    import pyarrow as pa

    metadata = theirs.metadata or {}
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
    for field in schema(bits, ""):
        column = theirs.get_field_index(field.name)
        kind = theirs.field(column).type if column >= 0 else None
        if kind != field.type and not (
            pa.types.is_list(field.type) and str(kind) == "list<element: string>"
        ):
            raise CodeFileError(
                f"{one_line(path)}: found {kind or 'no column'} for {field.name!r}, "
                f"expected {field.type}"
            )
    return bits, found["fingerprint"]
