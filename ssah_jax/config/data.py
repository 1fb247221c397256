"""Which images, how they are split, and how many of them a step sees."""

import dataclasses
import os
from typing import get_args

from ssah_jax.config.constraints import at_least, between, either, more_than, one_of
from ssah_jax.config.fields import field, rule, wrong
from ssah_jax.data.by_name import SOURCES
from ssah_jax.data.images import RESIZES
from ssah_jax.data.protocols import PROTOCOLS
from ssah_jax.data.splitting import ON_LEAK
from ssah_jax.data.unlabelled import Labels


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are split."""

    source: str = field(
        "digits",
        'where images come from; "features" are those of images, stored',
        one_of(*SOURCES),
    )
    name: str = field("", 'of a "tfds" data set, such as "cifar10"')
    path: str = field(
        "",
        'of an "idx", "folder", "list" or "nus_wide" source: its directory, or for '
        '"folder" a table of paths and labels (.csv, .tsv, .parquet); of a "tfds" '
        "source, where it was prepared (empty for TFDS's own default); of "
        '"features", the directory of `ssah features`',
    )
    images: str = field(
        "",
        "directory of the images that a list or table names, if not its own; "
        "relative to that",
    )
    label: str = field(
        "", 'name of the label feature of a "tfds" data set that has several'
    )
    separator: str = field("|", "between the labels of an image in a table")
    labels: str = field(
        "auto",
        'of a "folder" source: "auto" takes class folders and the column of a table '
        'for labels, "none" takes all its images without',
        one_of(*get_args(Labels)),
    )
    concepts: int = field(
        21, 'of "nus_wide": the 21 most frequent ones or all 81', either(21, 81)
    )
    image_size: int = field(
        0,
        "images become squares of so many pixels a side when they are read; 0 leaves "
        "them as stored",
        at_least(0),
    )
    resize: str = field(
        "crop",
        'how they do: "crop" (shorter side resized, middle kept) or "squash"',
        one_of(*RESIZES),
    )
    channels: int = field(
        3, "3, or 1 for grey images; of sources that decode files", either(1, 3)
    )
    crop_size: int = field(
        0,
        "weak augmentation cuts a random square of so many pixels a side, evaluation "
        "the middle one; 0 for none",
        at_least(0),
    )
    store: str = field(
        "disk",
        '"disk" reads images when they are asked for, "memory" decodes them once, '
        '"device" also keeps them on every device; results are the same',
        one_of("disk", "memory", "device"),
    )
    threads: int = field(
        0,
        "threads that decode batches ahead, for each stream; 0 for one a core",
        at_least(0),
    )
    on_error: str = field(
        "raise", "what an image that cannot be read does", one_of("raise", "skip")
    )
    max_skipped: float = field(
        0.01,
        "share of images that may be missing or skipped; training stops beyond",
        between(0, 1),
    )
    on_leak: str = field(
        "raise",
        "what queries do that a data set also has in its database or training part: "
        '"drop" takes them out of these',
        one_of(*ON_LEAK),
    )
    protocol: str = field(
        "low_label", "named split; see `ssah_jax.data.protocols`", one_of(*PROTOCOLS)
    )
    num_queries: int = field(
        1000,
        "images that are queries; 0 takes the whole official test part, with protocols "
        "that draw them from it",
        at_least(0),
    )
    num_validation: int = field(1000, "images that are validation queries", at_least(0))
    num_labelled: int = field(
        0, 'labelled images of the protocol "nus_wide_81"', at_least(0)
    )
    unseen_share: float = field(
        0.25,
        'share of classes that the protocol "unseen" holds out',
        between(0, 1, "()"),
    )
    mean: tuple[float, ...] = field(
        (0.5,),
        "mean of each channel in [0, 1]; one value serves all channels",
        between(0, 1),
    )
    std: tuple[float, ...] = field(
        (0.25,), "standard deviation of each channel", more_than(0)
    )
    max_shift: int = field(
        2, "weak augmentation shifts by up to so many pixels", at_least(0)
    )
    flip: bool = field(False, "weak augmentation mirrors half of the images")
    multi_label: bool = field(False, "whether an image may have several labels")

    @property
    def num_threads(self) -> int:
        """Threads that decode, of which 0 asks for one for each core it may use."""
        if self.threads:
            return self.threads
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class BatchConfig:
    """Images in a step, over all devices."""

    labelled: int = field(
        64, "L, labelled images, not 1; 0 learns without any label", at_least(0)
    )
    # Of one image there are no pairs, and batch moments make its code 0.
    unlabelled: int = field(128, "U, unlabelled images", at_least(2))


@rule
def one_image_has_no_pair(batch: BatchConfig) -> None:
    """Raise ConfigError if a batch has a single labelled image."""
    if batch.labelled == 1:
        raise wrong("batch.labelled", 1, "is 0 or at least 2")


@rule
def crop_fits_image(data: DataConfig) -> None:
    """Raise ConfigError if crops are larger than the images that they are cut from."""
    if data.image_size and data.crop_size > data.image_size:
        raise wrong(
            "data.crop_size",
            data.crop_size,
            f"is at most config.data.image_size = {data.image_size}",
        )


@rule
def moments_go_together(data: DataConfig) -> None:
    """Raise ConfigError unless each mean has its standard deviation."""
    if len(data.mean) != len(data.std):
        raise wrong(
            "data.std",
            f"{len(data.std)} values",
            f"are as many as in config.data.mean, {len(data.mean)}",
        )
