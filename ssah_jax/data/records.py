"""Records of a data set prepared by TensorFlow Datasets, read without TensorFlow."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ssah_jax.data.source import DataError

_RECORDS_AT_ONCE = 256


class Records:
    """One feature of the records of a prepared data set, as it is stored.

    Safe in several threads; can be pickled.
    """

    def __init__(self, directory: str, *, splits: Sequence[str], feature: str) -> None:
        """Opens the records.

        Args:
            directory: of one version of a prepared data set.
            splits: whose records follow one another.
            feature: which is read; image features stay encoded.

        Raises:
            DataError: the files are none of ArrayRecord.
        """
        self._arguments = (directory, tuple(splits), feature)
        self._splits, self._decode = _open(directory, splits, feature)
        self._ends = np.cumsum([len(split) for split in self._splits])

    def __len__(self) -> int:
        """How many records."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __call__(self, index: int) -> Any:
        """The feature of record `index` of 0 .. N - 1.

        Raises:
            OSError: the record cannot be read.
        """
        which = int(np.searchsorted(self._ends, index, side="right"))
        split = self._splits[which]
        with _as_os_error():
            return self._decode(split[index - int(self._ends[which]) + len(split)])

    def __iter__(self) -> Iterator[Any]:
        """The feature of every record in turn, many times faster than one by one.

        Raises:
            OSError: a record cannot be read.
        """
        for split in self._splits:
            for start in range(0, len(split), _RECORDS_AT_ONCE):
                stop = min(start + _RECORDS_AT_ONCE, len(split))
                with _as_os_error():
                    records = split.__getitems__(list(range(start, stop)))
                    values = [self._decode(record) for record in records]
                yield from values

    def __getstate__(self) -> tuple[str, tuple[str, ...], str]:
        return self._arguments

    def __setstate__(self, state: tuple[str, tuple[str, ...], str]) -> None:
        directory, splits, feature = state
        Records.__init__(self, directory, splits=splits, feature=feature)


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    # Broad, as what a damaged file raises is not specified: ArrayRecord has
    # RuntimeError, IndexError and ValueError, and protobuf an error of its own.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(f"unreadable record: {reason}") from error


def _open(
    directory: str, splits: Sequence[str], feature: str
) -> tuple[list[Any], Callable[[bytes], Any]]:
    """Random access to the records of each split, and what gets `feature` of one."""
    import tensorflow_datasets as tfds

    with quiet():
        builder = tfds.builder_from_directory(directory)
    wanted = builder.info.features[feature]
    # What is not in here is not decoded. TFDS's own PartialDecoding takes TensorFlow.
    features = tfds.features.FeaturesDict({feature: wanted})
    decoders = None
    if isinstance(wanted, tfds.features.Image):
        decoders = {feature: tfds.decode.SkipDecoding()}

    def decode(record: bytes) -> Any:
        return features.deserialize_example_np(record, decoders=decoders)[feature]

    try:
        sources = [
            builder.as_data_source(
                split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
            )
            for split in splits
        ]
    except (NotImplementedError, ValueError) as error:
        found = builder.info.file_format
        raise DataError(
            f"{directory}: found files of format "
            f"{found.value if found else 'unknown'}, accepted is array_record; "
            "prepare the data set again under another --data-dir"
        ) from error
    return sources, decode


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep TFDS from logging that a data set is not prepared: callers say it."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
