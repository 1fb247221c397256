"""Images as somebody has them in Python (arrays, Pillow's, paths), made one shape.

What comes out of a file and of the same pixels in memory is the same.
"""

import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ssah_jax.data.encoded import image_files
from ssah_jax.data.finding import find_images
from ssah_jax.data.images import Resize, decode, square
from ssah_jax.data.source import DataError

_FORMS = (
    "accepted are an array [N, H, W, ch], a folder, or a sequence of paths, arrays "
    "[H, W, ch] or pictures of Pillow"
)
# What rounding may add to a number in [0, 1].
_ROUNDING = 1e-3


class GivenImages:
    """Images of any sizes, made square when looked up: an `ImageSequence`.

    Attributes:
        names: of the N images: their paths, or their numbers.
        shape: `(N, S, S, ch)`.
    """

    names: Sequence[str]
    shape: tuple[int, ...]

    def __init__(
        self, given: Any, *, size: int, resize: Resize = "crop", channels: int = 3
    ) -> None:
        """Looks at no image yet.

        Args:
            given: an array `[N, H, W, ch]`, uint8 or float in [0, 1]; a path of a file
                or of a folder with all images below it; or a sequence of paths, arrays
                `[H, W, ch]` or `[H, W]`, and pictures of Pillow.
            size: S, in pixels.
            resize: how they become square, as in `decode`.
            channels: 3 for RGB, 1 for grey.

        Raises:
            ValueError: it is none of these.
            DataError: there is no such folder, or no image in it.
        """
        self._items = _items(given)
        self._size, self._resize, self._channels = size, resize, channels
        self.names = [
            os.fspath(x) if isinstance(x, str | os.PathLike) else str(number)
            for number, x in enumerate(self._items)
        ]
        self.shape = (len(self._items), size, size, channels)

    def __len__(self) -> int:
        """How many images, N."""
        return len(self._items)

    def __getitem__(self, index: int, /) -> UInt8[np.ndarray, "S S ch"]:
        """Image `index` of 0 .. N - 1.

        Raises:
            DataError: it cannot be read, or is no image.
        """
        item = self._items[index]
        options: Any = {"resize": self._resize, "channels": self._channels}
        if isinstance(item, str | os.PathLike):
            name = os.fspath(item)
            content = image_files(pathlib.Path(), [name]).encoded(0)
            return decode(content, name=name, size=self._size, **options)
        if not isinstance(item, Image.Image):
            item = Image.fromarray(_pixels(item, self.names[index]))
        return square(item, size=self._size, **options)


def _items(given: Any) -> Any:
    if isinstance(given, str | os.PathLike):
        path = pathlib.Path(given)
        if not path.is_dir():
            return [path]
        found = [os.path.join(given, name) for name in find_images(path)]
        if not found:
            raise DataError(f"{path}: found no images, expected at least one")
        return found
    shape = getattr(given, "shape", None)
    if isinstance(given, Image.Image) or (shape is not None and len(shape) != 4):
        what = f"shape {shape}" if shape is not None else "one picture"
        raise ValueError(f"images: found {what}, {_FORMS}")
    if hasattr(given, "__array__"):
        return np.asarray(given)
    if hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        return given
    if not isinstance(given, Iterable):
        raise ValueError(f"images: found {type(given).__name__}, {_FORMS}")
    return [*given]


def _pixels(item: Any, name: str) -> UInt8[np.ndarray, "H W *ch"]:
    array = np.asarray(item)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise DataError(
            f"image {name}: found shape {array.shape}, accepted are [H, W] and "
            "[H, W, ch] of 1 or 3 channels"
        )
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating) or not (
            array.min() >= -_ROUNDING and array.max() <= 1 + _ROUNDING
        ):
            raise DataError(
                f"image {name}: found {array.dtype} of {array.min()} to {array.max()}, "
                "accepted are uint8, and floats in [0, 1]"
            )
        array = np.rint(255 * np.clip(array, 0, 1)).astype(np.uint8)
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
