"""Weak augmentations: those that leave what an image shows untouched."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ssah_jax.similarity import arguments


@arguments.takes(
    image=arguments.image(moved=True),
    offset=arguments.places("2"),
    max_shift=arguments.whole(0),
)
def shift(
    image: Float[Array, "H W ch"],
    offset: Int[Array, "2"],
    *,
    max_shift: int,
) -> Float[Array, "H W ch"]:
    """Moves an image by whole pixels; vacated pixels repeat the nearest edge.

    Args:
        image: `[H, W, ch]`.
        offset: (rows down, columns to the right), `[2]`, integers in
            [-max_shift, max_shift]; one beyond is taken as the nearest bound.
        max_shift: the padding that the move needs, in pixels, at least 0.

    Returns:
        The moved image, `[H, W, ch]`; zero gradient with respect to `offset`.

    Raises:
        ValueError: if `max_shift` is negative.
    """
    if max_shift < 0:
        raise ValueError(f"max_shift: found {max_shift}, accepted is 0 or more pixels")
    pad = (max_shift, max_shift)
    padded = jnp.pad(image, (pad, pad, (0, 0)), mode="edge")
    # A slice that starts earlier shows the image further down and to the right. A
    # negative start would count from the end.
    start = jnp.maximum(max_shift - offset, 0)
    return jax.lax.dynamic_slice(padded, (start[0], start[1], 0), image.shape)


@arguments.takes(
    key=arguments.key, image=arguments.image(moved=True), max_shift=arguments.whole(0)
)
def random_shift(
    key: Key[Array, ""],
    image: Float[Array, "H W ch"],
    *,
    max_shift: int,
) -> Float[Array, "H W ch"]:
    """Moves an image by an offset drawn uniformly from a square of whole pixels.

    Args:
        key: a typed PRNG key; it is consumed.
        image: `[H, W, ch]`.
        max_shift: largest move along each side, in pixels; 0 is the identity.

    Returns:
        The moved image, `[H, W, ch]`; see `shift`.

    Raises:
        ValueError: if `max_shift` is negative.
    """
    if max_shift < 0:
        raise ValueError(f"max_shift: found {max_shift}, accepted is 0 or more pixels")
    offset = jax.random.randint(key, (2,), -max_shift, max_shift + 1)
    return shift(image, offset, max_shift=max_shift)


@arguments.takes(key=arguments.key, image=arguments.image(moved=True))
def random_flip(
    key: Key[Array, ""],
    image: Float[Array, "H W ch"],
) -> Float[Array, "H W ch"]:
    """Mirrors an image left to right with probability 1/2.

    Args:
        key: a typed PRNG key; it is consumed.
        image: `[H, W, ch]`.

    Returns:
        The image or its mirror image, `[H, W, ch]`.
    """
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


@arguments.takes(
    image=arguments.image(moved=True),
    corner=arguments.places("2"),
    size=arguments.whole(),
)
def crop(
    image: Float[Array, "H W ch"], corner: Int[Array, "2"], *, size: int
) -> Float[Array, "h w ch"]:
    """Cuts a square out of an image.

    Args:
        image: `[H, W, ch]`.
        corner: first (row, column) of the square, `[2]`; one that would leave the
            image is moved to the nearest that does not.
        size: side of the square in pixels, 1 .. min(H, W).

    Returns:
        The square, `[size, size, ch]`.

    Raises:
        ValueError: if `size` is out of range.
    """
    _check_crop(image, size)
    # A negative start would count from the end.
    row, column = jnp.maximum(corner, 0)
    return jax.lax.dynamic_slice(image, (row, column, 0), (size, size, image.shape[2]))


@arguments.takes(
    key=arguments.key, image=arguments.image(moved=True), size=arguments.whole()
)
def random_crop(
    key: Key[Array, ""], image: Float[Array, "H W ch"], *, size: int
) -> Float[Array, "h w ch"]:
    """Cuts out a square whose corner is drawn uniformly.

    Args:
        key: a typed PRNG key; it is consumed.
        image: `[H, W, ch]`.
        size: side of the square in pixels, 1 .. min(H, W).

    Returns:
        The square, `[size, size, ch]`; see `crop`.

    Raises:
        ValueError: if `size` is out of range.
    """
    _check_crop(image, size)
    room = jnp.array(image.shape[:2]) - size
    return crop(image, jax.random.randint(key, (2,), 0, room + 1), size=size)


@arguments.takes(image=arguments.image(moved=True), size=arguments.whole())
def centre_crop(image: Float[Array, "H W ch"], *, size: int) -> Float[Array, "h w ch"]:
    """Cuts out the square in the middle, the upper left one of those as near.

    Args:
        image: `[H, W, ch]`.
        size: side of the square in pixels, 1 .. min(H, W).

    Returns:
        The square, `[size, size, ch]`.

    Raises:
        ValueError: if `size` is out of range.
    """
    _check_crop(image, size)
    top, left = ((side - size) // 2 for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def _check_crop(image: Array, size: int) -> None:
    if not 1 <= size <= min(image.shape[:2]):
        raise ValueError(
            f"size: found {size}, accepted is 1 to {min(image.shape[:2])} pixels, the "
            "shorter side of the image"
        )
