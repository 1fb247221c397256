"""Layers that the backbones share."""

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Domain = Literal["clean", "generated"]
"""Which images a batch holds; each has normalisation statistics of its own."""

NORMS = ("batch", "group", "none")
"""Accepted kinds of normalisation."""


def max_pool2(x: Float[Array, "B H W D"]) -> Float[Array, "B h w D"]:
    """Maximum over 2x2 windows; an odd last row or column is dropped.

    Two pairwise maxima: on CPU, XLA differentiates them several times faster than
    the `reduce_window` of `nn.max_pool` (`benchmarks/pooling.py`).
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = jnp.maximum(x[:, 0:height:2], x[:, 1:height:2])
    return jnp.maximum(x[:, :, 0:width:2], x[:, :, 1:width:2])


def depthwise_conv(
    x: Float[Array, "B H W D"],
    kernel: Float[Array, "s t 1 D"],
    strides: Sequence[int],
    padding: str,
    **options: Any,
) -> Float[Array, "B h w D"]:
    """Convolution of each channel by itself; for `nn.Conv(conv_general_dilated=...)`.

    On CPU a sum of shifted maps, one for each weight of the kernel: XLA's own is slower
    there by several times, forward and backward (`benchmarks/depthwise.py`).

    Args:
        x: map `[B, H, W, D]`.
        kernel: `[s, t, 1, D]`.
        strides: down and across.
        padding: "SAME".
        options: the others of `jax.lax.conv_general_dilated`.
    """
    pads = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)

    def shifted(x: Array, kernel: Array) -> Array:
        padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        (down, across), (rows, columns) = strides, kernel.shape[:2]
        height = padded.shape[1] - rows + 1
        width = padded.shape[2] - columns + 1
        parts = (
            padded[:, i : i + height : down, j : j + width : across]
            * kernel[i : i + 1, j : j + 1]
            for i, j in itertools.product(range(rows), range(columns))
        )
        return functools.reduce(operator.add, parts)

    def whole(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)

    return jax.lax.platform_dependent(x, kernel, cpu=shifted, default=whole)


def adaptive_mean(x: Float[Array, "B H W D"], side: int) -> Float[Array, "B s s D"]:
    """Mean over `side` bins a side, whatever the size of the map `[B, H, W, D]`.

    The bins are those of PyTorch's `AdaptiveAvgPool2d`: bin i of n spans positions
    floor(i H / n) to ceil((i + 1) H / n), so bins overlap where n does not divide H
    and repeat positions where n is larger.

    Returns:
        Map `[B, side, side, D]`; `x` itself if it has that size.
    """

    def bins(length: int) -> Float[Array, "s length"]:
        weights = np.zeros((side, length), np.float32)
        for i in range(side):
            begin, end = i * length // side, -(-(i + 1) * length // side)
            weights[i, begin:end] = 1 / (end - begin)
        return jnp.asarray(weights, x.dtype)

    height, width = x.shape[1:3]
    if (height, width) == (side, side):
        return x
    return jnp.einsum("bhwd,sh,tw->bstd", x, bins(height), bins(width))


def require_side(name: str, image: Float[Array, "B H W ch"], smallest: int) -> None:
    """Refuse images whose last map would be empty or nothing but padding.

    Raises:
        ValueError: if a side is shorter than `smallest` pixels.
    """
    height, width = image.shape[1:3]
    if min(height, width) < smallest:
        raise ValueError(
            f"{name}: found images of {height} x {width} pixels, accepted are sides "
            f"of at least {smallest}"
        )


def end_stage(
    x: Float[Array, "B ..."], stage: int, frozen: int
) -> Float[Array, "B ..."]:
    """What leaves a stage: without a gradient after the last of `frozen` stages."""
    return jax.lax.stop_gradient(x) if stage + 1 == frozen else x


class Norm(nn.Module):
    """Normalisation whose statistics depend on the domain of the images.

    With `kind="batch"`, clean and generated images are normalised by their own
    batches and keep their own running statistics (the idea of the auxiliary batch
    norm in "Adversarial Examples Improve Image Recognition",
    https://arxiv.org/abs/1911.09665), while scale and bias are shared, so that what
    is learnt from hard samples serves clean ones.

    Attributes:
        kind: one of `NORMS`. "group" takes moments over the positions of groups of
            at least 8 channels (all, where there are fewer), of each image by
            itself, without running statistics.
        share_stats: let generated images use and move the clean statistics.
        affine: learn a scale and a bias for each channel.
        axis_name: mapped axis over which batch moments are averaged.
        epsilon: added to batch variances.
        dtype: of the result, such as "bfloat16"; None for the widest of image and
            parameters. Moments are float32.
    """

    kind: str = "batch"
    share_stats: bool = False
    affine: bool = True
    axis_name: str | None = None
    epsilon: float = 1e-5
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *HW D"], *, domain: Domain, train: bool
    ) -> Float[Array, "B *HW D"]:
        """Normalise features `[B, ..., D]` over all but the last axis."""
        width = x.shape[-1]
        if self.kind == "batch":
            owner = "clean" if self.share_stats else domain
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                epsilon=self.epsilon,
                dtype=self.dtype,
                use_bias=False,
                use_scale=False,
                axis_name=self.axis_name,
                name=f"stats_{owner}",
            )(x)
        elif self.kind == "group":
            groups = max(1, width // 8)
            while width % groups:
                groups -= 1
            x = nn.GroupNorm(
                num_groups=groups, use_bias=False, use_scale=False, dtype=self.dtype
            )(x)
        if self.affine and self.kind != "none":
            scale = self.param("scale", nn.initializers.ones, (width,))
            bias = self.param("bias", nn.initializers.zeros, (width,))
            if self.dtype is not None:
                scale, bias = scale.astype(self.dtype), bias.astype(self.dtype)
            x = x * scale.reshape((1,) * (x.ndim - 1) + (-1,)) + bias.reshape(
                (1,) * (x.ndim - 1) + (-1,)
            )
        return x
