"""Image files of a folder, and what else lies there and is passed over."""

import os
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from ssah_jax.data.formats import image_suffixes, unread_pictures
from ssah_jax.data.source import DataError
from ssah_jax.retrieval.files import one_line

_RUBBISH: Final = (
    *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@tmp"),
    *("__MACOSX", "Icon\r", "Network Trash Folder", "Temporary Items"),
    *("$RECYCLE.BIN", "RECYCLER", "System Volume Information"),
    *("Thumbs.db", "ehthumbs.db", "desktop.ini"),
    *("lost+found", "__pycache__"),
)
"""What file systems, archives and desktops leave behind, in any case of its letters."""

_RUBBISH_NAMES: Final = {name.casefold(): one_line(name) for name in _RUBBISH}
_MAX_KINDS: Final = 8


class PassedOver:
    """What was not taken for an image or for a folder of images, by kind."""

    def __init__(self) -> None:
        """Starts with nothing."""
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        """How many files or folders of each kind, most first.

        Kinds are a name of rubbish (`@eaDir`), a suffix (`.txt`), or words.
        """
        return dict(sorted(self._counts.items(), key=lambda item: (-item[1], item[0])))

    def add(self, kind: str) -> None:
        """Counts one more of a kind."""
        self._counts[kind] += 1

    def update(self, other: "PassedOver") -> None:
        """Adds what another one counted."""
        self._counts.update(other._counts)

    def rubbish(self, name: str) -> bool:
        """Whether a file or folder is hidden or of a file system; then counts it."""
        if name.casefold() in _RUBBISH_NAMES:
            self.add(_RUBBISH_NAMES[name.casefold()])
        elif name.startswith("."):
            self.add("hidden")
        else:
            return False
        return True

    def other_file(self, name: str) -> None:
        """Counts a file that is no image by its suffix."""
        suffix = os.path.splitext(name)[1].lower()
        self.add(one_line(suffix) if 1 < len(suffix) < 12 else "without a suffix")


def describe_passed_over(counts: Mapping[str, int]) -> str:
    """Kinds and their numbers in one phrase, pictures that are not read first.

    Args:
        counts: of `PassedOver`.

    Returns:
        Such as `12 .heic (pip install 'ssah-jax[heic]' reads them), 3 @eaDir`; empty
        of nothing.
    """
    pictures, others = [], []
    for kind, count in counts.items():
        what_to_do = unread_pictures(kind)
        if what_to_do:
            pictures.append(f"{count} {kind} ({what_to_do})")
        else:
            others.append(f"{count} {kind}")
    rest = len(others) - _MAX_KINDS
    more = [f"{rest} other kinds"] if rest > 0 else []
    return ", ".join(pictures + others[:_MAX_KINDS] + more)


def find_images(
    directory: pathlib.Path,
    *,
    recursive: bool = True,
    passed_over: PassedOver | None = None,
) -> list[str]:
    """Finds image files by their suffix.

    Hidden files and folders (`.ipynb_checkpoints`, macOS's `._x.jpg`) and what file
    systems leave behind (`@eaDir`, `lost+found`) are left out. Links are followed, but
    never into a folder that they lie in; those that lead nowhere are left out.

    Args:
        directory: where to look.
        recursive: whether to look in its folders too.
        passed_over: counts what is left out.

    Returns:
        Names relative to `directory`, with `/` between folders, sorted by their bytes,
        so that the order is the same on every machine; names that are not UTF-8 carry
        surrogate escapes. Suffixes are `image_suffixes()`, in any case.

    Raises:
        DataError: `directory` or a folder in it cannot be read.
    """
    passed_over = passed_over if passed_over is not None else PassedOver()
    suffixes = image_suffixes()
    found: list[str] = []
    # Folders yet to be read: path, prefix of names, identities of those it lies in.
    pending: list[tuple[str, str, frozenset[tuple[int, int]]]] = [
        (os.fspath(directory), "", frozenset())
    ]
    while pending:
        path, prefix, parents = pending.pop()
        try:
            status = os.stat(path)
            identity = (status.st_dev, status.st_ino)
            if identity in parents:
                passed_over.add("links in a circle")
                continue
            with os.scandir(path) as scanned:
                entries = list(scanned)
        except OSError as error:
            raise DataError(
                f"{one_line(path)}: found {error.strerror}, expected a readable folder"
            ) from error
        if prefix and not entries:
            passed_over.add("empty folders")
        for entry in entries:
            is_folder = _is_folder(entry)
            if is_folder and not recursive:
                continue
            if passed_over.rubbish(entry.name):
                continue
            if is_folder:
                name = f"{prefix}{entry.name}/"
                pending.append((entry.path, name, parents | {identity}))
            elif not entry.name.lower().endswith(suffixes):
                passed_over.other_file(entry.name)
            elif _is_file(entry):
                found.append(prefix + entry.name)
            else:
                passed_over.add("links that lead nowhere")
    return sorted(found, key=os.fsencode)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one.

    Without asking the disk for each of a million files; only os.path says no to a link
    that loops, where the entry's own test raises.
    """
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a regular file, or a link to one; see `_is_folder`."""
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()


def folders_in(directory: pathlib.Path, passed_over: PassedOver) -> Iterator[str]:
    """The folders in `directory` that may hold images, sorted by name.

    Args:
        directory: where to look, not below.
        passed_over: counts folders that are hidden or rubbish.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if _is_folder(entry))
    except OSError as error:
        raise DataError(
            f"{one_line(directory)}: found {error.strerror}, expected a readable folder"
        ) from error
    for name in names:
        if not passed_over.rubbish(name):
            yield name
