"""Which bits of a code hang on which place of an image, by A-Net's own windows.

Functions of arrays; the windows are those of `ssah_jax.transforms.window_profiles`.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped

from ssah_jax.transforms import window_profiles

Encode = Callable[[np.ndarray], np.ndarray]
"""Images `[n, H, W, ch]` to real-valued codes `[n, K]`."""


def window_masks(
    height: int, width: int, *, scales: Sequence[float], grid: int
) -> Bool[np.ndarray, "S G G {height} {width}"]:
    """Every window that A-Net may choose.

    Args:
        height: pixel rows of the image.
        width: pixel columns of it.
        scales: sizes of the windows as shares of the sides, S values in (0, 1].
        grid: G, positions along a side.

    Returns:
        `[S, G, G, height, width]`, by scale, row and column: whether it hides a pixel.
    """
    rows, columns = (
        np.asarray(window_profiles(side, scales=scales, grid=grid)) > 0
        for side in (height, width)
    )
    return rows[:, :, None, :, None] & columns[:, None, :, None, :]


def flips_by_window(
    image: Shaped[np.ndarray, "H W ch"],
    encode: Encode,
    *,
    fill: Shaped[np.ndarray, "H W ch"],
    scales: Sequence[float],
    grid: int,
) -> Bool[np.ndarray, "S G G K"]:
    """Which bits change when a window hides part of an image.

    Args:
        image: `[H, W, ch]`, in whatever `encode` takes.
        encode: called once, with the image and all its occlusions,
            `[1 + S * G * G, H, W, ch]`; returns their codes, binarised at 0 (0 is +1).
        fill: what is seen in the place of hidden pixels, `[H, W, ch]`.
        scales: sizes of the windows as shares of the sides, S values in (0, 1].
        grid: G, positions along a side.

    Returns:
        `[S, G, G, K]`, by scale, row and column of the window: whether the bit is
        another than without it.
    """
    height, width, _ = image.shape
    masks = window_masks(height, width, scales=scales, grid=grid)
    flat = masks.reshape(-1, height, width, 1)
    hidden = np.where(flat, fill[None], image[None])
    bits = encode(np.concatenate([image[None], hidden])) >= 0
    return (bits[1:] != bits[:1]).reshape(*masks.shape[:3], -1)


def flips_by_place(
    flips: Bool[np.ndarray, "S G G K"], masks: Bool[np.ndarray, "S G G H W"]
) -> Float[np.ndarray, "H W"]:
    """How many bits change when a place is hidden: the mean over windows that hide it.

    Args:
        flips: of `flips_by_window`.
        masks: of `window_masks`, with the same scales and grid.

    Returns:
        `[H, W]` in 0 .. K; NaN where no window reaches.
    """
    count = flips.sum(axis=-1).astype(np.float64)
    total = np.einsum("sij,sijhw->hw", count, masks)
    windows = masks.sum(axis=(0, 1, 2))
    reached = windows > 0
    return np.where(reached, total / np.maximum(windows, 1), np.nan)


def principal_plane(
    codes: Float[np.ndarray, "N K"],
) -> tuple[Float[np.ndarray, "K 2"], Float[np.ndarray, "2"]]:
    """The two directions in which codes vary most.

    Args:
        codes: `[N, K]`, any real; their mean is taken off.

    Returns:
        axes: orthonormal, `[K, 2]`, such that the largest entry of each in magnitude
            is positive; zeros in the second of K = 1.
        shares: of the whole variance, `[2]` in [0, 1], descending; 0 of constant
            codes.
    """
    centred = codes - codes.mean(axis=0, keepdims=True)
    variance, vectors = np.linalg.eigh(centred.T @ centred)
    variance, vectors = variance[::-1].clip(0), vectors[:, ::-1]
    missing = max(0, 2 - len(variance))
    axes = np.pad(vectors[:, :2], ((0, 0), (0, missing)))
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(2)]
    axes = axes * np.where(largest < 0, -1.0, 1.0)[None]
    shares = np.pad(variance[:2], (0, missing)) / max(variance.sum(), 1e-12)
    return axes, shares
