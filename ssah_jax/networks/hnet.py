"""H-Net: the hashing network, a backbone and a hash layer."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssah_jax.networks.backbones import build_backbone
from ssah_jax.networks.layers import Domain, Norm
from ssah_jax.types import HashOutputs


class HNet(nn.Module):
    """Images to real-valued codes u, whose signs are the hash code.

    The hash layer is linear. With batch normalisation it ends in one without scale
    and bias, which centres each bit and so balances it (the hash layer of "One Loss
    for All", https://arxiv.org/abs/2109.14449).

    Attributes:
        bits: K.
        mean: of each image channel, in [0, 1]; subtracted first.
        std: of each image channel; divided by.
        backbone: one of `backbones.BACKBONES`.
        widths: channels of the blocks of "small_conv".
        norm: one of `layers.NORMS`.
        share_stats: let generated images share the clean batch statistics.
        axis_name: mapped axis over which batch moments are averaged.
        dtype: of the backbone's computation; the hash layer's is float32.
        frozen: leading stages of the backbone that do not learn.
        image_size: images are resized to squares of so many pixels a side before the
            backbone; 0 leaves them.
        channels: that the backbone expects: a single one is repeated; 0 for those
            that images have.
    """

    bits: int
    mean: Sequence[float] = (0.5,)
    std: Sequence[float] = (0.25,)
    backbone: str = "small_conv"
    widths: Sequence[int] = (32, 64, 128)
    norm: str = "batch"
    share_stats: bool = False
    axis_name: str | None = None
    dtype: str = "float32"
    frozen: int = 0
    image_size: int = 0
    channels: int = 0

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "B H W ch"],
        *,
        domain: Domain = "clean",
        train: bool = False,
    ) -> HashOutputs:
        """Hash images `[B, H, W, ch]` in [0, 1].

        Args:
            image: the images.
            domain: whose normalisation statistics to use, and in training to move.
            train: normalise by the batch (True) or by running statistics (False).

        Returns:
            Codes `[B, K]` and features `[B, D]`.
        """
        batch, _, _, channels = image.shape
        if self.image_size:
            shape = (batch, self.image_size, self.image_size, channels)
            image = jax.image.resize(image, shape, "linear")
        if channels == 1 and self.channels > 1:
            image = jnp.repeat(image, self.channels, axis=-1)
        mean = jnp.asarray(self.mean, image.dtype).reshape(1, 1, 1, -1)
        std = jnp.asarray(self.std, image.dtype).reshape(1, 1, 1, -1)
        backbone = build_backbone(
            self.backbone,
            widths=self.widths,
            norm=self.norm,
            share_stats=self.share_stats,
            axis_name=self.axis_name,
            dtype=self.dtype,
            frozen=self.frozen,
        )
        feature = backbone((image - mean) / std, domain=domain, train=train)
        code = nn.Dense(self.bits, use_bias=self.norm != "batch", name="hash")(feature)
        if self.norm == "batch":
            code = Norm(
                "batch", self.share_stats, False, self.axis_name, name="centre"
            )(code, domain=domain, train=train)
        return HashOutputs(code=code, feature=feature)

    def both_domains(self, image: Float[Array, "B H W ch"]) -> HashOutputs:
        """Visit clean and generated statistics once, so that `init` makes both."""
        self(image, domain="generated")
        return self(image, domain="clean")


def backbone_scope(backbone: str) -> str:
    """The name of a backbone's variables among those of an `HNet`."""
    return f"{type(build_backbone(backbone)).__name__}_0"
