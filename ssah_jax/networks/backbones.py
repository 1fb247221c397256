"""Backbones: images `[B, H, W, ch]` to features `[B, D]`."""

from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from ssah_jax.networks.layers import Domain, Norm, max_pool2


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
    """

    widths: Sequence[int] = (32, 64, 128)
    norm: str = "batch"
    share_stats: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W ch"], *, domain: Domain, train: bool
    ) -> Float[Array, "B D"]:
        """Compute the feature `[B, D]` of normalised images."""
        x = image
        for i, width in enumerate(self.widths):
            x = nn.Conv(width, (3, 3), use_bias=self.norm == "none", name=f"conv{i}")(x)
            if min(x.shape[1:3]) >= 4:
                # Before the ReLU, which commutes with the maximum and is then
                # applied to a quarter of the values.
                x = max_pool2(x)
            x = nn.relu(
                Norm(
                    self.norm, self.share_stats, True, self.axis_name, name=f"norm{i}"
                )(x, domain=domain, train=train)
            )
        if x.shape[1] * x.shape[2] > 16:
            return x.mean((1, 2))
        return x.reshape(x.shape[0], -1)


class AlexNet(nn.Module):
    """AlexNet in its single-column form, for 224-pixel images.

    Layers and sizes follow "One weird trick for parallelizing convolutional neural
    networks" (https://arxiv.org/abs/1404.5997); D = 4096. There is no dropout: hash
    learning in the field's code runs without it, and the step stays deterministic.

    Attributes:
        width: units of the two fully connected layers.
    """

    width: int = 4096

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W ch"], *, domain: Domain, train: bool
    ) -> Float[Array, "B D"]:
        """Compute the feature `[B, D]` of normalised images of at least 63 pixels."""
        del domain, train  # No normalisation layers, no dropout.
        height, width = image.shape[1:3]
        if min(height, width) < SMALLEST_IMAGE["alexnet"]:
            # The last map would be empty, which not every version of JAX refuses.
            raise ValueError(
                f"alexnet: found images of {height} x {width} pixels, accepted are "
                f"sides of at least {SMALLEST_IMAGE['alexnet']}"
            )

        def pool(x: Array) -> Array:
            return nn.max_pool(x, (3, 3), strides=(2, 2))

        x = nn.Conv(64, (11, 11), (4, 4), padding=2, name="conv0")(image)
        x = pool(nn.relu(x))
        x = pool(nn.relu(nn.Conv(192, (5, 5), padding=2, name="conv1")(x)))
        x = nn.relu(nn.Conv(384, (3, 3), padding=1, name="conv2")(x))
        x = nn.relu(nn.Conv(256, (3, 3), padding=1, name="conv3")(x))
        x = pool(nn.relu(nn.Conv(256, (3, 3), padding=1, name="conv4")(x)))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(self.width, name="fc0")(x))
        return nn.relu(nn.Dense(self.width, name="fc1")(x))


BACKBONES = ("small_conv", "alexnet")
"""Accepted names of a backbone."""

SMALLEST_IMAGE = {"small_conv": 8, "alexnet": 63}
"""Shortest side, in pixels, that each backbone accepts."""


def build_backbone(
    name: str,
    *,
    widths: Sequence[int],
    norm: str,
    share_stats: bool,
    axis_name: str | None,
) -> nn.Module:
    """Make the backbone of a config word.

    Raises:
        ValueError: if `name` is none of `BACKBONES`.
    """
    if name == "small_conv":
        return SmallConv(tuple(widths), norm, share_stats, axis_name)
    if name == "alexnet":
        return AlexNet()
    raise ValueError(f"backbone: found {name!r}, accepted are {', '.join(BACKBONES)}")
