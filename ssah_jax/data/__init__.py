"""Data: sources of images, splits of them, and batches for training and evaluation."""

from ssah_jax.data.idx import DataError, read_idx
from ssah_jax.data.pipeline import TrainIterator, eval_batches, train_iterator
from ssah_jax.data.protocols import (
    Split,
    find_leaks,
    make_split,
    split_from_json,
    split_to_json,
)
from ssah_jax.data.sources import ImageSequence, Part, Source, load_source

__all__ = [
    "DataError",
    "ImageSequence",
    "Part",
    "Source",
    "Split",
    "TrainIterator",
    "eval_batches",
    "find_leaks",
    "load_source",
    "make_split",
    "read_idx",
    "split_from_json",
    "split_to_json",
    "train_iterator",
]
