"""A-Net: the adversarial network, from an image to a distribution of deformations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssah_jax.types import DeformationLogits


class ANet(nn.Module):
    """Images to logits over window scales, window positions and rotation angles.

    It never makes pixels: what it says is drawn from and applied by
    `ssah_jax.transforms`. It looks at a reduced image, and the windows and angles
    that it names are relative to the image's side, so it serves any size. The last
    layers start at zero: the first deformations are drawn uniformly.

    Attributes:
        num_scales: S.
        grid: G.
        num_blocks: A.
        num_bins: N, angle bins of a block.
        width: channels of the trunk's first layer (twice that in the second).
        side: the longest side that the trunk looks at, in pixels.
    """

    num_scales: int
    grid: int
    num_blocks: int
    num_bins: int
    width: int = 16
    side: int = 32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W ch"]) -> DeformationLogits:
        """Propose a deformation of each image `[B, H, W, ch]` in [0, 1]."""
        batch, height, width, channels = image.shape
        if max(height, width) > self.side:
            ratio = self.side / max(height, width)
            height, width = max(1, round(height * ratio)), max(1, round(width * ratio))
            image = jax.image.resize(image, (batch, height, width, channels), "linear")
        x = image - 0.5
        x = nn.relu(nn.Conv(self.width, (3, 3), (2, 2), name="conv0")(x))
        x = nn.relu(nn.Conv(2 * self.width, (3, 3), (2, 2), name="conv1")(x))
        # Position depends on where things are, scale and angle on the whole.
        cells = jax.image.resize(
            x, (batch, self.grid, self.grid, x.shape[-1]), "linear"
        )
        whole = nn.relu(
            nn.Dense(4 * self.width, name="whole")(cells.reshape(batch, -1))
        )
        here = nn.relu(
            nn.Conv(2 * self.width, (1, 1), name="here")(cells)
            + nn.Dense(2 * self.width, name="context")(whole)[:, None, None, :]
        )

        def head(x: Array, units: int, name: str) -> Array:
            zeros = nn.initializers.zeros
            bias = name != "position"  # Equal for all cells: without effect.
            return nn.Dense(units, use_bias=bias, kernel_init=zeros, name=name)(x)

        # A cell's place is not in its features; a bias for each cell adds it.
        place = self.param(
            "place", nn.initializers.zeros, (self.num_scales, self.grid, self.grid)
        )
        position = head(here, self.num_scales, "position").transpose(0, 3, 1, 2)
        angle = head(whole, self.num_blocks * self.num_bins, "angle")
        return DeformationLogits(
            scale=head(whole, self.num_scales, "scale"),
            position=position + place[None],
            angle=jnp.reshape(angle, (batch, self.num_blocks, self.num_bins)),
        )
