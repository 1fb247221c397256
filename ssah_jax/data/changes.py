"""What changed among image files since they were encoded.

A file is taken for unchanged where its size and its time of modification are what they
were. Where they are not, or the name is new, its content decides: files that were
renamed, copied or only touched need not be encoded again.
"""

import hashlib
import os
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ssah_jax.data.encoded import image_files
from ssah_jax.data.source import DataError
from ssah_jax.retrieval.code_columns import DIGEST_BYTES, Stamp

_COARSE_NS: Final = 2_000_000_000
"""The coarsest step of a file system's clock: FAT's."""


class FileState(NamedTuple):
    """Size and time of modification of a file, as in `Stamp`."""

    size: int
    modified: int


class Changes(NamedTuple):
    """How images relate to those that were encoded earlier.

    Attributes:
        rows: of each image that is known, by name: the earlier row with its code.
        stamps: of the same images, as their files are now.
        new: images whose content was not there before.
        changed: of names that were there before, their content is another.
        unchanged: the same name with the same content.
        renamed: known by another name, which is gone.
        copied: known by another name, which is still there.
        gone: names that are no more, and were not renamed.
    """

    rows: dict[str, int]
    stamps: dict[str, Stamp]
    new: int
    changed: int
    unchanged: int
    renamed: int
    copied: int
    gone: int


def digest(content: bytes) -> bytes:
    """BLAKE2b of a file's content, as in `Stamp`."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def file_states(names: Sequence[str]) -> dict[str, FileState]:
    """Sizes and times of files, asked for before they are read.

    Args:
        names: paths.

    Returns:
        By name; what is no file has none.
    """
    found = {}
    for name in names:
        try:
            status = os.stat(name)
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode):
            old = status.st_mtime_ns < time.time_ns() - _COARSE_NS
            modified = status.st_mtime_ns if old and status.st_mtime_ns >= 0 else -1
            found[name] = FileState(status.st_size, modified)
    return found


def is_same(stamp: Stamp | None, state: FileState | None) -> bool:
    """Whether a file can be told to be what it was without reading it."""
    if stamp is None or state is None:
        return False
    return stamp.modified >= 0 and stamp[:2] == state


def is_other(name: str, stamp: Stamp | None, state: FileState | None) -> bool:
    """Whether a file is not what it was; read only where size and time do not tell."""
    if stamp is None or is_same(stamp, state):
        return False
    if state is None or stamp.size != state.size:
        return True
    return _digest_of(name) != stamp.digest


def stamp_of(state: FileState | None, size: int, content: bytes) -> Stamp:
    """The stamp of a file from its state before it was read, and what was read.

    Args:
        state: None where there was no file yet.
        size: of what was read, in bytes.
        content: its `digest`.
    """
    same = state is not None and state.size == size
    return Stamp(size, state.modified if same and state else -1, content)


def find_changes(
    states: Mapping[str, FileState],
    names: Sequence[str],
    ids: Sequence[str],
    stamps: Sequence[Stamp | None],
) -> Changes:
    """Compares images with those that were encoded earlier.

    Args:
        states: of `file_states` of `names`.
        names: paths of the images that there are now.
        ids: what the N earlier ones were called.
        stamps: of their files, None where not known.

    Returns:
        What became of them. Files are read only where size and time do not tell, and
        only if there was one of the same size.
    """
    row_of = {name: row for row, name in enumerate(ids)}
    now = set(names)
    by_content: dict[tuple[int, bytes], int] = {}
    # Those that are gone first: to be renamed is likelier than to be copied.
    for is_gone in (True, False):
        for number, stamp in enumerate(stamps):
            if stamp is not None and (ids[number] not in now) == is_gone:
                by_content.setdefault((stamp.size, stamp.digest), number)
    sizes = {size for size, _ in by_content}
    rows: dict[str, int] = {}
    current: dict[str, Stamp] = {}
    moved: set[int] = set()
    new = changed = unchanged = copied = 0
    for name in names:
        row, state = row_of.get(name), states.get(name)
        before = None if row is None else stamps[row]
        if row is not None and before is not None and is_same(before, state):
            rows[name], current[name] = row, before
            unchanged += 1
            continue
        known = None
        if state is not None and state.size in sizes:
            known = _digest_of(name)
        if state is None or known is None or (state.size, known) not in by_content:
            new += row is None
            changed += row is not None
            continue
        same = before is not None and before.digest == known
        source = row if same and row is not None else by_content[state.size, known]
        rows[name], current[name] = source, Stamp(*state, known)
        if source == row:
            unchanged += 1
        elif ids[source] not in now and source not in moved:
            moved.add(source)
        else:
            copied += 1
    gone = sum(name not in now for name in ids) - len(moved)
    return Changes(rows, current, new, changed, unchanged, len(moved), copied, gone)


def _digest_of(name: str) -> bytes | None:
    try:
        return digest(image_files(Path(), [name]).encoded(0))
    except DataError:
        return None
