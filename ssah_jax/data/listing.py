"""What all data sets share that list their image files: from a list to a source."""

import dataclasses
import itertools
import os
import pathlib
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Int64

from ssah_jax.data.images import Resize, image_files, image_suffixes, printable
from ssah_jax.data.source import DataError, Source

UNLABELLED = "unlabelled"
"""The part of images whose labels nobody knows."""


_MANY = 64
"""Files of one folder from which on reading the folder is cheaper."""


def read_bytes(file: pathlib.Path) -> bytes:
    """The content of `file`.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(
            f"{printable(str(file))}: found {error.strerror}, expected a readable file"
        ) from error


def image_root(directory: pathlib.Path, images: str) -> pathlib.Path:
    """The folder that listed paths are relative to.

    Args:
        directory: the folder of the list.
        images: another one, absolute or relative to `directory`; empty for
            `directory` itself.

    Raises:
        DataError: there is no such folder.
    """
    root = directory / pathlib.Path(images).expanduser()
    if not root.is_dir():
        raise DataError(
            f"{printable(str(root))}: found no such folder, expected that of the images"
        )
    return root


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
            f"missing (first {printable(missing[0])}{why}), accepted is a share of at "
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
    if last != slashes and os.path.isfile(root / last):
        return f"; {printable(last)} lies directly in {printable(str(root))}"
    if not os.path.isdir(folder):
        above = f"; there is no folder {printable(folder)}"
        return above + ": data.images says which one paths are relative to"
    for other in image_suffixes():
        for near in (stem + other, last + other):
            if near != last and os.path.isfile(os.path.join(folder, near)):
                return f"; {printable(near)} is there"
    return ""


def listed_source(
    name: str,
    *,
    root: pathlib.Path,
    files: Sequence[str],
    labels: Float32[np.ndarray, "N C"],
    parts: Mapping[str, Int64[np.ndarray, "n"]],
    class_names: Sequence[str],
    multi_label: bool,
    max_missing: float,
    where: str,
    size: int,
    resize: Resize,
    channels: int,
    place: Callable[[int], str] | None = None,
    passed_over: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
    copies: Mapping[int, int] | None = None,
) -> Source:
    """The source of a list of image files, each file once, without what the disk lacks.

    A file by several names has to have the same labels by all of them, and is in all
    the parts that these are in; but one that is labelled by any of them is not in part
    `unlabelled`.

    Args:
        name: of the source.
        root: the folder of the images.
        files: N of them, relative to `root` or absolute.
        labels: multi-hot labels in {0, 1}, `[N, C]`.
        parts: increasing indices into `files`, by name.
        class_names: of the C classes.
        multi_label: whether an image may show any number of classes.
        max_missing: share of the files that may be absent, in [0, 1].
        where: what lists them, for messages.
        size: side of the square images delivered, in pixels; 0 as stored.
        resize: how an image becomes square.
        channels: 3 for colour, 1 for grey.
        place: where file i is listed; None for its name alone.
        passed_over: see `Source`.
        notes: see `Source`.
        copies: files that are to count as another name of an earlier one.

    Returns:
        A source whose pool is the files that are there, in the order listed.

    Raises:
        DataError: more than `max_missing` of all files, or all of a part, are absent,
            or a file has other labels by another name.
    """
    found = find_files(root, files)
    check_missing(root, found, max_missing=max_missing, where=where)
    first = found.first.copy()
    for index, earlier in (copies or {}).items():
        first[index] = first[earlier]
    is_there, keeps = first >= 0, first == np.arange(len(first))
    known = np.ones(len(first), bool)
    known[parts.get(UNLABELLED, np.zeros(0, np.int64))] = False
    labels = labels.copy()
    again = np.flatnonzero(is_there & ~keeps)
    told = known.copy()
    # Where nothing differs there is nothing to do, and there may be a million of them.
    differs = np.any(labels[again] != labels[first[again]], axis=1)
    for index in again[known[again] & (differs | ~known[first[again]])].tolist():
        kept = int(first[index])
        if known[index] and not told[kept]:
            labels[kept], told[kept] = labels[index], True
        elif known[index] and np.any(labels[kept] != labels[index]):
            one, other = (
                f"{printable(files[i])}{f' ({place(i)})' if place else ''}"
                for i in (kept, index)
            )
            raise DataError(
                f"{where}: found one file by two names, {one} and {other}, with other "
                "labels by the second, expected one of them or the same labels"
            )
    position = np.cumsum(keeps) - 1
    kept_parts: dict[str, np.ndarray] = {}
    for part, indices in parts.items():
        members = first[indices[is_there[indices]]]
        # An empty part would read as one that was never given.
        if len(indices) and not len(members):
            raise DataError(
                f"{where}: found none of the {len(indices)} images of part {part!r} "
                f"below {printable(str(root))}, expected at least one"
            )
        if part == UNLABELLED:
            members = members[~told[members]]
        if len(members):
            in_part = np.zeros(int(keeps.sum()), bool)
            in_part[position[members]] = True
            kept_parts[part] = np.flatnonzero(in_part).astype(np.int64)
    rows = np.flatnonzero(keeps)
    count = len(again) - len(copies or {})
    several = [f"{count:,} further names of the same files"] if count else []

    def kept_place(index: int) -> str:
        assert place is not None
        names = np.flatnonzero(first == rows[index]).tolist()
        return ", ".join(dict.fromkeys(place(name) for name in names))

    return Source(
        name=name,
        images=image_files(
            root,
            tuple(found.names[index] for index in rows.tolist()),
            size=size,
            resize=resize,
            channels=channels,
        ),
        labels=labels[rows],
        parts=kept_parts,
        class_names=tuple(class_names),
        multi_label=multi_label,
        missing=found.missing,
        passed_over=passed_over or {},
        notes=(*notes, *found.notes, *several),
        place=kept_place if place else None,
    )
