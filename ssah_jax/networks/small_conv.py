"""The backbone for images of a few pixels."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssah_jax.networks.layers import Domain, Norm, end_stage, max_pool2
from ssah_jax.networks.spec import BackboneSpec

SMALLEST = 8
"""Shortest side, in pixels."""


class SmallConv(nn.Module):
    """Blocks of 3x3 convolution, pooling, normalisation, ReLU; for 8 to 64 pixels.

    A block halves the sides while they are at least 4 pixels long, so that one
    definition serves 8-pixel digits and 64-pixel thumbnails. The feature is the
    flattened last map up to 4x4 positions, and its mean beyond.

    Attributes:
        widths: channels of each block.
        norm: see `layers.Norm`.
        share_stats: see `layers.Norm`.
        axis_name: see `layers.Norm`.
        dtype: of the computation; parameters and feature are float32.
        frozen: leading blocks that do not learn.
    """

    widths: Sequence[int] = (32, 64, 128)
    norm: str = "batch"
    share_stats: bool = False
    axis_name: str | None = None
    dtype: str = "float32"
    frozen: int = 0

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W ch"], *, domain: Domain, train: bool
    ) -> Float[Array, "B D"]:
        """Compute the feature `[B, D]` of normalised images."""
        x = image.astype(self.dtype)
        for i, width in enumerate(self.widths):
            x = nn.Conv(
                width,
                (3, 3),
                use_bias=self.norm == "none",
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            if min(x.shape[1:3]) >= 4:
                # Before the ReLU, which commutes with the maximum and is then
                # applied to a quarter of the values.
                x = max_pool2(x)
            norm = Norm(
                self.norm,
                self.share_stats,
                axis_name=self.axis_name,
                dtype=self.dtype,
                name=f"norm{i}",
            )
            x = nn.relu(norm(x, domain=domain, train=train and i >= self.frozen))
            x = end_stage(x, i, self.frozen)
        x = x.astype(jnp.float32)
        if x.shape[1] * x.shape[2] > 16:
            return x.mean((1, 2))
        return x.reshape(x.shape[0], -1)


SPECS = {
    "small_conv": BackboneSpec(
        SmallConv,
        None,
        SMALLEST,
        (),
        image_size=0,
        mean=(0.5,),
        std=(0.25,),
        normalised=True,
    ),
}
"""By their words in a configuration."""
