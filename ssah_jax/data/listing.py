"""What all data sets share that list their image files: from a list to a source."""

import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64

from ssah_jax.data.images import Resize, image_files, printable
from ssah_jax.data.source import DataError, Source

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


def drop_missing(
    root: pathlib.Path, names: Sequence[str], *, max_missing: float, where: str
) -> tuple[Int64[np.ndarray, "n"], tuple[str, ...]]:
    """Tells the listed files that are there from those that are not.

    Args:
        root: a folder.
        names: N files, relative to it or absolute.
        max_missing: share of them that may be absent, in [0, 1].
        where: what lists them, for the message.

    Returns:
        The indices of those that are there, increasing, `[n]` in 0 .. N - 1, and the
        names of the others.

    Raises:
        DataError: more than `max_missing` are absent.
        ValueError: `max_missing` is no share.
    """
    if not 0 <= max_missing <= 1:
        raise ValueError(f"max_missing: found {max_missing}, expected a share, 0 to 1")
    is_there = _which_are_there(os.fspath(root), names)
    missing = tuple(names[index] for index in np.flatnonzero(~is_there).tolist())
    if missing and len(missing) / len(names) > max_missing:
        raise DataError(
            f"{where}: found {len(missing)} of {len(names)} listed images missing "
            f"(first {printable(missing[0])}), accepted is a share of at most "
            f"{max_missing}"
        )
    return np.flatnonzero(is_there).astype(np.int64), missing


def _which_are_there(root: str, names: Sequence[str]) -> Bool[np.ndarray, "N"]:
    """Whether each of N files is there, relative to `root` or absolute.

    A folder of which many are asked for is read once: of two million files on a
    network's disk that is seconds, where asking for each would be an hour.
    """
    found = np.zeros(len(names), bool)
    asked: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        asked.setdefault(name.rpartition("/")[0], []).append(index)
    for folder, indices in asked.items():
        listed: set[str] = set()
        if len(indices) >= _MANY:
            listed = _some_files(os.path.join(root, folder), 10 * len(indices))
        found[indices] = [
            # Asked for again where the spelling may differ, or the folder is larger.
            names[index].rpartition("/")[2] in listed
            or os.path.isfile(os.path.join(root, names[index]))
            for index in indices
        ]
    return found


def _some_files(folder: str, most: int) -> set[str]:
    """The names of files in a folder, of its first `most` entries."""
    try:
        with os.scandir(folder) as entries:
            return {e.name for e in itertools.islice(entries, most) if e.is_file()}
    except OSError:
        return set()


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
) -> Source:
    """The source of a list of image files, without those that the disk lacks.

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

    Returns:
        A source whose pool is the files that are there, in the order listed.

    Raises:
        DataError: more than `max_missing` of all files, or all of a part, are absent.
    """
    present, missing = drop_missing(root, files, max_missing=max_missing, where=where)
    is_there = np.zeros(len(files), bool)
    is_there[present] = True
    position = np.cumsum(is_there) - 1
    kept: dict[str, np.ndarray] = {}
    for part, indices in parts.items():
        kept[part] = position[indices[is_there[indices]]].astype(np.int64)
        # An empty part would read as one that was never given.
        if len(indices) and not len(kept[part]):
            raise DataError(
                f"{where}: found none of the {len(indices)} images of part {part!r} "
                f"below {printable(str(root))}, expected at least one"
            )
    return Source(
        name=name,
        images=image_files(
            root,
            tuple(files[index] for index in present.tolist()),
            size=size,
            resize=resize,
            channels=channels,
        ),
        labels=labels[present],
        parts=kept,
        class_names=tuple(class_names),
        multi_label=multi_label,
        missing=missing,
    )
