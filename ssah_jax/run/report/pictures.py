"""Pictures of images as PNG, for people: thumbnails, and strips of what A-Net does."""

import io

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

SIDE = 96
"""Longest side of a picture, in pixels."""

STRIP_GAP = 4
"""Pixels between the images of a strip, and between its two rows."""


def draw_picture(image: UInt8[np.ndarray, "H W ch"]) -> bytes:
    """A PNG of an image, its longer side close to `SIDE` and never above it.

    Args:
        image: uint8 `[H, W, ch]` in 0 .. 255; ch is 1 (grey) or 3.

    Returns:
        A small image enlarged by a whole factor, its pixels kept square; a large one
        reduced, and in 256 colours: half the bytes, for an eye the same.

    Raises:
        ValueError: the image is empty, or ch is neither 1 nor 3.
    """
    height, width, channels = image.shape
    if 0 in image.shape or channels not in (1, 3):
        raise ValueError(
            f"image: found shape {image.shape}, accepted is [H >= 1, W >= 1, 1 or 3]"
        )
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    factor = SIDE // max(height, width)
    if factor > 1:
        size = (factor * width, factor * height)
        return _png(picture.resize(size, Image.Resampling.NEAREST))
    return reduce_picture(_png(picture), longest=SIDE)


def draw_missing() -> bytes:
    """A PNG of a grey square, for an image that cannot be read."""
    return _png(Image.new("L", (SIDE, SIDE), 128))


def reduce_picture(png: bytes, *, longest: int) -> bytes:
    """A PNG of fewer bytes for a page: no side too long, at most 256 colours.

    Args:
        png: a picture; its transparency is kept.
        longest: side in pixels that the result has at most, >= 1.

    Returns:
        The given bytes, where nothing smaller came of it.
    """
    picture: Image.Image = Image.open(io.BytesIO(png))
    share = longest / max(picture.size)
    if share < 1:
        width, height = (max(1, round(share * side)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.HAMMING)
    # Only this method of Pillow's keeps transparency.
    method = Image.Quantize.FASTOCTREE if picture.mode == "RGBA" else None
    if picture.mode in ("RGB", "RGBA"):
        picture = picture.quantize(256, method=method)
    smaller = _png(picture)
    return smaller if share < 1 or len(smaller) < len(png) else png


def draw_strip(
    images: Float[np.ndarray, "n H W ch"], generated: Float[np.ndarray, "n H W ch"]
) -> bytes:
    """Draws images above what was generated of them.

    Args:
        images: `[n, H, W, ch]` in [0, 1], clipped to it; ch is 1 (grey) or 3.
        generated: `[n, H, W, ch]`, likewise.

    Returns:
        A PNG of two rows, small images enlarged by a whole factor, pixels kept
        square, gaps transparent.

    Raises:
        ValueError: there are no images, or ch is neither 1 nor 3.
    """
    number, height, width, channels = images.shape
    if not number or channels not in (1, 3):
        raise ValueError(
            f"images: found shape {images.shape}, accepted is [n >= 1, H, W, 1 or 3]"
        )
    factor = max(1, 96 // max(height, width))
    tall, wide = factor * height + STRIP_GAP, factor * width + STRIP_GAP
    canvas = np.zeros((2 * tall - STRIP_GAP, number * wide - STRIP_GAP, 4), np.uint8)
    for row, batch in enumerate((images, generated)):
        pixels = np.rint(np.clip(batch, 0, 1) * 255).astype(np.uint8)
        pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
        for column, image in enumerate(pixels):
            top, left = row * tall, column * wide
            cell = canvas[top : top + tall - STRIP_GAP, left : left + wide - STRIP_GAP]
            cell[..., :3] = image
            cell[..., 3] = 255
    return _png(Image.fromarray(canvas))


def draw_heat(
    image: UInt8[np.ndarray, "H W ch"], heat: Float[np.ndarray, "H W"]
) -> bytes:
    """A PNG of an image in grey below a map of heat.

    Args:
        image: uint8 `[H, W, ch]` in 0 .. 255; ch is 1 (grey) or 3.
        heat: `[H, W]` in [0, 1]; NaN leaves the image as it is.

    Returns:
        Of the size of `draw_picture`.
    """
    known = np.isfinite(heat)
    colour = matplotlib.colormaps["inferno"](np.where(known, heat, 0))[..., :3]
    grey = image.mean(axis=-1, keepdims=True) / 255
    mixed = np.where(known[..., None], 0.35 * grey + 0.65 * colour, grey)
    return draw_picture(np.rint(mixed * 255).astype(np.uint8))


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="png", optimize=True)
    return file.getvalue()
