"""Weak augmentations: those that leave what an image shows untouched."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


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
    # A slice that starts earlier shows the image further down and to the right.
    start = max_shift - offset
    return jax.lax.dynamic_slice(padded, (start[0], start[1], 0), image.shape)


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
