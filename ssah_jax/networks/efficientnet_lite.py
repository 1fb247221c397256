"""EfficientNet-Lite0."""

import functools
from collections.abc import Callable, Iterator, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssah_jax.networks.layers import (
    Domain,
    Norm,
    depthwise_conv,
    end_stage,
    require_side,
)
from ssah_jax.networks.spec import BackboneSpec
from ssah_jax.networks.torch_names import BATCH_NORM, CONV, DENSE, Rule

SMALLEST = 32
"""Shortest side, in pixels: the last map has one position."""

STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""Expansion, channels, blocks, stride and kernel side of each stage of Lite0."""


class InvertedBlock(nn.Module):
    """Expand the channels, filter each by itself, project them; beside the identity.

    Attributes:
        expansion: by which the channels are multiplied in between.
        width: channels of the output.
        stride: of the filters.
        side: of the filters.
        conv: makes a convolution of a number of channels and a kernel size.
        norm: makes a normalisation.
    """

    expansion: int
    width: int
    stride: int
    side: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W D"], *, domain: Domain, train: bool
    ) -> Float[Array, "B h w E"]:
        """Transform features `[B, H, W, D]`."""

        def normalise(x: Array, name: str) -> Array:
            return self.norm(name=name)(x, domain=domain, train=train)

        y, inner = x, self.expansion * x.shape[-1]
        if self.expansion != 1:
            y = self.conv(inner, (1, 1), name="expand")(y)
            y = nn.relu6(normalise(y, "expand_norm"))
        y = self.conv(
            inner,
            (self.side, self.side),
            (self.stride, self.stride),
            feature_group_count=inner,
            conv_general_dilated=depthwise_conv,
            name="filter",
        )(y)
        y = nn.relu6(normalise(y, "filter_norm"))
        y = normalise(self.conv(self.width, (1, 1), name="project")(y), "project_norm")
        return x + y if x.shape == y.shape and self.stride == 1 else y


class EfficientNetLite(nn.Module):
    """EfficientNet without squeeze-and-excitation, with ReLU6; D = 1280.

    "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
    (https://arxiv.org/abs/1905.11946), in the Lite form of its authors
    (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
    Convolutions pad as TensorFlow's "SAME": with stride 2 and an even side, only after
    the last row and column. No dropout and no stochastic depth.

    Attributes:
        stages: see `STAGES`.
        stem: channels of the first convolution.
        head: channels of the last one.
        norm: see `layers.Norm`.
        share_stats: see `layers.Norm`.
        axis_name: see `layers.Norm`.
        dtype: of the computation; parameters and feature are float32.
        frozen: leading stages, of 9 (stem, seven stages, head), that do not learn and
            normalise by running statistics in training too.
    """

    stages: Sequence[tuple[int, int, int, int, int]] = STAGES
    stem: int = 32
    head: int = 1280
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
        require_side("efficientnet_lite0", image, SMALLEST)
        conv = functools.partial(
            nn.Conv, padding="SAME", use_bias=False, dtype=self.dtype
        )
        norm = functools.partial(
            Norm,
            self.norm,
            self.share_stats,
            True,
            self.axis_name,
            epsilon=1e-3,
            dtype=self.dtype,
        )

        def outer(
            x: Array, width: int, side: int, stride: int, name: str, stage: int
        ) -> Array:
            x = conv(width, (side, side), (stride, stride), name=f"{name}_conv")(x)
            learns = train and stage >= self.frozen
            x = norm(name=f"{name}_norm")(x, domain=domain, train=learns)
            return end_stage(nn.relu6(x), stage, self.frozen)

        x = outer(image.astype(self.dtype), self.stem, 3, 2, "stem", 0)
        for stage, (expansion, width, blocks, stride, side) in enumerate(
            self.stages, 1
        ):
            for i in range(blocks):
                block = InvertedBlock(
                    expansion,
                    width,
                    stride if i == 0 else 1,
                    side,
                    conv,
                    norm,
                    name=f"stage{stage}_block{i}",
                )
                x = block(x, domain=domain, train=train and stage >= self.frozen)
            x = end_stage(x, stage, self.frozen)
        x = outer(x, self.head, 1, 1, "head", len(self.stages) + 1)
        return x.astype(jnp.float32).mean((1, 2))


def _efficientnet_lite() -> Iterator[Rule]:
    """Lite0 of timm and of efficientnet_lite_pytorch."""
    places = [
        (stage, i)
        for stage, (_, _, blocks, _, _) in enumerate(STAGES)
        for i in range(blocks)
    ]
    for place, (stage, i) in enumerate(places):
        ours = f"stage{stage + 1}_block{i}"
        other, timm = rf"_blocks\.{place}", rf"blocks\.{stage}\.{i}"
        # timm numbers what is there, and the first block does not expand.
        names = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
        if STAGES[stage][0] == 1:
            names = ("", "", "conv_dw", "bn1", "conv_pw", "bn2")
        for layer, mine, theirs in (
            ("expand", names[:2], ("_expand_conv", "_bn0")),
            ("filter", names[2:4], ("_depthwise_conv", "_bn1")),
            ("project", names[4:], ("_project_conv", "_bn2")),
        ):
            if mine[0]:
                conv, norm = f"{ours}/{layer}", f"{ours}/{layer}_norm"
                yield rf"(?:{timm}\.{mine[0]}|{other}\.{theirs[0]})", conv, CONV
                yield rf"(?:{timm}\.{mine[1]}|{other}\.{theirs[1]})", norm, BATCH_NORM
    yield "_?conv_stem", "stem_conv", CONV
    yield "(?:bn1|_bn0)", "stem_norm", BATCH_NORM
    yield "_?conv_head", "head_conv", CONV
    yield "(?:bn2|_bn1)", "head_norm", BATCH_NORM
    yield "(?:classifier|_fc)", "logits", DENSE


SPECS = {
    "efficientnet_lite0": BackboneSpec(
        EfficientNetLite,
        1280,
        SMALLEST,
        ("stem_.*", *(f"stage{i}_.*" for i in range(1, 8)), "head_.*"),
        # (x - 127) / 128 of its authors; timm's 0.5 and 0.5 are all but the same.
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        weights="hf:timm/tf_efficientnet_lite0.in1k",
        normalised=True,
        reference="https://arxiv.org/abs/1905.11946",
        table=_efficientnet_lite,
    ),
}
"""By their words in a configuration."""
