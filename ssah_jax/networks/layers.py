"""Layers that the backbones share."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
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
    """

    kind: str = "batch"
    share_stats: bool = False
    affine: bool = True
    axis_name: str | None = None

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
                use_bias=False,
                use_scale=False,
                axis_name=self.axis_name,
                name=f"stats_{owner}",
            )(x)
        elif self.kind == "group":
            groups = max(1, width // 8)
            while width % groups:
                groups -= 1
            x = nn.GroupNorm(num_groups=groups, use_bias=False, use_scale=False)(x)
        if self.affine and self.kind != "none":
            scale = self.param("scale", nn.initializers.ones, (width,))
            bias = self.param("bias", nn.initializers.zeros, (width,))
            x = x * scale.reshape((1,) * (x.ndim - 1) + (-1,)) + bias.reshape(
                (1,) * (x.ndim - 1) + (-1,)
            )
        return x
