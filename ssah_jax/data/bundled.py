"""Data sets that need no file, and those of MNIST's format."""

import pathlib
from collections.abc import Sequence

import numpy as np

from ssah_jax.data import idx, synthetic
from ssah_jax.data.source import DataError, Source, consecutive_parts, one_hot


def digits() -> Source:
    """The digits of scikit-learn, a quarter of each class held out as test part.

    Levels v in 0 .. 16 become round(v * 255 / 16), halves up, so that 0 and 16 become
    0 and 255 and no two levels become one. The package ships no test part: of the n
    images of a class, round(n / 4), halves up, are taken at equal distances in the
    order they come in. Neither depends on a seed.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI,
    https://archive.ics.uci.edu/dataset/80, its test part, as in scikit-learn.
    """
    # Here, because scikit-learn is slow to import and other sources do not need it.
    from sklearn.datasets import load_digits

    loaded = load_digits()
    levels = loaded.images.astype(np.uint16)
    images = ((levels * 255 + 8) // 16).astype(np.uint8)[..., None]
    labels = one_hot(loaded.target, num_classes=10)
    is_test = np.zeros(len(images), bool)
    for digit in range(10):
        members = np.flatnonzero(loaded.target == digit)
        count = (len(members) + 2) // 4
        is_test[members[(2 * np.arange(count) + 1) * len(members) // (2 * count)]] = (
            True
        )
    return Source(
        name="digits",
        images=np.concatenate([images[~is_test], images[is_test]]),
        labels=np.concatenate([labels[~is_test], labels[is_test]]),
        parts=consecutive_parts(train=int((~is_test).sum()), test=int(is_test.sum())),
        class_names=tuple(str(digit) for digit in range(10)),
        multi_label=False,
    )


def idx_directory(
    path: str | pathlib.Path, *, class_names: Sequence[str] | None = None
) -> Source:
    """A directory of MNIST-format IDX files; classes are 0 .. the largest label.

    Args:
        path: holds the four files; `""` is an error that says what is accepted.
        class_names: of the classes, in order; their numbers by default.

    Raises:
        DataError: a file that is missing or not what it should be.
        ValueError: fewer names than classes.
    """
    hint = (
        "a directory of MNIST-format IDX files (Debian's package "
        "dataset-fashion-mnist installs one: data.path=/usr/share/datasets/"
        "fashion-mnist)"
    )
    if not str(path):
        raise DataError(f"data.path: found none, expected {hint}")
    directory = pathlib.Path(path)
    if not directory.is_dir():
        raise DataError(f"{directory}: found no such directory, expected {hint}")
    arrays = {
        prefix: idx.read_idx_pair(directory, prefix) for prefix in ("train", "t10k")
    }
    shapes = {prefix: images.shape[1:] for prefix, (images, _) in arrays.items()}
    if shapes["train"] != shapes["t10k"]:
        raise DataError(
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
    images, labels = (
        np.concatenate(both) for both in zip(*arrays.values(), strict=True)
    )
    sizes = {prefix: len(labels) for prefix, (_, labels) in arrays.items()}
    return Source(
        name="idx",
        images=images,
        labels=one_hot(labels, num_classes=len(class_names)),
        parts=consecutive_parts(train=sizes["train"], test=sizes["t10k"]),
        class_names=tuple(class_names),
        multi_label=False,
    )


def synthetic_images(
    *,
    seed: int,
    num_classes: int = 10,
    image_size: int = 16,
    channels: int = 1,
    train_per_class: int = 100,
    test_per_class: int = 30,
    multi_label: bool = False,
) -> Source:
    """Generated images; see `ssah_jax.data.synthetic.generate` for the arguments.

    Args:
        seed: of the prototypes and all else.
        num_classes: C.
        image_size: height and width.
        channels: of an image.
        train_per_class: images of each class in the training part.
        test_per_class: likewise in the test part.
        multi_label: whether images show 1 to 3 classes.
    """
    sizes = {
        "train": num_classes * train_per_class,
        "test": num_classes * test_per_class,
    }
    drawn = [
        synthetic.generate(
            seed=seed,
            part=part,
            num_images=size,
            num_classes=num_classes,
            image_size=image_size,
            channels=channels,
            multi_label=multi_label,
        )
        for part, size in sizes.items()
    ]
    images, labels = (np.concatenate(both) for both in zip(*drawn, strict=True))
    return Source(
        name="synthetic",
        images=images,
        labels=labels,
        parts=consecutive_parts(**sizes),
        class_names=tuple(f"class{index}" for index in range(num_classes)),
        multi_label=multi_label,
    )
