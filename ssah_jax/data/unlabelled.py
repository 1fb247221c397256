"""Images of which nobody says what they show: to learn from, not to measure by."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import numpy as np

from ssah_jax.data.finding import PassedOver, describe_passed_over, find_images
from ssah_jax.data.images import Resize, printable
from ssah_jax.data.listing import UNLABELLED, listed_source
from ssah_jax.data.source import DataError, Source

Labels = Literal["auto", "none"]
"""Whether a folder or a table is looked at for labels, or has none."""

ADVICE: Final = "; data.labels=none takes all images as they are, without labels"
"""For messages about labels that nobody finds."""


def unlabelled_source(
    name: str,
    *,
    root: pathlib.Path,
    files: Sequence[str],
    where: str,
    size: int,
    resize: Resize,
    channels: int,
    max_missing: float = 0.0,
    place: Callable[[int], str] | None = None,
    passed_over: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
) -> Source:
    """A source without classes, all of whose images are in part `unlabelled`.

    Args:
        name: as of `listing.listed_source`, like all others.
        root: likewise.
        files: likewise.
        where: likewise.
        size: likewise.
        resize: likewise.
        channels: likewise.
        max_missing: likewise.
        place: likewise.
        passed_over: likewise.
        notes: likewise.

    Raises:
        DataError: more than `max_missing` of all files are absent.
    """
    return listed_source(
        name,
        root=root,
        files=files,
        labels=np.zeros((len(files), 0), np.float32),
        parts={UNLABELLED: np.arange(len(files))},
        class_names=(),
        multi_label=False,
        max_missing=max_missing,
        where=where,
        size=size,
        resize=resize,
        channels=channels,
        place=place,
        passed_over=passed_over,
        notes=notes,
    )


def unlabelled_folder(
    path: pathlib.Path, *, size: int, resize: Resize, channels: int
) -> Source:
    """All images below a folder, whatever its folders are called.

    Args:
        path: the folder.
        size: as of `folder.image_folder`.
        resize: likewise.
        channels: likewise.

    Raises:
        DataError: there is no image, or a folder cannot be read.
    """
    where = printable(str(path))
    passed_over = PassedOver()
    files = find_images(path, passed_over=passed_over)
    if not files:
        aside = describe_passed_over(passed_over.counts)
        raise DataError(
            f"{where}: found no images{f' ({aside})' if aside else ''}, expected some"
        )
    return unlabelled_source(
        "folder",
        root=path,
        files=files,
        where=where,
        size=size,
        resize=resize,
        channels=channels,
        passed_over=passed_over.counts,
    )
