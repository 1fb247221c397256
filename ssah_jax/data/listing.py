"""What all data sets share that list their image files: from a list to a source."""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64

from ssah_jax.data.encoded import image_files
from ssah_jax.data.images import Resize
from ssah_jax.data.source import DataError, Source
from ssah_jax.data.spelling import check_missing, find_files
from ssah_jax.retrieval.files import one_line

UNLABELLED = "unlabelled"
"""The part of images whose labels nobody knows."""


def read_bytes(file: pathlib.Path) -> bytes:
    """The content of `file`.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(
            f"{one_line(file)}: found {error.strerror}, expected a readable file"
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
            f"{one_line(root)}: found no such folder, expected that of the images"
        )
    return root


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
    unknown = np.zeros(len(first), bool)
    unknown[parts.get(UNLABELLED, np.zeros(0, np.int64))] = True

    def call(index: int) -> str:
        return one_line(files[index]) + (f" ({place(index)})" if place else "")

    labels, unknown = _labels_of_files(labels, unknown, first, call=call, where=where)
    rows = np.flatnonzero(first == np.arange(len(first)))
    again = int(np.sum(first >= 0)) - len(rows) - len(copies or {})
    several = [f"{again:,} further names of the same files"] if again else []

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
        parts=_parts_of_files(parts, first, unknown, where=where, root=root),
        class_names=tuple(class_names),
        multi_label=multi_label,
        missing=found.missing,
        passed_over=passed_over or {},
        notes=(*notes, *found.notes, *several),
        place=kept_place if place else None,
    )


def _labels_of_files(
    labels: Float32[np.ndarray, "N C"],
    unknown: Bool[np.ndarray, "N"],
    first: Int64[np.ndarray, "N"],
    *,
    call: Callable[[int], str],
    where: str,
) -> tuple[Float32[np.ndarray, "N C"], Bool[np.ndarray, "N"]]:
    """Labels of names, and which have none, once each file has those of all its names.

    Args:
        labels: by name.
        unknown: names without labels.
        first: as of `FoundFiles`.
        call: how messages call a name.
        where: what lists them, for messages.

    Raises:
        DataError: a file has other labels by another name.
    """
    labels, untold = labels.copy(), unknown.copy()
    again = np.flatnonzero((first >= 0) & (first != np.arange(len(first))) & ~unknown)
    # Where nothing differs there is nothing to do, and there may be a million of them.
    differs = np.any(labels[again] != labels[first[again]], axis=1)
    for index in again[differs | unknown[first[again]]].tolist():
        kept = int(first[index])
        if untold[kept]:
            labels[kept], untold[kept] = labels[index], False
        elif np.any(labels[kept] != labels[index]):
            raise DataError(
                f"{where}: found one file by two names, {call(kept)} and "
                f"{call(index)}, with other labels by the second, expected one of them "
                "or the same labels"
            )
    return labels, untold


def _parts_of_files(
    parts: Mapping[str, Int64[np.ndarray, "n"]],
    first: Int64[np.ndarray, "N"],
    unknown: Bool[np.ndarray, "N"],
    *,
    where: str,
    root: pathlib.Path,
) -> dict[str, Int64[np.ndarray, "m"]]:
    """Parts as indices of the files that are there, each file once.

    Raises:
        DataError: no file of a part is there.
    """
    keeps = first == np.arange(len(first))
    position = np.cumsum(keeps) - 1
    kept: dict[str, np.ndarray] = {}
    for part, indices in parts.items():
        members = first[indices[first[indices] >= 0]]
        # An empty part would read as one that was never given.
        if len(indices) and not len(members):
            raise DataError(
                f"{where}: found none of the {len(indices)} images of part {part!r} "
                f"below {one_line(root)}, expected at least one"
            )
        if part == UNLABELLED:
            members = members[unknown[members]]
        if len(members):
            in_part = np.zeros(int(keeps.sum()), bool)
            in_part[position[members]] = True
            kept[part] = np.flatnonzero(in_part).astype(np.int64)
    return kept
