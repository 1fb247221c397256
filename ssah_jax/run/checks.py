"""A look at a data set before a long run: sizes, unreadable images, duplicates."""

import sys
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from ssah_jax.data import SkippedImages, eval_batches, find_leaks
from ssah_jax.run.experiment import Experiment

_BATCH = 64
_ROLES = ("query", "validation", "labelled", "unlabelled", "database")


def describe_data(experiment: Experiment) -> Iterator[str]:
    """What the configuration makes of its data set, one line at a time.

    Every image is decoded once, and the files of the split are read once more to be
    compared.

    Args:
        experiment: a prepared one.

    Yields:
        Sizes; the roles of the protocol; images missing on disk; images that cannot be
        read, each with its reason; queries whose very bytes occur elsewhere.
    """
    source, split = experiment.source, experiment.split
    height, width, channels = source.image_shape
    parts = ", ".join(f"{name} {len(rows):,}" for name, rows in source.parts.items())
    yield (
        f"{source.name}: {len(source):,} images of {height}x{width}x{channels}, "
        f"{source.num_classes} classes ({parts})"
    )
    roles = ", ".join(f"{role} {len(getattr(split, role)):,}" for role in _ROLES)
    yield f"protocol {split.protocol}: {roles}"
    yield f"split {split.digest}"
    yield f"missing on disk: {len(source.missing)}"
    skipped = SkippedImages(num_images=len(source), max_share=1.0)
    batches = eval_batches(
        source.images,
        np.arange(len(source)),
        batch_size=_BATCH,
        threads=experiment.config.data.threads,
        skipped=skipped,
    )
    with tqdm(
        total=len(source),
        unit="image",
        desc="decoding",
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        for image, _ in batches:
            bar.update(len(image))
    yield f"unreadable: {len(skipped)}"
    yield from (f"  {reason}" for reason in skipped.reasons)
    for name, count in find_leaks(source, split).items():
        yield f"queries with a copy in {name.removeprefix('query_in_')}: {count}"
