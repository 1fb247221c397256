"""Sources that tests of several files begin with."""

import dataclasses
import shutil

import numpy as np
import pytest
import tree_nus_wide
from label_sources import shuffled_one_hot, train_and_test

from ssah_jax.data import make_split, synthetic_images


@pytest.fixture(scope="module")
def toy():
    return train_and_test(
        shuffled_one_hot([30, 25, 40], 0), shuffled_one_hot([20, 12, 9], 1)
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    path = tmp_path_factory.mktemp("drawn") / "nus_wide"
    return tree_nus_wide.draw(path, num_images=60, seed=3, image_size=16, missing=2)


@pytest.fixture
def tree(drawn, tmp_path):
    """A copy to change."""
    path = tmp_path / "nus_wide"
    shutil.copytree(drawn.path, path)
    return path


@pytest.fixture(scope="module")
def source():
    """30 training and 15 test images; the first pixel of each spells its index."""
    source = synthetic_images(
        seed=0, num_classes=3, image_size=4, train_per_class=10, test_per_class=5
    )
    images = source.images.copy()
    images[:, 0, 0, 0] = np.arange(45)
    return dataclasses.replace(source, images=images)


@pytest.fixture(scope="module")
def split(source):
    return make_split(
        source, labels_per_class=2, num_queries=6, num_validation=3, seed=0
    )
