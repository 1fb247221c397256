"""Features of images by a frozen backbone: computed once, kept in a directory.

features.json   what they are features of, and by what; only a complete directory has it
features.npy    `[N, D]`, float16 or float32; of V > 1 views of each image `[N, V, D]`
labels.npy      multi-hot labels, uint8 `[N, C]`
parts.npz       the indices of each part
names.json      of the N images, empty where they have none
data.json       what was understood of the data set, for people

Until it is complete the directory is a hidden one beside its place, with
`progress.json` instead of the last four.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from ssah_jax.data.memory import DecodedImages
from ssah_jax.data.sealed import unsealed
from ssah_jax.data.source import DataError, ImageSequence, Source
from ssah_jax.retrieval.files import one_line

STORED: Final = ("float16", "float32")
"""Types that features are kept in."""

VERSION: Final = 2
"""Of the layout of a directory."""

TRAILER: Final = ("labels.npy", "parts.npz", "names.json")
"""Files whose digests `features.json` has besides."""

_SAMPLE: Final = 16


@dataclasses.dataclass(frozen=True)
class FeatureOrigin:
    """What features depend on. Two directories with equal ones hold equal features.

    Attributes:
        backbone: its config word.
        weights_sha256: of the file of its weights.
        image_size: images were resized to so many pixels a side; 0 for as they were.
        dtype: of the computation.
        stored: of the features, one of `STORED`.
        source: name of the data set.
        source_digest: `source_digest` of it.
        crop_size: side of the middle of an image that was looked at; 0 for all.
        resize: how the data set makes images square.
        views: of each image, V.
        view_recipe: a digest of how those after the first are drawn; empty for one.
    """

    backbone: str
    weights_sha256: str
    image_size: int
    dtype: str
    stored: str
    source: str
    source_digest: str
    crop_size: int
    resize: str
    views: int = 1
    view_recipe: str = ""

    def check_same(self, other: "FeatureOrigin", where: str, advice: str) -> None:
        """Check that features that are there are those that are wanted.

        Raises:
            DataError: they are not; one line with the first field that differs.
        """
        for name, wanted in dataclasses.asdict(self).items():
            found = getattr(other, name)
            if found != wanted:
                raise DataError(
                    f"{where}: holds features of another {name.replace('_', ' ')}: "
                    f"found {found!r:.22}, wanted {wanted!r:.22}; {advice}"
                )


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureInfo:
    """What `features.json` says.

    Attributes:
        origin: what the features depend on.
        weights: where the weights came from, in the words that were given.
        width: D.
        sha256: of `features.npy`.
        others: sha256 of the other files, by name.
        config: the configuration that the images were loaded by.
        class_names: of the C classes.
        multi_label: whether an image may show several.
        missing: names of images that the data set lists and the disk lacked.
        unreadable: why an image could not be read, by its index; its row is zero.
        versions: of what computed them.
    """

    origin: FeatureOrigin
    weights: str
    width: int
    sha256: str
    others: Mapping[str, str]
    config: Mapping[str, Any]
    class_names: tuple[str, ...]
    multi_label: bool
    missing: tuple[str, ...]
    unreadable: Mapping[int, str]
    versions: Mapping[str, str]


def source_digest(source: Source) -> str:
    """SHA-256 of a data set's own digest, and of the pixels of a few of its images.

    Names and labels do not tell, say, one generated data set from another.
    """
    digest = hashlib.sha256(source.digest.encode())
    for index in np.linspace(0, len(source) - 1, min(_SAMPLE, len(source))).tolist():
        with contextlib.suppress(DataError):
            digest.update(np.ascontiguousarray(source.images[round(index)]).tobytes())
    return digest.hexdigest()


def read_feature_info(path: str | os.PathLike[str]) -> FeatureInfo:
    """What a directory of features says of itself.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = Path(os.path.abspath(path))
    where = one_line(path)
    if not (path / "features.json").is_file():
        if path.with_name(f".{path.name}.partial").is_dir():
            raise DataError(
                f"{where}: found unfinished features, expected finished ones; the same "
                "command `ssah features` goes on"
            )
        raise DataError(
            f"{where}: found no features.json, expected a directory that "
            "`ssah features` wrote"
        )
    try:
        values = json.loads((path / "features.json").read_text())
        if values["version"] != VERSION:
            raise ValueError("another version")
        values = unsealed(values)
        del values["version"]
        values["origin"] = FeatureOrigin(**values["origin"])
        for name in ("class_names", "missing"):
            values[name] = tuple(values[name])
        values["unreadable"] = {int(k): v for k, v in values["unreadable"].items()}
        return FeatureInfo(**values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(where, "features.json", error) from error


def features_source(path: str | os.PathLike[str]) -> Source:
    """A data set whose images are the features that `ssah features` wrote.

    Args:
        path: the directory.

    Returns:
        The data set that they are features of, its images float `[N, V, 1, D]`,
        mapped from the file: V views of each, as `ssah_jax.method.stored_views` tells
        them apart, the first of them the image itself. Images that could not be read
        then cannot be read now.

    Raises:
        DataError: no such directory, or it is damaged: all files are read once, to see
            that they are what was written.
    """
    path = Path(os.path.abspath(path))
    info = read_feature_info(path)
    name = "features.npy"
    try:
        for each, sha256 in {**info.others, name: info.sha256}.items():
            name = each
            if file_sha256(path / name) != sha256:
                raise ValueError("its sha256 is not that of what was written")
        features = np.load(path / name, mmap_mode="r", allow_pickle=False)
        name = "labels.npy"
        labels = np.load(path / name, allow_pickle=False).astype(np.float32)
        wanted = stored_shape(len(labels), info.origin.views, info.width)
        if features.shape != wanted or features.dtype != info.origin.stored:
            raise ValueError(
                f"{features.dtype} {features.shape}, not {info.origin.stored} {wanted}"
            )
        name = "parts.npz"
        with open(path / name, "rb") as file, np.load(file, allow_pickle=False) as all_:
            parts = {part: all_[part] for part in all_.files}
        name = "names.json"
        names = tuple(json.loads((path / name).read_text()))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(one_line(path), name, error) from error
    array = features.reshape(len(labels), info.origin.views, 1, info.width)
    images: ImageSequence = array
    if info.unreadable:
        bad = {index: DataError(reason) for index, reason in info.unreadable.items()}
        images = DecodedImages(array, bad)
    return Source(
        name=f"{info.origin.source}/{info.origin.backbone}",
        images=images,
        labels=labels,
        parts=parts,
        class_names=info.class_names,
        multi_label=info.multi_label,
        missing=info.missing,
        names=names,
        content=info.sha256,
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_shape(number: int, views: int, width: int) -> tuple[int, ...]:
    """The shape of `features.npy`."""
    return (number, width) if views == 1 else (number, views, width)


def _damaged(where: str, name: str, error: Exception) -> DataError:
    reason = " ".join(str(error).split())
    return DataError(
        f"{where}: found a damaged {name} ({type(error).__name__}: {reason:.80}), "
        "expected what `ssah features` wrote; delete the directory and run it again"
    )
