"""A configuration made concrete: its images and split, checked before any compiling."""

import dataclasses

import jax

from ssah_jax.config import Config, ConfigError
from ssah_jax.data import Source, Split, load_source, make_split
from ssah_jax.networks import SMALLEST_IMAGE


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What training and evaluation both start from.

    Attributes:
        config: the validated configuration.
        source: the images.
        split: which of them are queries, labelled, unlabelled and database.
    """

    config: Config
    source: Source
    split: Split


def prepare(config: Config) -> Experiment:
    """Load the images, split them and check the configuration against both.

    Raises:
        ValueError: one line on what does not fit: a file, a field, a number.
    """
    data = config.data
    options = {"multi_label": data.multi_label} if data.source == "synthetic" else {}
    source = load_source(
        data.source, path=data.path or None, seed=config.seed, **options
    )
    _check_images(config, source)
    split = make_split(
        source,
        protocol=data.protocol,
        labels_per_class=config.labels_per_class,
        num_queries=data.num_queries,
        num_validation=data.num_validation,
        seed=config.seed,
    )
    return Experiment(config, source, split)


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


def _check_images(config: Config, source: Source) -> None:
    height, width, channels = source.image_shape
    smallest = SMALLEST_IMAGE[config.hnet.backbone]
    if min(height, width) < smallest:
        raise ConfigError(
            f"config.hnet.backbone: {config.hnet.backbone} accepts images of at least "
            f"{smallest} pixels, found {height} x {width} in {source.name}"
        )
    if len(config.data.mean) not in (1, channels):
        raise ConfigError(
            f"config.data.mean: found {len(config.data.mean)} values, accepted are 1 "
            f"or {channels}, the channels of {source.name}"
        )
    if config.data.multi_label != source.multi_label:
        raise ConfigError(
            f"config.data.multi_label: found {config.data.multi_label}, accepted is "
            f"{source.multi_label} for {source.name}"
        )
