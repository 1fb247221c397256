"""The file of an index: a zip of its header, the rows' names, and FAISS's bytes."""

import contextlib
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from ssah_jax.retrieval.code_columns import from_text_columns, text_columns
from ssah_jax.retrieval.code_files import open_parquet
from ssah_jax.retrieval.files import (
    CodeFileError,
    PathLike,
    one_line,
    synced,
    temporary_path,
    unusable,
)
from ssah_jax.retrieval.index_kinds import (
    CLASSES,
    OPTIONS,
    apply_search_options,
    check_names,
    check_values,
    deserialised,
    faiss_module,
    serialised,
)

_VERSION: Final = 1
_HEADER, _ROWS, _FAISS = "ssah_index.json", "rows.parquet", "faiss.bin"
_PARQUET: Final = b"PAR1"
_EXPECTED: Final = "an index, as `ssah index` writes"


class StoredIndex(NamedTuple):
    """What the file holds.

    Attributes:
        kind: of `KINDS`.
        bits: K.
        fingerprint: of the encoder of the codes.
        ids: names of the N images.
        labels: of each image; None where none are known.
        options: that it was built with, defaults filled in.
        faiss: FAISS's index of them.
    """

    kind: str
    bits: int
    fingerprint: str
    ids: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...] | None
    options: dict[str, int]
    faiss: Any


def write_index(path: PathLike, stored: StoredIndex) -> None:
    """Writes all of it into one file, atomically.

    Args:
        path: replaced if it is there.
        stored: what to write.

    Raises:
        CodeFileError: it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    header = {
        "version": _VERSION,
        "kind": stored.kind,
        "bits": stored.bits,
        "fingerprint": stored.fingerprint,
        "options": stored.options,
    }
    columns = text_columns(stored.ids, stored.labels)
    kinds = {"id": pa.string(), "labels": pa.list_(pa.string())}
    rows = io.BytesIO()
    pq.write_table(pa.Table.from_pydict(columns, schema=pa.schema(kinds)), rows)
    temporary = temporary_path(path)
    try:
        # `ZipInfo` has no time stamp: the file says nothing of when and where.
        with synced(temporary) as file, zipfile.ZipFile(file, "w") as archive:
            for name, content in (
                (_HEADER, json.dumps(header).encode()),
                (_ROWS, rows.getvalue()),
                (_FAISS, serialised(stored.faiss).data),
            ):
                archive.writestr(zipfile.ZipInfo(name), content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unusable(path, error, "a place to write to") from error


def read_index(path: PathLike) -> StoredIndex:
    """What `write_index` wrote, checked before and after FAISS has read it.

    Args:
        path: the file.

    Raises:
        CodeFileError: the file is absent, damaged or something else.
        ValueError: FAISS is not installed.
    """
    import pyarrow as pa

    path = Path(path)
    faiss_module()
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(path, "rb"))
            if file.read(4) == _PARQUET:
                raise CodeFileError(
                    f"{one_line(path)}: found codes, expected an index, which `ssah "
                    "index` makes of them"
                )
            archive = stack.enter_context(zipfile.ZipFile(file))
            size = path.stat().st_size
            for member in archive.infolist():
                # As they are written; others could be larger than memory.
                if member.compress_type or member.file_size > size:
                    raise ValueError(f"a member of {member.file_size} bytes")
            header = json.loads(archive.read(_HEADER))
            if header["version"] != _VERSION:
                raise CodeFileError(
                    f"{one_line(path)}: found version {header['version']!r} of the "
                    f"format, expected {_VERSION}"
                )
            rows = archive.read(_ROWS)
            ids, labels = from_text_columns(
                open_parquet(io.BytesIO(rows), len(rows)).read()
            )
            stored = np.frombuffer(archive.read(_FAISS), np.uint8)
        index = deserialised(stored)
        kind, bits = str(header["kind"]), int(header["bits"])
        options = {name: int(value) for name, value in header["options"].items()}
        check_names(kind, options, [*OPTIONS[kind]])
        check_values(kind, options, count=len(ids), bits=bits)
        found = type(index).__name__, index.d, index.ntotal
        wanted = CLASSES[kind], 8 * -(-bits // 8), len(ids)
        if found != wanted:
            raise ValueError(f"{found} for {wanted}")
        apply_search_options(index, options)
    except CodeFileError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        pa.ArrowException,
        # Of zipfile, of JSON and its values, of FAISS.
        *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError),
        *(RuntimeError, NotImplementedError, MemoryError),
    ) as error:
        raise unusable(path, error, _EXPECTED) from error
    return StoredIndex(
        kind, bits, str(header["fingerprint"]), ids, labels, options, index
    )
