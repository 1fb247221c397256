"""Where images and labels come from.

A source has two parts, train and test. Images stay behind random access, so that a
part may decode a file only when it is asked for; labels are small and in memory.
"""

import dataclasses
import inspect
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from ssah_jax.data import idx, synthetic


@runtime_checkable
class ImageSequence(Protocol):
    """Random access to images of one shape; a uint8 `[N, H, W, ch]` array is one."""

    def __len__(self) -> int:
        """How many images, N."""

    def __getitem__(self, index: int, /) -> UInt8[np.ndarray, "H W ch"]:
        """Image `index` of 0 .. N - 1, uint8 `[H, W, ch]`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Images and their labels, in one fixed order.

    Attributes:
        images: N images of one shape, each uint8 `[H, W, ch]` in 0 .. 255, by index.
        labels: multi-hot labels in {0, 1}, `[N, C]`.

    Raises:
        ValueError: images and labels differ in number, or an array of images is not
            uint8 of four dimensions.
    """

    images: ImageSequence
    labels: Float32[np.ndarray, "N C"]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"found {len(self.images)} images and {len(self.labels)} rows of "
                "labels, expected as many of both"
            )
        array = self.images
        if isinstance(array, np.ndarray) and (
            array.dtype != np.uint8 or array.ndim != 4
        ):
            raise ValueError(
                f"found images of type {array.dtype} and shape {array.shape}, "
                "expected uint8 [N, H, W, ch]"
            )

    def __len__(self) -> int:
        """How many images, N."""
        return len(self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A data set.

    Attributes:
        name: the name it was loaded by.
        train: images to draw labelled, unlabelled and database images from.
        test: images to draw queries from.
        class_names: the name of each of the C classes.
        multi_label: whether an image may show any number of classes; otherwise each
            shows exactly one.

    Raises:
        ValueError: a part has another number of classes than there are names.
    """

    name: str
    train: Part
    test: Part
    class_names: tuple[str, ...]
    multi_label: bool

    def __post_init__(self) -> None:
        for part_name, part in (("train", self.train), ("test", self.test)):
            if part.labels.shape[1] != len(self.class_names):
                raise ValueError(
                    f"source {self.name!r}: found {part.labels.shape[1]} columns of "
                    f"{part_name} labels and {len(self.class_names)} class names, "
                    "expected as many of both"
                )

    @property
    def num_classes(self) -> int:
        """How many classes, C."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape `(H, W, ch)` of every image."""
        height, width, channels = self.train.images[0].shape
        return height, width, channels


def load_source(
    name: str, *, path: str | pathlib.Path | None = None, seed: int = 0, **options: Any
) -> Source:
    """Loads a data set by name.

    Names, and the options each takes:

    - `digits`: the 1,797 images of 8 x 8 pixels inside scikit-learn. No options.
    - `idx`: a directory of MNIST-format IDX files at `path`. Option `class_names`.
    - `synthetic`: generated images, a function of `seed`. Options `num_classes`,
      `image_size`, `channels`, `train_per_class`, `test_per_class`, `multi_label`;
      see `ssah_jax.data.synthetic.generate`.

    Args:
        name: which data set.
        path: the directory of a data set that is read from files.
        seed: of a data set that is generated; the others ignore it.
        **options: of the data set.

    Returns:
        The data set, the same for the same arguments.

    Raises:
        ValueError: an unknown name or option, or an option out of range.
        DataError: a file that is missing or not what it should be.
    """
    if name not in _LOADERS:
        raise ValueError(
            f"data source: found {name!r}, accepted are {', '.join(sorted(_LOADERS))}"
        )
    load = _LOADERS[name]
    accepted = set(inspect.signature(load).parameters) - {"path", "seed"}
    for option in options:
        if option not in accepted:
            raise ValueError(
                f"data source {name!r}: found option {option!r}, accepted are "
                f"{', '.join(sorted(accepted)) or 'none'}"
            )
    return load(path=path, seed=seed, **options)


def one_hot(classes: np.ndarray, *, num_classes: int) -> Float32[np.ndarray, "N C"]:
    """One-hot rows `[N, C]` of integer classes `[N]` in 0 .. C - 1."""
    return np.eye(num_classes, dtype=np.float32)[classes]


def _load_digits(*, path: str | pathlib.Path | None, seed: int) -> Source:
    """The digits of scikit-learn, a quarter of each class held out as test part.

    Levels v in 0 .. 16 become round(v * 255 / 16), halves up, so that 0 and 16 become
    0 and 255 and no two levels become one. The package ships no test part: of the n
    images of a class, round(n / 4), halves up, are taken at equal distances in the
    order they come in. Neither depends on a seed.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI,
    https://archive.ics.uci.edu/dataset/80, its test part, as in scikit-learn.
    """
    del path, seed
    # Here, because scikit-learn is slow to import and other sources do not need it.
    from sklearn.datasets import load_digits

    digits = load_digits()
    levels = digits.images.astype(np.uint16)
    images = ((levels * 255 + 8) // 16).astype(np.uint8)[..., None]
    labels = one_hot(digits.target, num_classes=10)
    is_test = np.zeros(len(images), bool)
    for digit in range(10):
        members = np.flatnonzero(digits.target == digit)
        count = (len(members) + 2) // 4
        is_test[members[(2 * np.arange(count) + 1) * len(members) // (2 * count)]] = (
            True
        )
    return Source(
        name="digits",
        train=Part(images=images[~is_test], labels=labels[~is_test]),
        test=Part(images=images[is_test], labels=labels[is_test]),
        class_names=tuple(str(digit) for digit in range(10)),
        multi_label=False,
    )


def _load_idx(
    *,
    path: str | pathlib.Path | None,
    seed: int,
    class_names: Sequence[str] | None = None,
) -> Source:
    """A directory of MNIST-format IDX files; classes are 0 .. the largest label."""
    del seed
    hint = (
        "a directory of MNIST-format IDX files (Debian's package "
        "dataset-fashion-mnist installs one: data.path=/usr/share/datasets/"
        "fashion-mnist)"
    )
    if path is None:
        raise idx.DataError(f"data.path: found none, expected {hint}")
    directory = pathlib.Path(path)
    if not directory.is_dir():
        raise idx.DataError(f"{directory}: found no such directory, expected {hint}")
    arrays = {
        prefix: idx.read_idx_pair(directory, prefix) for prefix in ("train", "t10k")
    }
    shapes = {prefix: images.shape[1:] for prefix, (images, _) in arrays.items()}
    if shapes["train"] != shapes["t10k"]:
        raise idx.DataError(
            f"{directory}: found t10k images of shape {shapes['t10k']}, "
            f"expected {shapes['train']} as in train"
        )
    num_classes = 1 + max(int(labels.max()) for _, labels in arrays.values())
    if class_names is None:
        class_names = [str(index) for index in range(num_classes)]
    if len(class_names) < num_classes:
        raise ValueError(
            f"class_names: found {len(class_names)} names, expected at least "
            f"{num_classes}: {directory} holds the label {num_classes - 1}"
        )
    train, test = (
        Part(images=images, labels=one_hot(labels, num_classes=len(class_names)))
        for images, labels in (arrays["train"], arrays["t10k"])
    )
    return Source(
        name="idx",
        train=train,
        test=test,
        class_names=tuple(class_names),
        multi_label=False,
    )


def _load_synthetic(
    *,
    path: str | pathlib.Path | None,
    seed: int,
    num_classes: int = 10,
    image_size: int = 16,
    channels: int = 1,
    train_per_class: int = 100,
    test_per_class: int = 30,
    multi_label: bool = False,
) -> Source:
    """Generated images; see `ssah_jax.data.synthetic.generate`."""
    del path
    parts = {
        part: synthetic.generate(
            seed=seed,
            part=part,
            num_images=num_classes * per_class,
            num_classes=num_classes,
            image_size=image_size,
            channels=channels,
            multi_label=multi_label,
        )
        for part, per_class in (("train", train_per_class), ("test", test_per_class))
    }
    return Source(
        name="synthetic",
        train=Part(*parts["train"]),
        test=Part(*parts["test"]),
        class_names=tuple(f"class{index}" for index in range(num_classes)),
        multi_label=multi_label,
    )


_LOADERS: dict[str, Callable[..., Source]] = {
    "digits": _load_digits,
    "idx": _load_idx,
    "synthetic": _load_synthetic,
}
