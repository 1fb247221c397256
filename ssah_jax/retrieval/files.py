"""Where codes and indices lie: names and shards of files, errors, writing in safety."""

import contextlib
import glob
import os
import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

PathLike = str | os.PathLike[str]

_SHARD: Final = re.compile(r"(.*)-(\d{5,})-of-(\d{5,})", re.DOTALL)


class CodeFileError(ValueError):
    """A file of codes, or an index of them, that cannot be used; one line."""


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


def temporary_path(path: Path) -> Path:
    """Where to write what is to replace `path` once it is complete.

    Hidden, beside it, of this process alone. What processes of this machine left there
    when they were killed is removed.
    """
    start = f".{path.name}.{platform.node()}-"
    for left in path.parent.glob(f"{glob.escape(start)}*.tmp"):
        process = left.name.removeprefix(start).removesuffix(".tmp")
        if process.isdecimal() and not _runs(int(process)):
            left.unlink(missing_ok=True)
    return path.with_name(f"{start}{os.getpid()}.tmp")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see the old content or the new, never half."""
    data = content.encode() if isinstance(content, str) else content
    temporary = temporary_path(path)
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of somebody else
        return True
    return True


def unusable(path: Path, error: Exception, expected: str) -> CodeFileError:
    """The error that says in one line why a file cannot be used."""
    reason = (isinstance(error, OSError) and error.strerror) or error
    return CodeFileError(
        f"{one_line(path)}: found {type(error).__name__} ({one_line(str(reason))}), "
        f"expected {expected}"
    )


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


def find_files(path: Path) -> list[Path]:
    """The files of codes that a path stands for: itself, its inside, or its shards."""
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


def check_shards(files: Sequence[Path]) -> None:
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


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keeps other processes from writing the same file, which would mix their rows."""
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise CodeFileError(
            f"{one_line(path)}: another process is writing it, accepted is one "
            "at a time"
        ) from error
    except OSError as error:
        raise unusable(path, error, "a place to write to") from error
    try:
        yield
    finally:
        # While it is held: what others open from here on is a new one.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
