"""Generated images with classes that can be learned, for tests and first runs."""

import numpy as np
from jaxtyping import Float, Float32, UInt8

from ssah_jax.data import seeded

_BLOBS = 3
_MAX_LABELS = 3
_NOISE = 0.1


def generate(
    *,
    seed: int,
    part: str,
    num_images: int,
    num_classes: int,
    image_size: int,
    channels: int,
    multi_label: bool,
) -> tuple[UInt8[np.ndarray, "N H H ch"], Float32[np.ndarray, "N C"]]:
    """Images of smooth blobs in noise.

    A class is a prototype of three Gaussian blobs. An image is the prototype of its
    class, or the pixelwise maximum of those of its 1 to 3 classes, moved by at most a
    sixteenth of the image (and at least one pixel) in each direction, plus Gaussian
    noise of standard deviation 0.1 of the full range.

    Args:
        seed: of the prototypes and all else; any integer.
        part: name of the part; parts of one seed share prototypes and nothing else.
        num_images: N; classes come in turn, so each has N / C of a multiple N.
        num_classes: C.
        image_size: height and width H, at least 4.
        channels: ch.
        multi_label: whether an image shows 1 to 3 classes (at most C) instead of one.
            Its first is the one whose turn it is.

    Returns:
        Images, uint8 `[N, H, H, ch]`, and multi-hot labels, `[N, C]`.

    Raises:
        ValueError: a size is below its least value.
    """
    for field, found, least in (
        ("number of images", num_images, 1),
        ("num_classes", num_classes, 1),
        ("image_size", image_size, 4),
        ("channels", channels, 1),
    ):
        if found < least:
            raise ValueError(
                f"data source 'synthetic': found {field} = {found}, "
                f"expected at least {least}"
            )
    prototypes = _prototypes(
        seed, num_classes=num_classes, image_size=image_size, channels=channels
    )
    rng = seeded.generator(seed, "synthetic", part)
    labels = np.zeros((num_images, num_classes), np.float32)
    labels[np.arange(num_images), np.arange(num_images) % num_classes] = 1
    if multi_label:
        most = min(_MAX_LABELS, num_classes)
        for row in labels:
            others = np.flatnonzero(row == 0)
            row[rng.permutation(others)[: rng.integers(most)]] = 1
    reach = max(1, image_size // 16)
    images = np.empty((num_images, image_size, image_size, channels), np.uint8)
    for image, row in zip(images, labels, strict=True):
        clean = prototypes[row == 1].max(axis=0)
        clean = _moved(clean, *rng.integers(-reach, reach + 1, size=2).tolist())
        noisy = clean + _NOISE * rng.standard_normal(clean.shape)
        image[:] = np.round(255 * np.clip(noisy, 0, 1))
    return images, labels


def _prototypes(
    seed: int, *, num_classes: int, image_size: int, channels: int
) -> Float[np.ndarray, "C H H ch"]:
    """One image of blobs for each class, in [0, 1], `[C, H, H, ch]`."""
    rng = seeded.generator(seed, "synthetic", "prototypes")
    centre = rng.uniform(0.15, 0.85, size=(num_classes, _BLOBS, 2))
    width = rng.uniform(0.08, 0.18, size=(num_classes, _BLOBS))
    colour = rng.uniform(0.5, 1.0, size=(num_classes, _BLOBS, channels))
    grid = (np.arange(image_size) + 0.5) / image_size
    profile = np.exp(
        -((grid - centre[..., None]) ** 2) / (2 * width[..., None, None] ** 2)
    )
    blobs = np.einsum("cbh,cbw,cbk->cbhwk", profile[:, :, 0], profile[:, :, 1], colour)
    return blobs.max(axis=1)


def _moved(
    image: Float[np.ndarray, "H W ch"], down: int, right: int
) -> Float[np.ndarray, "H W ch"]:
    """`image` moved by whole pixels, zero where nothing was."""
    reach = max(abs(down), abs(right))
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)))
    height, width, _ = image.shape
    return padded[reach - down :, reach - right :][:height, :width]
