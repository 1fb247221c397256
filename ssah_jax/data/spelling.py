"""The files that a list of names means, whatever way it spells them."""

import dataclasses
import itertools
import os
import pathlib
import stat
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from ssah_jax.data.formats import image_suffixes
from ssah_jax.data.source import DataError
from ssah_jax.retrieval.files import one_line

_MANY = 64
"""Files of one folder from which on reading the folder is cheaper."""


@dataclasses.dataclass(frozen=True, eq=False)
class FoundFiles:
    """What became of a list of file names.

    Attributes:
        names: N of them, as the disk spells them, relative to the root where they lie
            below it; missing ones as they were given.
        first: `[N]`, the index of the first name of the same file: i itself for a file
            that no earlier name means; -1 where there is no file.
        notes: what was understood otherwise than it was spelled.
    """

    names: tuple[str, ...]
    first: Int64[np.ndarray, "N"]
    notes: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The names that no file has."""
        return tuple(self.names[i] for i in np.flatnonzero(self.first < 0).tolist())


def find_files(root: pathlib.Path, names: Sequence[str]) -> FoundFiles:
    """Finds the files that a list means, whatever way it spells them.

    A name without a file is also tried with `/` for its backslashes, then in the case
    and the Unicode form of what is on the disk, where just one file is like that. Two
    names are of one file if the file system says so: links, `a//b`, `./a`, an absolute
    and a relative path.

    Args:
        root: a folder.
        names: N files, relative to it or absolute.
    """
    spelling = _Spelling(root)
    found, first = list(names), np.full(len(names), -1, np.int64)
    index_of: dict[object, int] = {}
    mended: Counter[str] = Counter()
    identities = _identities(spelling.root, names)
    for index, (name, identity) in enumerate(zip(names, identities, strict=True)):
        if identity is None and (other := spelling.mend(name)):
            found[index], how = other
            mended[how] += 1
            identity = file_identity(os.path.join(spelling.root, found[index]))
        if identity is not None:
            first[index] = index_of.setdefault(identity, index)
            found[index] = spelling.plain(found[index])
    notes = tuple(f"{count:,} paths {how}" for how, count in mended.items())
    return FoundFiles(tuple(found), first, notes)


def _identities(root: str, names: Sequence[str]) -> list[object | None]:
    """`file_identity` of each of N files, relative to `root` or absolute.

    A folder of which many are asked for is read once: of two million files on a
    network's disk that is seconds, where asking for each would be an hour.
    """
    found: list[object | None] = [None] * len(names)
    asked: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        asked.setdefault(name.rpartition("/")[0], []).append(index)
    for folder, indices in asked.items():
        listed: dict[str, object] = {}
        if len(indices) >= _MANY:
            listed = _some_files(os.path.join(root, folder), 10 * len(indices))
        for index in indices:
            known = listed.get(names[index].rpartition("/")[2])
            # Asked for alone where it is a link, or the folder is larger.
            found[index] = known or file_identity(os.path.join(root, names[index]))
    return found


def _some_files(folder: str, most: int) -> dict[str, object]:
    """Identities of the files, not links, among a folder's first `most` entries."""
    try:
        device = os.stat(folder).st_dev
        with os.scandir(folder) as entries:
            return {
                entry.name: (device, inode)
                for entry in itertools.islice(entries, most)
                if entry.is_file(follow_symlinks=False) and (inode := entry.inode())
            }
    except OSError:
        return {}


def file_identity(path: str) -> object | None:
    """What all names of one file have in common; None where there is no file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    # Some network and Windows file systems number nothing.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


class _Spelling:
    """Names below a folder, as the disk spells them."""

    def __init__(self, root: pathlib.Path) -> None:
        # Strings, not paths: joining these would take longer than asking for files.
        self.root = os.fspath(root)
        self._absolute = os.path.join(os.path.abspath(self.root), "")
        self._entries: dict[str, dict[str, list[str]]] = {}

    def plain(self, name: str) -> str:
        """The same file without `./`, `//` and, below the root, without the root."""
        # Most of a million names are plain, and a look is quicker than taking apart.
        if name[:1] not in ("/", ".") and "//" not in name and "/." not in name:
            return name
        if os.path.isabs(name) and name.startswith(self._absolute):
            name = name[len(self._absolute) :]
        parts = name.split("/")
        # Behind a link, `..` is not what it looks like.
        if ".." in parts or not ("" in parts[1:] or "." in parts):
            return name
        return os.path.normpath(name)

    def mend(self, name: str) -> tuple[str, str] | None:
        """The one file that a name must mean, and how it was told."""
        slashes = name.replace("\\", "/")
        if slashes != name and self._is_file(slashes):
            return slashes, "with / for \\"
        folder, components = ("/", slashes[1:]) if slashes[:1] == "/" else ("", slashes)
        result = folder
        for component in components.split("/"):
            if component in ("", ".", ".."):
                result = os.path.join(result, component) if component else result
                continue
            alike = self._alike(os.path.join(self.root, result), component)
            if len(alike) != 1:
                return None
            result = os.path.join(result, alike[0])
        if not self._is_file(result):
            return None
        return result, "spelled as on the disk (upper and lower case, or Unicode)"

    def _is_file(self, name: str) -> bool:
        return os.path.isfile(os.path.join(self.root, name))

    def _alike(self, folder: str, component: str) -> Sequence[str]:
        if folder not in self._entries:
            entries: dict[str, list[str]] = {}
            try:
                listed = os.listdir(folder)
            except (OSError, ValueError):
                listed = []
            for entry in listed:
                entries.setdefault(_folded(entry), []).append(entry)
            self._entries[folder] = entries
        alike = self._entries[folder].get(_folded(component), [])
        return [component] if component in alike else alike


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def check_missing(
    root: pathlib.Path, found: FoundFiles, *, max_missing: float, where: str
) -> None:
    """Checks that not too many of the listed files are absent.

    Args:
        root: the folder that names are relative to.
        found: of `find_files`.
        max_missing: share of them that may be absent, in [0, 1].
        where: what lists them, for the message.

    Raises:
        DataError: more than `max_missing` are absent.
        ValueError: `max_missing` is no share.
    """
    if not 0 <= max_missing <= 1:
        raise ValueError(f"max_missing: found {max_missing}, expected a share, 0 to 1")
    missing = found.missing
    if missing and len(missing) / len(found.names) > max_missing:
        why = _why_missing(root, missing[0])
        raise DataError(
            f"{where}: found {len(missing)} of {len(found.names)} listed images "
            f"missing (first {one_line(missing[0])}{why}), accepted is a share of at "
            f"most {max_missing}"
        )


def _why_missing(root: pathlib.Path, name: str) -> str:
    """What is there instead, for the end of a message; empty where nothing is like it.

    Only told, not taken: another file of nearly the same name may be another image.
    """
    slashes = name.replace("\\", "/")
    last = slashes.rpartition("/")[2]
    stem = os.path.splitext(last)[0]
    folder = os.path.join(os.fspath(root), slashes.rpartition("/")[0])
    if name[1:3] in (":\\", ":/"):
        return ", which is a path of Windows; make paths relative to the table or list"
    inside = slashes.lstrip("/")
    if inside not in (slashes, last) and os.path.isfile(root / inside):
        return f"; {one_line(inside)} is there, without the slash in front"
    if last != slashes and os.path.isfile(root / last):
        return f"; {one_line(last)} lies directly in {one_line(root)}"
    if not os.path.isdir(folder):
        above = f"; there is no folder {one_line(folder)}"
        return above + ": data.images says which one paths are relative to"
    for other in image_suffixes():
        for near in (stem + other, last + other):
            if near != last and os.path.isfile(os.path.join(folder, near)):
                return f"; {one_line(near)} is there"
    return ""
