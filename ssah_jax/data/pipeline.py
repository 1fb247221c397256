"""Batches: two endless streams for training, padded passes for evaluation.

Labelled and unlabelled images come from two independent Grain streams, so that each
has its own batch size and its own epochs. A stream is a function of (seed, step)
alone, so its position is one integer.
"""

import functools
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import grain
import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from ssah_jax.data import seeded
from ssah_jax.data.sources import ImageSequence, Part, Source
from ssah_jax.data.splits import Split
from ssah_jax.types import Batch

_CACHED_EPOCHS = 4
_LAZY_THREADS = 4


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
            order[here] = self._epoch(epoch)[rows[here]]
        return self._indices[order]


class TrainIterator:
    """An endless iterator of training batches; made by `train_iterator`.

    Attributes:
        streams: the two Grain iterators, `labelled` and `unlabelled`, for whoever
            checkpoints them; they advance together.
    """

    def __init__(self, streams: Mapping[str, grain.DatasetIterator]) -> None:
        """Joins the streams `labelled` and `unlabelled`."""
        self.streams = dict(streams)

    def __iter__(self) -> "TrainIterator":
        """The iterator itself."""
        return self

    def __next__(self) -> Batch:
        """The next batch, this process's share of it, with NumPy fields."""
        image, label = next(self.streams["labelled"])
        unlabelled = next(self.streams["unlabelled"])
        return Batch(image=image, label=label, unlabelled=unlabelled)

    def get_state(self) -> dict[str, Any]:
        """The position, as a dictionary that JSON can hold."""
        return {name: stream.get_state() for name, stream in self.streams.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes to a position that `get_state` gave; what follows is the same again.

        Args:
            state: a position of an iterator made with the same arguments.

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
) -> TrainIterator:
    """Endless batches of labelled and unlabelled training images.

    Each stream gives every one of its images once an epoch, in a new order each
    epoch. The labels of unlabelled images are never read. The shares of all processes,
    joined in order of process, are the batches of a single process.

    Args:
        source: where the images are.
        split: which of them are labelled and unlabelled.
        labelled_batch: labelled images L in a batch, over all processes; may be more
            than there are.
        unlabelled_batch: unlabelled images U in a batch, over all processes.
        seed: of the orders; any integer.
        process_index: this process, 0 .. `process_count` - 1.
        process_count: how many processes share each batch.

    Returns:
        An iterator at its start.

    Raises:
        ValueError: a batch size is below 1 or not divisible by `process_count`, the
            process index is out of range, or a stream has no images.
    """
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index: found {process_index}, expected 0 to "
            f"process_count - 1 = {process_count - 1}"
        )
    images, labels = source.train.images, source.train.labels

    def order(
        name: str, indices: Int64[np.ndarray, "N"], batch_size: int
    ) -> grain.MapDataset:
        if batch_size < 1:
            raise ValueError(f"{name}_batch: found {batch_size}, expected at least 1")
        if batch_size % process_count:
            raise ValueError(
                f"{name}_batch: found {batch_size}, expected a multiple of "
                f"process_count = {process_count}"
            )
        if not len(indices):
            raise ValueError(f"split: found no {name} images, expected at least 1")
        return grain.MapDataset.source(
            BatchOrder(
                indices,
                batch_size=batch_size,
                seed=seed,
                name=name,
                process_index=process_index,
                process_count=process_count,
            )
        )

    labelled = order("labelled", split.labelled, labelled_batch).map(
        lambda indices: (gather(images, indices), labels[indices])
    )
    unlabelled = order("unlabelled", split.unlabelled, unlabelled_batch).map(
        lambda indices: gather(images, indices)
    )
    return TrainIterator(
        {
            "labelled": iter(labelled.to_iter_dataset(_read_options(images))),
            "unlabelled": iter(unlabelled.to_iter_dataset(_read_options(images))),
        }
    )


def eval_batches(
    part: Part, indices: Int64[np.ndarray, "N"], *, batch_size: int
) -> Iterator[
    tuple[
        UInt8[np.ndarray, "B H W ch"],
        Float32[np.ndarray, "B C"],
        Bool[np.ndarray, "B"],
    ]
]:
    """One pass over some images in order, in batches of one size.

    Args:
        part: where the images are.
        indices: which of them, `[N]`; none gives no batch.
        batch_size: images a batch, B.

    Returns:
        An iterator of images uint8 `[B, H, W, ch]`, labels `[B, C]` in {0, 1} and a
        mask `[B]`. The last batch is filled up with its last image, where the mask
        is False.

    Raises:
        ValueError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: found {batch_size}, expected at least 1")
    starts = range(0, len(indices), batch_size)

    def batch(
        start: int,
    ) -> tuple[
        UInt8[np.ndarray, "B H W ch"],
        Float32[np.ndarray, "B C"],
        Bool[np.ndarray, "B"],
    ]:
        rows = start + np.arange(batch_size)
        chosen = indices[np.minimum(rows, len(indices) - 1)]
        return gather(part.images, chosen), part.labels[chosen], rows < len(indices)

    batches = grain.MapDataset.source(starts).map(batch)
    return iter(batches.to_iter_dataset(_read_options(part.images)))


def gather(
    images: ImageSequence, indices: Int64[np.ndarray, "B"]
) -> UInt8[np.ndarray, "B H W ch"]:
    """Images `indices` `[B]`, copied together: uint8 `[B, H, W, ch]`."""
    if isinstance(images, np.ndarray):
        return images[indices]
    return np.stack([images[int(index)] for index in indices])


def _read_options(images: ImageSequence) -> grain.ReadOptions:
    """Threads where images are decoded, none where they are copied from memory."""
    threads = 0 if isinstance(images, np.ndarray) else _LAZY_THREADS
    # Counted in batches: Grain's default of 500 would hold gigabytes of photographs.
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
