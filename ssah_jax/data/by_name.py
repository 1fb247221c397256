"""Data sets as a run selects them: one word, one function of its fields.

A function's parameters are named like the fields of `config.data` that it reads, and
`seed`; it gets their values.
"""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ssah_jax.data.bundled import digits, idx_directory, synthetic_images
from ssah_jax.data.features import features_source
from ssah_jax.data.folder import image_folder
from ssah_jax.data.images import Resize
from ssah_jax.data.lists import image_lists
from ssah_jax.data.nus_wide import nus_wide_source
from ssah_jax.data.source import Source
from ssah_jax.data.table import image_table
from ssah_jax.data.tfds import tfds_source
from ssah_jax.data.unlabelled import Labels

_TABLES = (".csv", ".tsv", ".parquet")


@dataclasses.dataclass(frozen=True)
class Loader:
    """How a data set is loaded.

    Attributes:
        load: the function.
        path: what `data.path` must name; empty where it may be empty.
    """

    load: Callable[..., Source]
    path: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """What it reads: fields of `config.data`, and `seed`."""
        return tuple(inspect.signature(self.load).parameters)


SOURCES: dict[str, Loader] = {}
"""Accepted words of `config.data.source`."""

Load = TypeVar("Load", bound=Callable[..., Source])


def source(word: str, *, path: str = "") -> Callable[[Load], Load]:
    """Enter a function into `SOURCES`; see `Loader`."""

    def enter(load: Load) -> Load:
        SOURCES[word] = Loader(load, path)
        return load

    return enter


@source("digits")
def _digits() -> Source:
    return digits()


@source("idx")
def _idx(path: str) -> Source:
    return idx_directory(path)


@source("synthetic")
def _synthetic(seed: int, multi_label: bool) -> Source:
    return synthetic_images(seed=seed, multi_label=multi_label)


@source("folder", path="the directory of a 'folder' source")
def _folder(
    path: str,
    images: str,
    separator: str,
    multi_label: bool,
    max_skipped: float,
    image_size: int,
    resize: Resize,
    channels: int,
    labels: Labels,
) -> Source:
    if Path(path).suffix.lower() not in _TABLES:
        return image_folder(
            Path(path),
            size=image_size,
            resize=resize,
            channels=channels,
            labels=labels,
        )
    return image_table(
        Path(path),
        images=images,
        separator=separator,
        multi_label=multi_label,
        max_missing=max_skipped,
        size=image_size,
        resize=resize,
        channels=channels,
        labels=labels,
    )


@source("list", path="the directory of a 'list' source")
def _list(
    path: str,
    images: str,
    multi_label: bool,
    max_skipped: float,
    image_size: int,
    resize: Resize,
    channels: int,
) -> Source:
    return image_lists(
        Path(path),
        images=images,
        multi_label=multi_label,
        max_missing=max_skipped,
        size=image_size,
        resize=resize,
        channels=channels,
    )


@source("nus_wide", path="the directory of a 'nus_wide' source")
def _nus_wide(
    path: str,
    concepts: int,
    images: str,
    max_skipped: float,
    image_size: int,
    resize: Resize,
    channels: int,
) -> Source:
    return nus_wide_source(
        Path(path),
        concepts=concepts,
        images=images,
        max_missing=max_skipped,
        size=image_size,
        resize=resize,
        channels=channels,
    )


@source("tfds")
def _tfds(
    name: str, path: str, label: str, image_size: int, resize: Resize, channels: int
) -> Source:
    return tfds_source(
        name,
        data_dir=path,
        label=label,
        size=image_size,
        resize=resize,
        channels=channels,
    )


@source("features", path="a directory that `ssah features` wrote")
def _features(path: str) -> Source:
    return features_source(Path(path))
