"""Batches: two endless streams for training, padded passes for evaluation.

Labelled and unlabelled images come from two independent Grain streams, so that each
has its own batch size and its own epochs. A stream is a function of (seed, step)
alone, so its position is one integer, and training may go on from it with another
number of processes.
"""

import functools
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grain
import numpy as np
from jaxtyping import Bool, Float32, Int64

from ssah_jax.data import seeded
from ssah_jax.data.reading import Reader, SkippedImages
from ssah_jax.data.source import AnyImages, DataError, ImageSequence, Source
from ssah_jax.data.splits import Split
from ssah_jax.types import Batch, BatchRows

_CACHED_EPOCHS = 4
_THREADS = 4


class BatchOrder:
    """Which images each batch of an endless, reshuffled stream holds.

    The stream is one uniformly random order of all images after another; batch t is
    its rows t * B .. (t + 1) * B - 1, so a batch may cross the border of an epoch and
    no image is ever dropped. Of these rows a process owns one contiguous share.

    A Grain data source, and the reason it is one: whole batches of indices cost Grain
    one element each. Shuffling, repeating and batching single images with Grain's own
    transformations gives the same stream at 20 microseconds an image.
    """

    def __init__(
        self,
        indices: Int64[np.ndarray, "N"],
        *,
        batch_size: int,
        seed: int,
        name: str,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        """Sets the order up.

        Args:
            indices: the images of one epoch, `[N]`, N >= 1.
            batch_size: global batch size B, a multiple of `process_count`.
            seed: of the order; any integer.
            name: of the stream; streams of one seed and different names are
                independent.
            process_index: whose share, 0 .. `process_count` - 1.
            process_count: how many processes share each batch.
        """
        self._indices = indices
        self._batch_size = batch_size
        self._share = batch_size // process_count
        self._offset = process_index * self._share
        self._epoch = functools.lru_cache(_CACHED_EPOCHS)(
            lambda epoch: seeded.permutation(seed, len(indices), name, epoch)
        )
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """As many batches as an integer can count."""
        return sys.maxsize // self._batch_size

    def __getitem__(self, step: int) -> Int64[np.ndarray, "B"]:
        """This process's image indices of batch `step`, `[B / process_count]`."""
        start = step * self._batch_size + self._offset
        epochs, rows = np.divmod(start + np.arange(self._share), len(self._indices))
        order = np.empty(self._share, np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            # At its beginning all reading threads want an epoch's order at once.
            with self._lock:
                shuffled = self._epoch(epoch)
            order[here] = shuffled[rows[here]]
        return self._indices[order]


class TrainIterator:
    """An endless iterator of training batches; made by `train_iterator`.

    Attributes:
        streams: the two Grain iterators, `labelled` and `unlabelled`, for whoever
            checkpoints them; they advance together.
    """

    def __init__(
        self, streams: Mapping[str, grain.DatasetIterator], no_labels: Any = None
    ) -> None:
        """Joins the streams `labelled` and `unlabelled`.

        Args:
            streams: both, or the second alone.
            no_labels: what stands in for an element of the first.
        """
        self.streams, self._no_labels = dict(streams), no_labels

    def __iter__(self) -> "TrainIterator":
        """The iterator itself."""
        return self

    def __next__(self) -> Batch | BatchRows:
        """The next batch, this process's share of it, with NumPy fields."""
        with _own_words():
            stream = self.streams.get("labelled")
            labelled = self._no_labels if stream is None else next(stream)
            unlabelled = next(self.streams["unlabelled"])
        if isinstance(labelled, tuple):
            (image, label), (images, *spread) = labelled, unlabelled
            return Batch(image, label, images, *spread)
        return BatchRows(labelled=labelled, unlabelled=unlabelled)

    def get_state(self) -> dict[str, Any]:
        """The position, as a dictionary that JSON can hold."""
        return {name: stream.get_state() for name, stream in self.streams.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes to a position that `get_state` gave; what follows is the same again.

        Args:
            state: a position of an iterator made with the same arguments, but for
                `process_index` and `process_count`.

        Raises:
            ValueError: `state` is not of the two streams.
        """
        if set(state) != set(self.streams):
            raise ValueError(
                f"iterator state: found streams {sorted(state)}, "
                f"expected {sorted(self.streams)}"
            )
        for name, stream in self.streams.items():
            stream.set_state(state[name])

    def close(self) -> None:
        """Ends the reading threads, if there are any."""
        for stream in self.streams.values():
            stream.close()


def train_iterator(
    source: Source,
    split: Split,
    *,
    labelled_batch: int,
    unlabelled_batch: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = _THREADS,
    skipped: SkippedImages | None = None,
    rows_only: bool = False,
    spread: Float32[np.ndarray, "N C"] | None = None,
) -> TrainIterator:
    """Endless batches of labelled and unlabelled training images.

    Each stream gives every one of its images once an epoch, in a new order each
    epoch. The labels of unlabelled images are never read; where the split has no
    unlabelled images, the labelled ones serve without their labels. The shares of all
    processes, joined in order of process, are the batches of a single process.

    Args:
        source: where the images are.
        split: which of them are labelled and unlabelled.
        labelled_batch: labelled images L in a batch, over all processes; may be more
            than there are. With 0 the labelled images serve as unlabelled ones.
        unlabelled_batch: unlabelled images U in a batch, over all processes.
        seed: of the orders; any integer.
        process_index: this process, 0 .. `process_count` - 1.
        process_count: how many processes share each batch.
        threads: that decode batches ahead of training, for each stream; none are
            started for images in memory.
        skipped: takes images that cannot be read; the next readable one of the batch
            then stands in. None makes them an error.
        rows_only: give `BatchRows`, for images that lie on the device.
        spread: what spread labels say of every image, for `Batch.spread`, `[N, C]`.

    Returns:
        An iterator at its start, of `Batch`, or of `BatchRows`. It raises DataError
        for an image that cannot be read.

    Raises:
        ValueError: a batch size is too small or not divisible by `process_count`, the
            process index is out of range, or there are no images for a batch.
    """
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index: found {process_index}, expected 0 to "
            f"process_count - 1 = {process_count - 1}"
        )
    if labelled_batch and not len(split.labelled):
        raise ValueError("split: found no labelled images, expected at least 1")
    reader = Reader(source.images, skipped=skipped)

    def stream(
        name: str, indices: Int64[np.ndarray, "N"], batch_size: int
    ) -> grain.DatasetIterator:
        if batch_size < 1:
            raise ValueError(f"{name}_batch: found {batch_size}, expected at least 1")
        if batch_size % process_count:
            raise ValueError(
                f"{name}_batch: found {batch_size}, expected a multiple of "
                f"process_count = {process_count}"
            )
        order = grain.MapDataset.source(
            BatchOrder(
                indices,
                batch_size=batch_size,
                seed=seed,
                name=name,
                process_index=process_index,
                process_count=process_count,
            )
        )
        if rows_only:
            batches = order.map(lambda rows: rows.astype(np.int32))
            return iter(batches.to_iter_dataset(_read_options(0)))
        labels = source.labels if name == "labelled" else spread
        batches = order.map(lambda rows: _read_batch(reader, rows, labels))
        ahead = 0 if reader.in_memory else threads
        return iter(batches.to_iter_dataset(_read_options(ahead)))

    if not labelled_batch:
        everything = np.union1d(split.labelled, split.unlabelled)
        streams = {"unlabelled": stream("unlabelled", everything, unlabelled_batch)}
        nobody = np.zeros(0, np.int64)
        if rows_only:
            return TrainIterator(streams, nobody.astype(np.int32))
        return TrainIterator(streams, (reader(nobody)[0], source.labels[nobody]))
    unlabelled = split.unlabelled if len(split.unlabelled) else split.labelled
    return TrainIterator(
        {
            "labelled": stream("labelled", split.labelled, labelled_batch),
            "unlabelled": stream("unlabelled", unlabelled, unlabelled_batch),
        }
    )


def eval_batches(
    images: ImageSequence,
    indices: Int64[np.ndarray, "N"],
    *,
    batch_size: int,
    threads: int = _THREADS,
    skipped: SkippedImages | None = None,
) -> Iterator[tuple[AnyImages, Bool[np.ndarray, "B"]]]:
    """One pass over some images in order, in batches of one size.

    Args:
        images: where they are.
        indices: which of them, `[N]`; none gives no batch.
        batch_size: images a batch, B.
        threads: that decode batches ahead, where images are not in memory.
        skipped: takes images that cannot be read; None makes them an error.

    Returns:
        An iterator of images uint8 `[B, H, W, ch]` (of features, float) and a mask
        `[B]`, False where an image could not be read, and where the last batch is
        filled up.

    Raises:
        ValueError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: found {batch_size}, expected at least 1")
    reader = Reader(images, skipped=skipped)

    def batch(start: int) -> tuple[AnyImages, Bool[np.ndarray, "B"]]:
        chosen = indices[start : start + batch_size]
        found, readable = reader(chosen)
        filling = batch_size - len(chosen)
        if filling:
            found = np.pad(found, ((0, filling), (0, 0), (0, 0), (0, 0)))
            readable = np.pad(readable, (0, filling))
        return found, readable

    starts = grain.MapDataset.source(range(0, len(indices), batch_size))
    ahead = 0 if reader.in_memory else threads
    batches = iter(starts.map(batch).to_iter_dataset(_read_options(ahead)))

    def in_own_words() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with _own_words():
            yield from batches

    return in_own_words()


@contextmanager
def _own_words() -> Iterator[None]:
    """Raise errors of data with the one line that they had before Grain's."""
    try:
        yield
    except DataError as error:
        raise DataError(str(error).partition("\n")[0]) from None


def _read_batch(
    reader: Reader,
    rows: Int64[np.ndarray, "B"],
    labels: Float32[np.ndarray, "N C"] | None,
) -> tuple[np.ndarray, ...]:
    """Images `[B, H, W, ch]` of a batch, and their labels `[B, C]` where given.

    In the place of an image that cannot be read stands the next of the batch that
    can, with its own label.
    """
    images, readable = reader(rows)
    if not readable.all():
        if not readable.any():
            raise DataError(
                f"data: found no readable image in a batch of {len(rows)}, expected "
                "at least 1"
            )
        good = np.flatnonzero(readable)
        after = np.searchsorted(good, np.arange(len(rows))) % len(good)
        rows, images = rows[good[after]], images[good[after]]
    return (images,) if labels is None else (images, labels[rows])


def _read_options(threads: int) -> grain.ReadOptions:
    """Reading ahead by so many threads; none reads when asked."""
    # Counted in batches: Grain's default of 500 would hold gigabytes of photographs.
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
