"""Decoding a whole data set once, for those that fit in memory."""

import dataclasses
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from ssah_jax.data.source import (
    AnyImage,
    AnyImages,
    DataError,
    ImageSequence,
    Source,
)


class DecodedImages:
    """Images that were decoded once and stay in memory, with gaps for bad ones.

    An `ImageSequence` that behaves like the one it was read from.
    """

    def __init__(self, array: AnyImages, bad: dict[int, DataError]) -> None:
        """Takes all images `[N, H, W, ch]` and the errors of those that are bad."""
        self._array = array
        self._bad = bad

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, H, W, ch)`."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        """Of the images."""
        return self._array.dtype

    def __len__(self) -> int:
        """How many images, N."""
        return len(self._array)

    def __getitem__(self, index: int, /) -> AnyImage:
        """Image `index`, or its error."""
        if index in self._bad:
            raise self._bad[index]
        return self._array[index]


def in_memory(source: Source, *, threads: int) -> Source:
    """The same data set with its images decoded, in one array.

    Args:
        source: a data set; one whose images are an array already is returned as is,
            and one whose array lies in a file is read from it.
        threads: that decode, at least 1.

    Returns:
        A data set of the same images. One that cannot be read raises the same error
        as before when it is asked for.

    Raises:
        DataError: the array does not fit in memory.
    """
    if isinstance(source.images, np.memmap):
        return dataclasses.replace(source, images=np.array(source.images))
    if isinstance(source.images, np.ndarray):
        return source
    encoded: ImageSequence = source.images
    shape = encoded.shape
    try:
        array = np.zeros(shape, getattr(encoded, "dtype", np.uint8))
    except MemoryError as error:
        gigabytes = np.prod(shape, dtype=float) / 1e9
        raise DataError(
            f"data.store: found {len(source)} images that take {gigabytes:.1f} GB "
            "when decoded, expected ones that fit in memory; accepted is "
            "data.store=disk"
        ) from error
    bad: dict[int, DataError] = {}

    def read(index: int) -> None:
        try:
            array[index] = encoded[index]
        except DataError as error:
            bad[index] = error

    progress = tqdm(
        total=len(source),
        unit="image",
        desc="decoding",
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
    with ThreadPoolExecutor(threads) as pool, progress:
        for _ in pool.map(read, range(len(source))):
            progress.update()
    images = DecodedImages(array, bad) if bad else array
    return dataclasses.replace(source, images=images)
