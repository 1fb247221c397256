"""Encoded images on disk, decoded to one shape as they are asked for."""

import functools
import operator
import pathlib
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import UInt8

from ssah_jax.data.images import ImageError, Resize, check_options, decode
from ssah_jax.data.source import DataError
from ssah_jax.retrieval.files import one_line


class EncodedImages:
    """Images that are read and decoded when indexed: an `ImageSequence`.

    Safe in several threads where `read` is, and pickled where `read` can be.

    Attributes:
        names: one for each image, for messages and galleries.
    """

    names: Sequence[str]

    def __init__(
        self,
        read: Callable[[int], bytes],
        names: Sequence[str],
        *,
        size: int = 0,
        resize: Resize = "crop",
        channels: int = 3,
    ) -> None:
        """Reads nothing yet.

        Args:
            read: gives the encoded bytes of image 0 .. N - 1.
            names: N names.
            size: side in pixels of the square images delivered; 0 delivers them as
                stored, and then all must have the shape of the first readable one.
            resize: how they become square, as in `decode`.
            channels: 3 for RGB, 1 for grey.

        Raises:
            ValueError: `size`, `resize` or `channels` is none of these.
        """
        check_options(size=size, resize=resize, channels=channels)
        self.names = names
        self._read = read
        self._size = size
        self._resize: Resize = resize
        self._channels = channels
        self._image_shape = (size, size, channels) if size else None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def __len__(self) -> int:
        """How many images, N."""
        return len(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, H, W, ch)`; with size 0, decodes the first readable image, once.

        Raises:
            ImageError: size is 0, and no image can be read (the first one's error).
        """
        return (len(self), *self._shape_of_all())

    def __getitem__(self, index: SupportsIndex, /) -> UInt8[np.ndarray, "H W ch"]:
        """Image `index` of 0 .. N - 1, decoded anew: uint8 `[H, W, ch]`.

        Raises:
            ImageError: it cannot be read or decoded, or has not the common shape.
            IndexError: there is no such image.
        """
        index = self._checked(index)
        image = self._decode(index)
        expected = self._shape_of_all()
        if image.shape != expected:
            raise ImageError(
                f"{one_line(self.names[index])}: found an image of shape "
                f"{image.shape}, expected {expected} as of the first image (or a size "
                "to bring all images to)"
            )
        return image

    def encoded(self, index: SupportsIndex, /) -> bytes:
        """The bytes of image `index` of 0 .. N - 1 as stored, such as for hashing.

        Raises:
            ImageError: they cannot be read.
            IndexError: there is no such image.
        """
        index = self._checked(index)
        try:
            return self._read(index)
        except DataError:
            raise
        except (OSError, ValueError) as error:
            # ValueError: a name that no file system takes, such as one with a null.
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise ImageError(
                f"{one_line(self.names[index])}: found that it cannot be read "
                f"({one_line(reason)}), expected a readable file"
            ) from error

    def watched(self, note: Callable[[int, bytes], None]) -> "EncodedImages":
        """The same images, telling of each what its bytes are when it is read.

        Args:
            note: takes the image's index and its bytes, in whatever thread reads.
        """
        read = self._read

        def read_and_note(index: int) -> bytes:
            content = read(index)
            note(index, content)
            return content

        watched = EncodedImages.__new__(EncodedImages)
        watched.__setstate__(self.__getstate__() | {"_read": read_and_note})
        return watched

    def _checked(self, index: SupportsIndex) -> int:
        position = operator.index(index)
        if not 0 <= position < len(self):
            raise IndexError(f"index {position} is not in 0 .. {len(self) - 1}")
        return position

    def _decode(self, index: int) -> UInt8[np.ndarray, "H W ch"]:
        return decode(
            self.encoded(index),
            name=self.names[index],
            size=self._size,
            resize=self._resize,
            channels=self._channels,
        )

    def _shape_of_all(self) -> tuple[int, int, int]:
        with self._lock:
            if self._image_shape is None:
                self._image_shape = self._first_shape()
            return self._image_shape

    def _first_shape(self) -> tuple[int, int, int]:
        first_error = None
        for index in range(len(self)):
            try:
                height, width, channels = self._decode(index).shape
            except ImageError as error:
                first_error = first_error or error
            else:
                return height, width, channels
        if first_error is not None:
            raise first_error
        return 0, 0, self._channels


def image_files(
    root: pathlib.Path,
    names: Sequence[str],
    *,
    size: int = 0,
    resize: Resize = "crop",
    channels: int = 3,
) -> EncodedImages:
    """The image files `root / name`, read when indexed.

    Args:
        root: a folder.
        names: paths relative to it, such as those of `finding.find_images`; names that
            are not UTF-8 carry surrogate escapes, as everywhere in Python.
        size: see `EncodedImages`.
        resize: see `EncodedImages`.
        channels: see `EncodedImages`.

    Returns:
        The images, in the order of `names`.
    """
    read = functools.partial(_read_file, root, names)
    return EncodedImages(read, names, size=size, resize=resize, channels=channels)


def _read_file(root: pathlib.Path, names: Sequence[str], index: int) -> bytes:
    path = root / names[index]
    # A pipe or a device could block for ever, or never end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")
    return path.read_bytes()
