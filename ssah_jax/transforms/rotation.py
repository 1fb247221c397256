"""Rotation by an affine grid and a bilinear sampler that can be learned through.

The pull convention throughout: a grid says, for each output pixel, where in the source
image its value comes from. The decomposition into parameters, grid and sampler is that
of "Spatial Transformer Networks" (Jaderberg et al., https://arxiv.org/abs/1506.02025);
in place of their coordinates in [-1, 1], these are pixels, so that a rotation stays one
on images that are not square.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ssah_jax.similarity import arguments

_PAD_MODES = {"zeros": "constant", "edge": "edge"}


@arguments.takes(angle=arguments.angle())
def rotation_matrix(angle: float | Float[Array, ""]) -> Float[Array, "2 3"]:
    """The affine matrix of a rotation about the centre of an image.

    It takes an *output* pixel to its *source*: with (r, c) the row and column of the
    output pixel, in pixels from the image's centre, rows downward, its value comes from

        source row    =  cos(angle) r + sin(angle) c
        source column = -sin(angle) r + cos(angle) c.

    Args:
        angle: radians; a positive angle turns what the image shows counter-clockwise
            as displayed (`pi / 2` is `np.rot90` on a square image).

    Returns:
        `[2, 3]`: the two rows above, with a last column (translation, in pixels) of 0.
    """
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    zero = jnp.zeros_like(cos)
    return jnp.stack([jnp.stack([cos, sin, zero]), jnp.stack([-sin, cos, zero])])


@arguments.takes(
    matrix=arguments.real("2 3"), height=arguments.whole(1), width=arguments.whole(1)
)
def affine_grid(
    matrix: Float[Array, "2 3"],
    *,
    height: int,
    width: int,
) -> Float[Array, "{height} {width} 2"]:
    """Where each output pixel comes from under an affine map.

    Args:
        matrix: `[2, 3]`; takes (row, column, 1) of an output pixel, in pixels from the
            image's centre, to the (row, column) of its source, also from the centre.
        height: pixel rows of the output and of the source, at least 1.
        width: pixel columns of both, at least 1.

    Returns:
        `[height, width, 2]`: the source's (row, column) in pixels from the centre of
        the top left pixel. The identity matrix gives each pixel's own indices exactly.
    """
    return _block_grid(matrix, np.arange(height), np.arange(width))


def _block_grid(
    matrix: Float[Array, "2 3"], rows: np.ndarray, columns: np.ndarray
) -> Float[Array, "h w 2"]:
    """`affine_grid` of the pixels `rows` x `columns`, about their own centre."""
    shape = (len(rows), len(columns))
    centre = ((rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2)
    row = np.broadcast_to((rows - centre[0])[:, None], shape).astype(matrix.dtype)
    col = np.broadcast_to((columns - centre[1])[None, :], shape).astype(matrix.dtype)
    source = [
        matrix[axis, 0] * row + matrix[axis, 1] * col + matrix[axis, 2] + centre[axis]
        for axis in (0, 1)
    ]
    return jnp.stack(source, axis=-1)


@arguments.takes(
    image=arguments.image(),
    grid=arguments.real("h w 2"),
    border=arguments.word("zeros", "edge"),
)
def bilinear_sample(
    image: Float[Array, "H W ch"],
    grid: Float[Array, "h w 2"],
    *,
    border: str = "zeros",
) -> Float[Array, "h w ch"]:
    """Samples an image at real-valued pixel coordinates.

    The value at (y, x) mixes the four pixels at rows floor(y) and floor(y) + 1, columns
    floor(x) and floor(x) + 1, by y - floor(y) and x - floor(x). The result is
    continuous, with kinks at whole coordinates, where the gradient is the one toward
    larger coordinates. It is therefore not zero at the identity, as it is where the
    second neighbour is ceil(y), which falls together with the first.

    Args:
        image: `[H, W, ch]`.
        grid: (row, column) in pixels from the centre of the top left pixel,
            `[h, w, 2]`; any real number, inside the image or not.
        border: what lies outside the image: "zeros", each missing neighbour counts as
            0, so that a sample half a pixel outside is half the border pixel
            (`scipy.ndimage.map_coordinates(order=1, mode="grid-constant")`), or
            "edge", the nearest pixel repeated (SciPy's `mode="nearest"`).

    Returns:
        `[h, w, ch]`, differentiable with respect to `image` and `grid`.

    Raises:
        ValueError: if `border` is neither word.
    """
    if border not in _PAD_MODES:
        raise ValueError(f"border: found {border!r}, accepted are zeros, edge")
    height, width, channels = image.shape
    # Two pixels of border a side: a sample further out finds all four neighbours in
    # the border, where both modes are constant, so it can be moved there unnoticed.
    padded = jnp.pad(image, ((2, 2), (2, 2), (0, 0)), mode=_PAD_MODES[border])
    # The four neighbours side by side as channels, so that one gather (and, backward,
    # one scatter) of short rows replaces four.
    neighbours = jnp.concatenate(
        [padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]], axis=-1
    )
    floor = jnp.floor(grid)
    down, right = jnp.split(grid - floor, 2, axis=-1)
    row = jnp.clip(floor[..., 0], -2, height).astype(jnp.int32) + 2
    col = jnp.clip(floor[..., 1], -2, width).astype(jnp.int32) + 2
    found = neighbours.reshape(-1, 4 * channels).at[row * (width + 3) + col]
    # Explicit clipping: a NaN coordinate may become any integer.
    top_left, top_right, bottom_left, bottom_right = jnp.split(
        found.get(mode="clip"), 4, axis=-1
    )
    top = top_left + right * (top_right - top_left)
    bottom = bottom_left + right * (bottom_right - bottom_left)
    return top + down * (bottom - top)


@arguments.takes(
    image=arguments.image(),
    angle=arguments.angle(),
    border=arguments.word("zeros", "edge"),
)
def rotate(
    image: Float[Array, "H W ch"],
    angle: float | Float[Array, ""],
    *,
    border: str = "zeros",
) -> Float[Array, "H W ch"]:
    """Rotates an image about its centre.

    Args:
        image: `[H, W, ch]`.
        angle: radians, counter-clockwise as displayed.
        border: "zeros" or "edge", what is sampled outside; see `bilinear_sample`.

    Returns:
        The rotated image, `[H, W, ch]`, differentiable in both arguments.

    Raises:
        ValueError: if `border` is neither word.
    """
    height, width, _ = image.shape
    grid = affine_grid(rotation_matrix(angle), height=height, width=width)
    return bilinear_sample(image, grid, border=border)


@arguments.takes(
    image=arguments.image(),
    angles=arguments.angle("A"),
    border=arguments.word("zeros", "edge"),
)
def rotate_blocks(
    image: Float[Array, "H W ch"],
    angles: Float[Array, "A"],
    *,
    border: str = "zeros",
) -> Float[Array, "H W ch"]:
    """Rotates each block of an image about the block's own centre.

    The image is cut into sqrt(A) x sqrt(A) blocks, as equal as whole pixels allow
    (the first ones take what is left over, as in `np.array_split`). A block's pixels
    are sampled from the whole image, so no hole opens between blocks.

    Args:
        image: `[H, W, ch]`.
        angles: radians, counter-clockwise as displayed, `[A]`, block by block in
            reading order; A = 1 is `rotate`, A = 4 the quadrants.
        border: "zeros" or "edge", what is sampled outside; see `bilinear_sample`.

    Returns:
        The rotated image, `[H, W, ch]`, differentiable in both arguments.

    Raises:
        ValueError: if A is not a perfect square, if a side has fewer pixels than
            blocks, or if `border` is neither word.
    """
    height, width, _ = image.shape
    num_blocks = angles.shape[0]
    blocks = math.isqrt(num_blocks)
    if num_blocks < 1 or blocks**2 != num_blocks:
        raise ValueError(
            f"angles: found A = {num_blocks} blocks, accepted is a perfect square "
            "(1, 4, 9, ...)"
        )
    if blocks > min(height, width):
        raise ValueError(
            f"angles: found A = {num_blocks} blocks for an image of {height} x {width} "
            f"pixels, accepted is one of at least {blocks} x {blocks}"
        )
    grids = [
        [
            _block_grid(rotation_matrix(angles[i * blocks + j]), rows, columns)
            for j, columns in enumerate(np.array_split(np.arange(width), blocks))
        ]
        for i, rows in enumerate(np.array_split(np.arange(height), blocks))
    ]
    strips = [jnp.concatenate(strip, axis=1) for strip in grids]
    return bilinear_sample(image, jnp.concatenate(strips, axis=0), border=border)
