"""TensorFlow Datasets' own test of a builder; it needs TensorFlow."""

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("dill")

import tempfile
from pathlib import Path

import tensorflow_datasets as tfds
import tree_nus_wide

from ssah_jax.data.builders.nus_wide import nus_wide_dataset_builder
from ssah_jax.data.nus_wide import read_listing

CONCEPTS = {"top21": 21, "all81": 81}


class NusWideTop21Test(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = nus_wide_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["top21"]  # noqa: RUF012

    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        tree = tree_nus_wide.draw(
            Path(directory.name), num_images=30, seed=0, image_size=16, missing=1
        )
        cls.EXAMPLE_DIR = str(tree.path)
        (config,) = cls.BUILDER_CONFIG_NAMES_TO_TEST
        parts = read_listing(tree.path, concepts=CONCEPTS[config]).parts
        cls.SPLITS = {part: len(parts[part]) for part in ("train", "test")}
        super().setUpClass()


class NusWideAll81Test(NusWideTop21Test):
    BUILDER_CONFIG_NAMES_TO_TEST = ["all81"]  # noqa: RUF012
