"""A look at a data set before a long run: sizes, unreadable images, copies."""

import sys
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from ssah_jax.data import SkippedImages, eval_batches, find_leaks
from ssah_jax.data.near_copies import fingerprint, nearest_copies
from ssah_jax.run.experiment import Experiment

_BATCH = 64
_MAX_SHOWN = 5


def describe_data(experiment: Experiment) -> Iterator[str]:
    """What the configuration makes of its data set, one line at a time.

    Every image is decoded once, and the files of the split are read once more to be
    compared.

    Args:
        experiment: a prepared one.

    Yields:
        What was understood of the data set, with warnings; shape and digest; images
        missing on disk; images that cannot be read, each with its reason; where labels
        make queries, those whose very bytes occur elsewhere, and those with a near
        copy there.
    """
    source, split = experiment.source, experiment.split
    yield from experiment.understanding.lines()
    yield "images of {}x{}x{}".format(*source.image_shape)
    yield f"split {split.digest}"
    yield f"missing on disk: {len(source.missing)}"
    skipped = SkippedImages(num_images=len(source), max_share=1.0)
    batches = eval_batches(
        source.images,
        np.arange(len(source)),
        batch_size=_BATCH,
        threads=experiment.config.data.num_threads,
        skipped=skipped,
    )
    of_pixels = source.image_shape[2] in (1, 3) and source.image_shape[0] > 1
    bits = np.zeros((len(source), 2), np.uint64)
    thumbnails = np.zeros((len(source), 256), np.float32)
    with tqdm(
        total=len(source),
        unit="image",
        desc="decoding",
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        for number, (images, readable) in enumerate(batches):
            bar.update(len(images))
            for row in np.flatnonzero(readable).tolist() if of_pixels else ():
                index = number * _BATCH + row
                bits[index], thumbnails[index] = fingerprint(images[row])
    yield f"unreadable: {len(skipped)}"
    yield from (f"  {reason}" for reason in skipped.reasons)
    if not source.num_classes:
        return
    for name, count in find_leaks(source, split).items():
        yield f"queries with a copy in {name.removeprefix('query_in_')}: {count}"
    for role in ("labelled", "database") if of_pixels else ():
        rows = getattr(split, role)
        near = nearest_copies(
            bits[split.query], thumbnails[split.query], bits[rows], thumbnails[rows]
        )
        yield f"queries with a near copy in {role}: {np.count_nonzero(near >= 0)}"
        for query in np.flatnonzero(near >= 0)[:_MAX_SHOWN].tolist():
            one, other = int(split.query[query]), int(rows[near[query]])
            yield f"  {source.describe(one)} is like {source.describe(other)}"
