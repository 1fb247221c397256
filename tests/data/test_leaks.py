"""Images that are in two sets under two names."""

import dataclasses
import pathlib

import numpy as np
import pytest
from label_sources import FIELDS, NO_LEAKS, SIZES

from ssah_jax.data.bundled import idx_directory
from ssah_jax.data.source import DataError
from ssah_jax.data.splits import find_leaks
from ssah_jax.data.splitting import make_split

FASHION_MNIST = pathlib.Path("/usr/share/datasets/fashion-mnist")


class Files:
    """Images behind an index that say what is read of them."""

    def __init__(self, images, *, bad=()):
        self.images, self.bad, self.read = images, bad, []
        self.shape = images.shape

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.read.append(index)
        if index in self.bad:
            raise DataError(f"image {index}: found nothing, expected an image")
        return self.images[index]


class EncodedFiles(Files):
    """The same, with their files: a byte before the pixels tells copies apart."""

    def encoded(self, index):
        return bytes([index in self.bad]) + self.images[index].tobytes()


@pytest.fixture
def leaky(toy):
    """A source with copies of queries, and its split."""
    split = make_split(toy, **SIZES | {"num_validation": 20})
    random = np.random.default_rng(0)
    images = random.integers(256, size=(len(toy), 4, 4, 3), dtype=np.uint8)
    assert set(find_leaks(dataclasses.replace(toy, images=images), split).values()) == {
        0
    }
    images[split.query[0]] = images[split.labelled[1]]
    images[split.query[3]] = images[split.database[4]]
    images[split.query[5]] = images[split.database[4]]
    images[split.query[6]] = images[split.validation[2]]
    unlabelled = np.setdiff1d(split.unlabelled, split.database[4])
    return images, toy, dataclasses.replace(split, unlabelled=unlabelled)


def test_find_leaks(leaky):
    images, toy, split = leaky
    expected = NO_LEAKS | {
        "query_in_labelled": 1,
        "query_in_database": 2,
        "query_in_validation": 1,
    }
    files = Files(images)
    for these in (images, files):
        assert find_leaks(dataclasses.replace(toy, images=these), split) == expected
    # However many sets an image is in.
    used = np.concatenate([getattr(split, name) for name in FIELDS])
    assert sorted(files.read) == np.unique(used).tolist()
    split = dataclasses.replace(split, unlabelled=split.database)
    expected["query_in_unlabelled"] = 2
    assert find_leaks(dataclasses.replace(toy, images=images), split) == expected


def test_find_leaks_passes_over_what_cannot_be_read(leaky):
    images, toy, split = leaky
    bad = {split.query[0], split.query[1], split.database[4], split.database[7]}
    source = dataclasses.replace(toy, images=Files(images, bad=bad))
    assert find_leaks(source, split) == NO_LEAKS | {"query_in_validation": 1}


def test_find_leaks_compares_files_without_decoding(leaky):
    images, toy, split = leaky
    # The file of one of two images of the same pixels is another one.
    files = EncodedFiles(images, bad={split.query[3]})
    found = find_leaks(dataclasses.replace(toy, images=files), split)
    assert not files.read
    assert found == NO_LEAKS | {
        "query_in_labelled": 1,
        "query_in_database": 1,
        "query_in_validation": 1,
    }


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Fashion-MNIST not installed")
def test_real_fashion_mnist_has_no_leaks():
    source = idx_directory(FASHION_MNIST)
    split = make_split(
        source, labels_per_class=50, num_queries=9000, num_validation=1000, seed=0
    )
    np.testing.assert_array_equal(source.labels[split.query].sum(0), 900)
    assert len(split.database) == 59_500
    assert set(find_leaks(source, split).values()) == {0}
