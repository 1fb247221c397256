"""Data: sources of images, splits of them, and batches for training and evaluation."""

from ssah_jax.data.bundled import digits, idx_directory, synthetic_images
from ssah_jax.data.features import features_source
from ssah_jax.data.folder import image_folder
from ssah_jax.data.idx import read_idx
from ssah_jax.data.lists import image_lists
from ssah_jax.data.memory import in_memory
from ssah_jax.data.nus_wide import nus_wide_source
from ssah_jax.data.pipeline import TrainIterator, eval_batches, train_iterator
from ssah_jax.data.reading import SkippedImages
from ssah_jax.data.source import DataError, ImageSequence, Source
from ssah_jax.data.splits import Split, find_leaks, split_from_json, split_to_json
from ssah_jax.data.splitting import make_split
from ssah_jax.data.table import image_table
from ssah_jax.data.tfds import tfds_source

__all__ = [
    "DataError",
    "ImageSequence",
    "SkippedImages",
    "Source",
    "Split",
    "TrainIterator",
    "digits",
    "eval_batches",
    "features_source",
    "find_leaks",
    "idx_directory",
    "image_folder",
    "image_lists",
    "image_table",
    "in_memory",
    "make_split",
    "nus_wide_source",
    "read_idx",
    "split_from_json",
    "split_to_json",
    "synthetic_images",
    "tfds_source",
    "train_iterator",
]
