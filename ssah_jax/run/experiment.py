"""A configuration made concrete: its images and split, checked before any compiling."""

import dataclasses
import hashlib
import os
import sys
from pathlib import Path
from typing import Final

import jax
import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from ssah_jax import data as data_lib
from ssah_jax.config import (
    Config,
    ConfigError,
    DataConfig,
    check_side,
    from_config_dict,
)
from ssah_jax.data import (
    DataError,
    ImageSequence,
    SkippedImages,
    Source,
    Split,
    TrainIterator,
    make_split,
    train_iterator,
)
from ssah_jax.data.by_name import SOURCES
from ssah_jax.data.features import read_feature_info, source_digest
from ssah_jax.data.understanding import Understanding, understand
from ssah_jax.networks.weight_tables import CONVERTIBLE
from ssah_jax.run.model_info import FrozenBackbone, ModelInfo

_FOLDERS_MEASURE: Final = (
    "folders are taken for classes, to measure by; data.labels=none if they are none"
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What training and evaluation both start from.

    Attributes:
        config: the validated configuration.
        source: the images.
        split: which of them are queries, labelled, unlabelled and database.
        understanding: what was understood of the data set, to be told.
        skipped: takes images that cannot be read; None makes them an error.
        path: where the data lie, if not where the configuration says.
    """

    config: Config
    source: Source
    split: Split
    understanding: Understanding
    skipped: SkippedImages | None = None
    path: str = ""

    @property
    def data_path(self) -> str:
        """Where the data lie, absolute; empty for sources without a path."""
        path = self.path or self.config.data.path
        return str(Path(path).expanduser().absolute()) if path else ""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape `(H, W, ch)` of an image as the networks see it."""
        height, width, channels = self.source.image_shape
        if self.config.data.source == "features":
            # The networks see one view at a time.
            return 1, width, channels
        size = self.config.data.crop_size
        return (size, size, channels) if size else (height, width, channels)

    @property
    def info(self) -> ModelInfo:
        """What the model is built from, and a digest of its data."""
        both = self.source.digest + self.split.digest
        digest = hashlib.sha256(both.encode()).hexdigest()
        return ModelInfo(
            self.source.image_shape,
            self.source.class_names,
            digest,
            made_by=self._made_by(),
        )

    def _made_by(self) -> FrozenBackbone | None:
        """What computes stored features of other images of the same size."""
        if self.config.data.source != "features":
            return None
        info = read_feature_info(Path(self.data_path))
        data = info.config["data"]
        side, channels = data.get("image_size", 0), data.get("channels", 3)
        if not side:
            return None
        return FrozenBackbone(
            name=info.origin.backbone,
            weights=info.weights,
            sha256=info.origin.weights_sha256,
            image_shape=(side, side, channels),
            crop_size=info.origin.crop_size,
            image_size=info.origin.image_size,
            dtype=info.origin.dtype,
            stored=info.origin.stored,
            resize=info.origin.resize,
        )


def prepare(config: Config, *, path: str = "") -> Experiment:
    """Load the images, split them and check the configuration against both.

    Args:
        config: the validated configuration.
        path: where the data lie, if not where the configuration says.

    Raises:
        ValueError: one line on what does not fit: a file, a field, a number.
    """
    data = config.data
    moved = dataclasses.replace(data, path=path) if path else data
    source = load_source(dataclasses.replace(config, data=moved))
    _check_labels_suffice(config, source)
    if data.store != "disk":
        source = data_lib.in_memory(source, threads=data.num_threads)
    only_measured_by = _only_measured_by_folders(config, source)
    try:
        split = make_split(
            source,
            protocol=data.protocol,
            labels_per_class=config.labels_per_class,
            num_queries=data.num_queries,
            num_validation=data.num_validation,
            num_labelled=data.num_labelled,
            unseen_share=data.unseen_share,
            seed=config.seed,
            on_leak=data.on_leak,
        )
        understanding = understand(source, split)
    except ValueError as error:
        if only_measured_by:
            raise DataError(f"{error}; {_FOLDERS_MEASURE}") from error
        raise
    if only_measured_by:
        notes = (*understanding.notes, _FOLDERS_MEASURE)
        understanding = dataclasses.replace(understanding, notes=notes)
    skipped = None
    if data.on_error == "skip":
        skipped = SkippedImages(num_images=len(source), max_share=data.max_skipped)
    experiment = Experiment(config, source, split, understanding, skipped, path)
    _check_images(experiment)
    return experiment


def iterate(
    experiment: Experiment,
    *,
    seed: int | None = None,
    spread: Float32[np.ndarray, "N C"] | None = None,
) -> TrainIterator:
    """This process's training batches, from the first one on.

    Args:
        experiment: whose images and batch sizes.
        seed: of their order; the configuration's by default.
        spread: what `spread_labels` found, for runs that learn from it.
    """
    config = experiment.config
    return train_iterator(
        experiment.source,
        experiment.split,
        labelled_batch=config.batch.labelled,
        unlabelled_batch=config.batch.unlabelled,
        seed=config.seed if seed is None else seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        threads=config.data.num_threads,
        skipped=experiment.skipped,
        rows_only=config.data.store == "device",
        spread=spread,
    )


def spread_labels(experiment: Experiment) -> Float32[np.ndarray, "N C"] | None:
    """What labels say of all images, spread over the graph of the training images.

    Returns:
        `[N, C]` in [0, 1], in half precision's steps so that it can be kept as such;
        0 for images that training does not see. None unless the run learns from it.

    Raises:
        ValueError: one line: `graph.features` are not of these images.
    """
    config, source, split = experiment.config, experiment.source, experiment.split
    if not config.loss.consistent_spread:
        return None
    # Not at the top: FAISS and scikit-learn are two of the seconds before a first step.
    from ssah_jax.data import label_graph

    images = source.images
    if config.graph.features != "pixels":
        path = Path(config.graph.features).expanduser()
        stored = data_lib.features_source(path)
        if read_feature_info(path).origin.source_digest != source_digest(source):
            raise ConfigError(
                f"config.graph.features: found features of other images in {path}, "
                f"accepted are those of {source.name}"
            )
        images = stored.images
    seen = np.concatenate([split.labelled, split.unlabelled])
    with tqdm(
        total=len(seen), unit=" images", desc="graph", disable=not sys.stderr.isatty()
    ) as bar:
        points = label_graph.image_points(
            images, seen, skipped=experiment.skipped, progress=bar.update
        )
    found = label_graph.spread_labels(
        points,
        source.labels[split.labelled],
        np.arange(len(split.labelled)),
        multi_label=source.multi_label,
        neighbours=config.graph.neighbours,
        alpha=config.graph.alpha,
    )
    spread = np.zeros(source.labels.shape, np.float16)
    spread[seen] = found
    return spread.astype(np.float32)


def images_to_show(experiment: Experiment) -> ImageSequence | None:
    """The images of an experiment as people see them.

    Of stored features those that they are features of; None where these cannot be
    loaded any more, or have changed.
    """
    config, source = experiment.config, experiment.source
    if config.data.source != "features":
        return source.images
    info = read_feature_info(Path(experiment.data_path))
    try:
        original = load_source(from_config_dict(info.config))
    except ValueError:
        return None
    same = source_digest(original) == info.origin.source_digest
    return original.images if same else None


def check_devices(config: Config) -> None:
    """Check that the devices of all processes can share a training batch equally.

    Raises:
        ConfigError: a batch size is not a multiple of the number of devices.
    """
    for name in ("labelled", "unlabelled"):
        size = getattr(config.batch, name)
        if size % jax.device_count():
            raise ConfigError(
                f"config.batch.{name}: found {size}, accepted is a multiple of the "
                f"{jax.device_count()} devices"
            )
        parts = config.optim.accumulate
        if size // jax.device_count() % parts:
            raise ConfigError(
                f"config.optim.accumulate: found {parts}, accepted is a divisor of the "
                f"{size // jax.device_count()} {name} images of each device"
            )


def load_source(config: Config) -> Source:
    """The data set that the configuration names, before any split.

    Raises:
        ValueError: one line on what does not fit: a file, a field.
    """
    data = config.data
    if data.source == "features":
        _check_features_are_not_deformed(data)
    if data.labels != "auto" and data.source != "folder":
        raise ConfigError(
            f"config.data.labels: found {data.labels!r}, accepted is 'auto' with the "
            f"source {data.source}"
        )
    loader = SOURCES[data.source]
    if loader.path and not data.path:
        raise ConfigError(f"config.data.path: found none, accepted is {loader.path}")
    values = dataclasses.asdict(data)
    values |= {"path": os.path.expanduser(data.path), "seed": config.seed}
    return loader.load(**{name: values[name] for name in loader.fields})


def _check_features_are_not_deformed(data: DataConfig) -> None:
    for field, wanted in (("max_shift", 0), ("flip", False)):
        found = getattr(data, field)
        if found != wanted:
            raise ConfigError(
                f"config.data.{field}: found {found!r}, accepted is {wanted!r} with "
                "stored features"
            )


def _check_labels_suffice(config: Config, source: Source) -> None:
    """Check that nothing is to learn from labels that are not there."""
    if config.batch.labelled and not source.num_classes:
        raise ConfigError(
            f"config.batch.labelled: found {config.batch.labelled} and {len(source):,} "
            f"images without labels in {config.data.path or source.name}, accepted is "
            "0, which the preset unsupervised sets; or labels: CLASS/ folders with the "
            "images in them, or a table"
        )


def _only_measured_by_folders(config: Config, source: Source) -> bool:
    """Whether class folders, which may be folders of dates, serve evaluation alone."""
    folders = config.data.source == "folder" and source.name == "folder"
    return folders and source.num_classes > 0 and not config.batch.labelled


def _check_images(experiment: Experiment) -> None:
    config, source = experiment.config, experiment.source
    height, width, channels = source.image_shape
    if config.data.crop_size > min(height, width):
        raise ConfigError(
            f"config.data.crop_size: found {config.data.crop_size}, accepted is at "
            f"most the {min(height, width)} pixels of images in {source.name}"
        )
    height, width, _ = experiment.image_shape
    if config.anet.kind != "none" and config.anet.blocks > min(height, width) ** 2:
        raise ConfigError(
            f"config.anet.blocks: found {config.anet.blocks}, accepted are at most "
            f"{min(height, width)} a side for images in {source.name}"
        )
    hnet = config.hnet
    if not hnet.image_size:
        check_side(height, width, backbone=hnet.backbone, where=source.name)
    if hnet.weights and hnet.backbone in CONVERTIBLE and channels not in (1, 3):
        raise ConfigError(
            f"config.hnet.weights: found {hnet.weights!r}, accepted is '' for images "
            f"of {channels} channels as in {source.name}, neither grey nor in colour"
        )
    stored = config.data.source == "features"
    if len(config.data.mean) not in (1, channels) and not stored:
        raise ConfigError(
            f"config.data.mean: found {len(config.data.mean)} values, accepted are 1 "
            f"or {channels}, the channels of {source.name}"
        )
    if config.data.multi_label != source.multi_label and source.num_classes:
        raise ConfigError(
            f"config.data.multi_label: found {config.data.multi_label}, accepted is "
            f"{source.multi_label} for {source.name}"
        )
    views = source.image_shape[0]
    for name, found, wanted in (
        ("anet.kind", config.anet.kind, config.anet.kind == "stored"),
        ("loss.cross_view", config.loss.cross_view, config.loss.cross_view > 0),
    ):
        if stored and wanted and views < 2:
            raise ConfigError(
                f"config.{name}: found {found!r} and features of a single view of each "
                "image, accepted are several views: `ssah features --views 4`"
            )
    if config.data.store == "device" and not isinstance(source.images, np.ndarray):
        raise DataError(
            "config.data.store: found device and images that cannot be read, accepted "
            "is memory or disk"
        )
