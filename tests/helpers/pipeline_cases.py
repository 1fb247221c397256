"""Batches by the index that each image spells."""

import dataclasses

from ssah_jax.data import (
    train_iterator,
)


class LazyImages:
    """Random access without being an array, and no more than the protocol asks."""

    def __init__(self, images):
        self._images = images

    @property
    def shape(self):
        return self._images.shape

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        assert isinstance(index, int)
        return self._images[index]


def lazy(source):
    return dataclasses.replace(source, images=LazyImages(source.images))


def ids(images):
    """The index that the first pixel of each image spells."""
    return images[:, 0, 0, 0].astype(int).tolist()


def make(source, split, *, labelled=4, unlabelled=7, seed=0, **processes):
    return train_iterator(
        source,
        split,
        labelled_batch=labelled,
        unlabelled_batch=unlabelled,
        seed=seed,
        **processes,
    )


def take(iterator, steps):
    return [next(iterator) for _ in range(steps)]
