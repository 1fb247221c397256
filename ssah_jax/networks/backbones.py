"""All backbones: images `[B, H, W, ch]` to features `[B, D]`."""

import re
from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from ssah_jax.networks import (
    alexnet,
    efficientnet_lite,
    resnet,
    small_conv,
    stored,
    vgg,
    vit,
)
from ssah_jax.networks.layers import Domain
from ssah_jax.networks.spec import BackboneSpec

SPECS: dict[str, BackboneSpec] = {
    **small_conv.SPECS,
    **alexnet.SPECS,
    **vgg.SPECS,
    **resnet.SPECS,
    **efficientnet_lite.SPECS,
    **vit.SPECS,
    **stored.SPECS,
}
"""Every backbone by its config word."""

BACKBONES = tuple(SPECS)
"""Accepted names of a backbone."""

SMALLEST_IMAGE = {name: spec.smallest for name, spec in SPECS.items()}
"""Shortest side, in pixels, that each backbone accepts."""


def build_backbone(
    name: str,
    *,
    widths: Sequence[int] = (32, 64, 128),
    norm: str = "batch",
    share_stats: bool = False,
    axis_name: str | None = None,
    dtype: str = "float32",
    frozen: int = 0,
) -> nn.Module:
    """Make the backbone of a config word.

    Args:
        name: one of `BACKBONES`.
        widths: channels of the blocks of "small_conv"; others have their own.
        norm: one of `layers.NORMS`, where the backbone is `normalised`. Pretrained
            weights go with "batch".
        share_stats: see `layers.Norm`.
        axis_name: see `layers.Norm`.
        dtype: of the computation; parameters, running statistics and the feature are
            float32.
        frozen: leading stages that do not learn: no gradient passes through them, and
            their norms use and keep running statistics in training.

    Raises:
        ValueError: if `name` is none of `BACKBONES`, or it has fewer stages.
    """
    if name not in SPECS:
        raise ValueError(
            f"backbone: found {name!r}, accepted are {', '.join(BACKBONES)}"
        )
    spec, stages = SPECS[name], num_stages(name, widths=widths)
    options: dict[str, object] = {"dtype": dtype, "frozen": frozen}
    if spec.normalised:
        options |= {"norm": norm, "share_stats": share_stats, "axis_name": axis_name}
    if name == "small_conv":
        options["widths"] = tuple(widths)
    if not 0 <= frozen <= stages:
        raise ValueError(
            f"frozen: found {frozen}, accepted for {name} are 0 to {stages} stages"
        )
    return spec.network(**options)


def num_stages(name: str, *, widths: Sequence[int] = (32, 64, 128)) -> int:
    """How many stages of a backbone can be frozen, all of them together being it.

    Args:
        name: one of `BACKBONES`.
        widths: of the blocks of "small_conv".
    """
    return len(widths) if name == "small_conv" else len(SPECS[name].stages)


def stage_of(name: str, parameter: str) -> int:
    """Number of the stage that a group of parameters belongs to, from 0.

    An optimiser leaves parameters of stages below `frozen` as they are: their
    gradient is zero, but weight decay would still shrink them.

    Args:
        name: one of `BACKBONES`.
        parameter: a name directly under the backbone's "params".

    Raises:
        ValueError: if no stage of the backbone has such a parameter.
    """
    if name == "small_conv" and re.fullmatch(r"(conv|norm)\d+", parameter):
        return int(parameter[4:])
    for stage, pattern in enumerate(SPECS[name].stages):
        if re.fullmatch(pattern, parameter):
            return stage
    raise ValueError(f"{name}: found the parameter {parameter!r}, which it lacks")


class Classifier(nn.Module):
    """A backbone and the linear layer of its pretraining: images to logits.

    For comparing pretrained weights with their origin; hashing does without.

    Attributes:
        backbone: the backbone.
        classes: C.
    """

    backbone: nn.Module
    classes: int = 1000

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "B H W ch"],
        *,
        domain: Domain = "clean",
        train: bool = False,
    ) -> Float[Array, "B C"]:
        """Compute logits `[B, C]` of normalised images."""
        feature = self.backbone(image, domain=domain, train=train)
        return nn.Dense(self.classes, name="logits")(feature)
