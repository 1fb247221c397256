"""ResNet-18 and ResNet-50."""

import functools
from collections.abc import Callable, Iterator, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssah_jax.networks.layers import Domain, Norm, end_stage, require_side
from ssah_jax.networks.spec import BackboneSpec
from ssah_jax.networks.torch_names import BATCH_NORM, CONV, DENSE, Rule

SMALLEST = 32
"""Shortest side, in pixels: the last map has one position."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1 ones, beside a shortcut.

    The stride is that of the first 3x3 convolution (version 1.5 of the paper's
    network, as in torchvision and timm).

    Attributes:
        width: channels of the 3x3 convolutions.
        stride: of the block.
        bottleneck: whether the 3x3 convolution stands between two 1x1 ones, of which
            the second has four times the channels.
        conv: makes a convolution of a number of channels and a kernel size.
        norm: makes a normalisation.
    """

    width: int
    stride: int
    bottleneck: bool
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W D"], *, domain: Domain, train: bool
    ) -> Float[Array, "B h w E"]:
        """Transform features `[B, H, W, D]`."""
        layers = [(self.width, 3, self.stride), (self.width, 3, 1)]
        if self.bottleneck:
            layers = [(self.width, 1, 1), layers[0], (4 * self.width, 1, 1)]

        def convolve(
            x: Array, width: int, side: int, stride: int, names: tuple[str, str]
        ) -> Array:
            x = self.conv(
                width, (side, side), (stride, stride), padding=side // 2, name=names[0]
            )(x)
            return self.norm(name=names[1])(x, domain=domain, train=train)

        y = x
        for i, layer in enumerate(layers, 1):
            y = convolve(y, *layer, (f"conv{i}", f"norm{i}"))
            if i < len(layers):
                y = nn.relu(y)
        width = layers[-1][0]
        if self.stride != 1 or x.shape[-1] != width:
            x = convolve(x, width, 1, self.stride, ("shortcut", "shortcut_norm"))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet with the layers of torchvision's and timm's; D = 2048, or 512 plain.

    "Deep Residual Learning for Image Recognition" (https://arxiv.org/abs/1512.03385).
    In training, running variances move by biased variances of the batch (PyTorch's by
    unbiased ones). The feature is the last map's mean.

    Attributes:
        blocks: residual blocks of each stage.
        bottleneck: see `ResidualBlock`.
        width: channels of the stem and of the first stage's 3x3 convolutions.
        norm: see `layers.Norm`.
        share_stats: see `layers.Norm`.
        axis_name: see `layers.Norm`.
        dtype: of the computation; parameters and feature are float32.
        frozen: leading stages, of 5 (the stem is the first), that do not learn and
            normalise by running statistics in training too.
    """

    blocks: Sequence[int] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    norm: str = "batch"
    share_stats: bool = False
    axis_name: str | None = None
    dtype: str = "float32"
    frozen: int = 0

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W ch"], *, domain: Domain, train: bool
    ) -> Float[Array, "B D"]:
        """Compute the feature `[B, D]` of normalised images of at least 32 pixels."""
        require_side("resnet", image, SMALLEST)
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(
            Norm, self.norm, self.share_stats, True, self.axis_name, dtype=self.dtype
        )
        x = image.astype(self.dtype)
        x = conv(self.width, (7, 7), (2, 2), padding=3, name="stem_conv")(x)
        learns = train and self.frozen == 0
        x = nn.relu(norm(name="stem_norm")(x, domain=domain, train=learns))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        x = end_stage(x, 0, self.frozen)
        for stage, blocks in enumerate(self.blocks, 1):
            for i in range(blocks):
                block = ResidualBlock(
                    self.width * 2 ** (stage - 1),
                    2 if stage > 1 and i == 0 else 1,
                    self.bottleneck,
                    conv,
                    norm,
                    name=f"stage{stage}_block{i}",
                )
                x = block(x, domain=domain, train=train and stage >= self.frozen)
            x = end_stage(x, stage, self.frozen)
        return x.astype(jnp.float32).mean((1, 2))


def _resnet() -> Iterator[Rule]:
    """ResNets of torchvision and timm, which agree."""
    block = r"layer(\d)\.(\d+)"
    yield "conv1", "stem_conv", CONV
    yield "bn1", "stem_norm", BATCH_NORM
    yield rf"{block}\.conv(\d)", r"stage\1_block\2/conv\3", CONV
    yield rf"{block}\.bn(\d)", r"stage\1_block\2/norm\3", BATCH_NORM
    yield rf"{block}\.downsample\.0", r"stage\1_block\2/shortcut", CONV
    yield rf"{block}\.downsample\.1", r"stage\1_block\2/shortcut_norm", BATCH_NORM
    yield "fc", "logits", DENSE


_STAGES = ("stem_.*", *(f"stage{i}_.*" for i in range(1, 5)))

SPECS = {
    "resnet18": BackboneSpec(
        functools.partial(ResNet, blocks=(2, 2, 2, 2), bottleneck=False),
        512,
        SMALLEST,
        _STAGES,
        crop=0.95,
        weights="hf:timm/resnet18.a1_in1k",
        normalised=True,
        reference="https://arxiv.org/abs/1512.03385",
        table=_resnet,
    ),
    "resnet50": BackboneSpec(
        ResNet,
        2048,
        SMALLEST,
        _STAGES,
        crop=0.95,
        weights="hf:timm/resnet50.a1_in1k",
        normalised=True,
        reference="https://arxiv.org/abs/1512.03385",
        table=_resnet,
    ),
}
"""By their words in a configuration."""
