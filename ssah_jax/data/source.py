"""The record of a data set: images behind an index, labels in memory, named parts."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

AnyImage = UInt8[np.ndarray, "H W ch"] | Float[np.ndarray, "H W ch"]
"""An image of pixels, or a stored feature `[1, 1, D]`."""

AnyImages = UInt8[np.ndarray, "B H W ch"] | Float[np.ndarray, "B H W ch"]
"""A batch of images of pixels, or of stored features `[B, 1, 1, D]`."""

_DTYPES = (np.dtype(np.uint8), np.dtype(np.float16), np.dtype(np.float32))


class DataError(ValueError):
    """A data file or directory that cannot be used; the message is one line."""


@runtime_checkable
class ImageSequence(Protocol):
    """Random access to images of one shape; a uint8 `[N, H, W, ch]` array is one.

    One of stored features has an attribute `dtype` that is float16 or float32.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, H, W, ch)`, without reading more than one image."""

    def __len__(self) -> int:
        """How many images, N."""

    def __getitem__(self, index: int, /) -> AnyImage:
        """Image `index` of 0 .. N - 1, uint8 `[H, W, ch]`; safe in several threads."""


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A data set: a pool of N images, and which of them its makers call what.

    Attributes:
        name: the name it was loaded by.
        images: all images, of one shape, each uint8 `[H, W, ch]` in 0 .. 255; or
            stored features, each float `[1, 1, D]`.
        labels: multi-hot labels in {0, 1}, `[N, C]`; rows of part `unlabelled` are
            zero and mean "not known".
        parts: sorted indices into the pool, by name. `train` and `test` are the
            official ones; `database` is given where it is not simply the training
            part; `unlabelled` holds images whose labels nobody knows.
        class_names: the name of each of the C classes.
        multi_label: whether an image may show any number of classes; otherwise each
            with a known label shows exactly one.
        missing: names of images that the data set lists and the disk lacks.
        names: of the N images, such as their files; taken from `images` where these
            know them, and empty where nobody does.
        content: a digest of the images themselves, where somebody knows one.
        passed_over: how many files and folders of each kind were not taken.
        notes: what was understood otherwise than it is written, a phrase each.
        place: where image i is listed, such as `test.txt:3`, for messages; None where
            images are not listed.

    Raises:
        ValueError: images, labels, parts and class names do not fit together.
    """

    name: str
    images: ImageSequence
    labels: Float32[np.ndarray, "N C"]
    parts: Mapping[str, Int64[np.ndarray, "n"]]
    class_names: tuple[str, ...]
    multi_label: bool
    missing: tuple[str, ...] = ()
    names: Sequence[str] = ()
    content: str = ""
    passed_over: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    place: Callable[[int], str] | None = None

    def __post_init__(self) -> None:
        if not self.names:
            names = getattr(self.images, "names", ())
            object.__setattr__(self, "names", names)
        where = f"source {self.name!r}"
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"{where}: found {len(self.images)} images and {len(self.labels)} "
                "rows of labels, expected as many of both"
            )
        if self.labels.shape[1] != len(self.class_names):
            raise ValueError(
                f"{where}: found {self.labels.shape[1]} columns of labels and "
                f"{len(self.class_names)} class names, expected as many of both"
            )
        array = self.images
        if isinstance(array, np.ndarray) and (
            array.dtype not in _DTYPES or array.ndim != 4
        ):
            raise ValueError(
                f"{where}: found images of type {array.dtype} and shape "
                f"{array.shape}, expected uint8 [N, H, W, ch], or float16 or float32 "
                "of features"
            )
        for part, indices in self.parts.items():
            if np.any(np.diff(indices) <= 0):
                raise ValueError(
                    f"{where}: found indices of part {part!r} that repeat or are not "
                    "sorted, expected strictly increasing ones"
                )
            if len(indices) and not (indices[0] >= 0 and indices[-1] < len(self)):
                raise ValueError(
                    f"{where}: found indices of part {part!r} from {indices[0]} to "
                    f"{indices[-1]}, expected 0 to {len(self) - 1}"
                )

    def __len__(self) -> int:
        """How many images, N."""
        return len(self.labels)

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of labels, classes, parts and names of images.

        Pixels are left out, but for `content`: reading all of them may take hours.
        """
        digest = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        for part in sorted(self.parts):
            digest.update(part.encode() + self.parts[part].astype("<i8").tobytes())
        digest.update(np.packbits(self.labels != 0).tobytes())
        for name in self.names:
            digest.update(os.fsencode(name) + b"\0")
        digest.update(self.content.encode())
        return digest.hexdigest()

    def part(self, name: str) -> Int64[np.ndarray, "n"]:
        """The indices of a part, none where there is no such part."""
        return self.parts.get(name, np.zeros(0, np.int64))

    def describe(self, index: int) -> str:
        """How messages call image `index`: its number, its name, where it is listed."""
        words = [f"image {index}"]
        if len(self.names):
            words.append(repr(self.names[index]))
        if self.place is not None:
            words.append(f"({self.place(index)})")
        return " ".join(words)

    @property
    def num_classes(self) -> int:
        """How many classes, C."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape `(H, W, ch)` of every image."""
        _, height, width, channels = self.images.shape
        return height, width, channels


def consecutive_parts(**sizes: int) -> dict[str, Int64[np.ndarray, "n"]]:
    """Parts that follow one another in the pool, by name and size.

    Args:
        **sizes: such as `train=60000, test=10000`; parts of size 0 are left out.

    Returns:
        The indices of each part.
    """
    parts, start = {}, 0
    for name, size in sizes.items():
        if size:
            parts[name] = np.arange(start, start + size, dtype=np.int64)
        start += size
    return parts


def one_hot(classes: np.ndarray, *, num_classes: int) -> Float32[np.ndarray, "N C"]:
    """One-hot rows `[N, C]` of integer classes `[N]` in 0 .. C - 1."""
    return np.eye(num_classes, dtype=np.float32)[classes]
