"""Multi-scale occlusion: a soft choice among windows, and what to fill them with.

Masks say 1 where the image is hidden and 0 where it is seen.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ssah_jax.similarity import arguments

_FILLS = ("zero", "mean", "noise")


@arguments.takes(
    side=arguments.whole(1),
    scales=arguments.shares,
    grid=arguments.whole(1),
    reach=arguments.number("(0, 1]"),
)
def window_profiles(
    side: int,
    *,
    scales: Sequence[float],
    grid: int,
    reach: float | Float[Array, ""] = 1.0,
) -> Float[Array, "S {grid} {side}"]:
    """Box profiles of every window along one side of an image.

    A window of scale s covers `round(reach * s * side)` pixels (halves to even), at
    least 1. Its start runs evenly, to the nearest pixel, from 0 to
    `side - size` over the grid, so each window lies wholly inside the image. A grid
    of one cell holds the centred window.

    Args:
        side: pixels along the side, at least 1.
        scales: sizes of the windows as shares of the side, each in (0, 1].
        grid: positions along the side, at least 1.
        reach: multiplies all sizes, (0, 1]; it has no gradient.

    Returns:
        `[S, G, side]` in {0, 1}: 1 where the window covers the pixel.

    Raises:
        ValueError: if `side`, `scales` or `grid` is out of its range.
    """
    if side < 1:
        raise ValueError(f"side: found {side}, accepted is 1 or more pixels")
    if grid < 1:
        raise ValueError(f"grid: found {grid}, accepted is 1 or more cells a side")
    outside = [scale for scale in scales if not 0 < scale <= 1]
    if outside or not len(scales):
        raise ValueError(
            f"scales: found {tuple(scales)}, accepted are one or more shares in (0, 1]"
        )
    size = jnp.maximum(jnp.round(reach * (np.array(scales) * side)), 1)
    cell = np.linspace(0.0, 1.0, grid) if grid > 1 else np.array([0.5])
    start = jnp.round((side - size)[:, None] * cell[None, :])[..., None]
    pixel = np.arange(side)[None, None, :]
    inside = (pixel >= start) & (pixel < start + size[:, None, None])
    return jnp.asarray(inside, jnp.float32)


@arguments.takes(
    scale=arguments.real("S", "[0, 1]"),
    position=arguments.real("S G G", "[0, 1]"),
    scales=arguments.shares,
    height=arguments.whole(1),
    width=arguments.whole(1),
    reach=arguments.number("(0, 1]"),
)
def occlusion_mask(
    scale: Float[Array, "S"],
    position: Float[Array, "S G G"],
    *,
    scales: Sequence[float],
    height: int,
    width: int,
    reach: float | Float[Array, ""] = 1.0,
) -> Float[Array, "{height} {width}"]:
    """The mask of the chosen window: a sum of boxes weighted by the choices.

    `mask[h, w] = sum_s scale[s] sum_ij position[s, i, j] row[s, i, h] col[s, j, w]`,
    linear in `scale` and in `position`, hence differentiable in both: the gradient of
    a choice is what the box of each alternative would have changed. Boxes are
    products of a row and a column profile, so no `[S, G, G, H, W]` array is formed.

    With a one-hot `scale` the gradient with respect to the positions of the scales
    not chosen is zero.

    Args:
        scale: weight of each window scale, `[S]` in [0, 1]; one-hot for one window.
        position: weight of each window position (row, column), a grid for each
            scale, `[S, G, G]` in [0, 1]; one-hot over each grid for one window.
        scales: sizes of the windows as shares of the sides, S values in (0, 1].
        height: pixel rows of the mask.
        width: pixel columns of the mask.
        reach: multiplies all sizes, (0, 1]; it has no gradient.

    Returns:
        `[height, width]`: 1 where hidden, 0 where seen; exactly so for one-hot
        choices, between the two for soft ones that sum to 1.

    Raises:
        ValueError: if the count of `scales` is not S, or a value is out of range.
    """
    if len(scales) != scale.shape[0]:
        raise ValueError(
            f"scales: found {len(scales)} values, accepted are {scale.shape[0]}, one "
            "for each entry of scale"
        )
    grid = position.shape[-1]
    row = window_profiles(height, scales=scales, grid=grid, reach=reach)
    col = window_profiles(width, scales=scales, grid=grid, reach=reach)
    # Full precision keeps the gradient exact where matrix units round their inputs.
    highest = jax.lax.Precision.HIGHEST
    rows = jnp.einsum("s,sij,sih->sjh", scale, position, row, precision=highest)
    return jnp.einsum("sjh,sjw->hw", rows, col, precision=highest)


@arguments.takes(
    image=arguments.image(),
    mask=arguments.real("H W", "[0, 1]"),
    fill=arguments.fill,
)
def occlude(
    image: Float[Array, "H W ch"],
    mask: Float[Array, "H W"],
    *,
    fill: float | Float[Array, ""] | Float[Array, "ch"] | Float[Array, "H W ch"],
) -> Float[Array, "H W ch"]:
    """Replaces what a mask hides: `image * (1 - mask) + fill * mask`.

    Args:
        image: `[H, W, ch]`.
        mask: `[H, W]` in [0, 1]: 1 where hidden.
        fill: what takes the place of hidden pixels: a scalar, a colour `[ch]`, or an
            image `[H, W, ch]`, in [0, 1].

    Returns:
        The occluded image, `[H, W, ch]`.
    """
    mask = mask[..., None]
    return image * (1 - mask) + jnp.broadcast_to(fill, image.shape) * mask


@arguments.takes(
    key=arguments.key,
    kind=arguments.word(*_FILLS),
    height=arguments.whole(1),
    width=arguments.whole(1),
    mean=arguments.real("ch", "[0, 1]"),
)
def fill_value(
    key: Key[Array, ""],
    *,
    kind: str,
    height: int,
    width: int,
    mean: Float[Array, "ch"],
) -> Float[Array, "{height} {width} ch"]:
    """An image to fill occluded windows with.

    Args:
        key: a typed PRNG key; it is consumed ("noise" alone draws from it).
        kind: "zero" (black), "mean" (the data set's mean colour) or "noise" (uniform
            in [0, 1), independent for each pixel and channel).
        height: pixel rows of the image.
        width: pixel columns of the image.
        mean: mean colour of the data set, `[ch]` in [0, 1]; gives the channels and
            the dtype for every kind.

    Returns:
        `[height, width, ch]` in [0, 1].

    Raises:
        ValueError: if `kind` is none of the three words.
    """
    shape = (height, width, mean.shape[0])
    if kind == "zero":
        return jnp.zeros(shape, mean.dtype)
    if kind == "mean":
        return jnp.broadcast_to(mean, shape)
    if kind == "noise":
        return jax.random.uniform(key, shape, mean.dtype)
    raise ValueError(f"fill kind: found {kind!r}, accepted are {', '.join(_FILLS)}")
