"""Images of which nobody says what they show: to learn from, not to measure by."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from ssah_jax.data.finding import PassedOver, describe_passed_over, find_images
from ssah_jax.data.images import Resize
from ssah_jax.data.listing import UNLABELLED, listed_source
from ssah_jax.data.source import DataError, Source
from ssah_jax.retrieval.files import one_line

Labels = Literal["auto", "none"]
"""Whether a folder or a table is looked at for labels, or has none."""

ADVICE: Final = "; data.labels=none takes all images as they are, without labels"
"""For messages about labels that nobody finds."""


class Labelling(NamedTuple):
    """What is known of N listed images, as `listing.listed_source` takes it.

    Attributes:
        labels: multi-hot `[N, C]`.
        parts: rows of each, by name.
        class_names: of the C classes.
        multi_label: whether an image may show several.
    """

    labels: Float32[np.ndarray, "N C"]
    parts: Mapping[str, Int64[np.ndarray, "n"]]
    class_names: Sequence[str]
    multi_label: bool


def without_labels(number: int) -> Labelling:
    """Of so many images nothing: no classes, and all in part `unlabelled`."""
    return Labelling(
        labels=np.zeros((number, 0), np.float32),
        parts={UNLABELLED: np.arange(number)},
        class_names=(),
        multi_label=False,
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
    where = one_line(path)
    passed_over = PassedOver()
    files = find_images(path, passed_over=passed_over)
    if not files:
        aside = describe_passed_over(passed_over.counts)
        raise DataError(
            f"{where}: found no images{f' ({aside})' if aside else ''}, expected some"
        )
    known = without_labels(len(files))
    return listed_source(
        "folder",
        root=path,
        files=files,
        labels=known.labels,
        parts=known.parts,
        class_names=known.class_names,
        multi_label=known.multi_label,
        max_missing=0.0,
        where=where,
        size=size,
        resize=resize,
        channels=channels,
        passed_over=passed_over.counts,
    )
