"""Backbones: images `[B, H, W, ch]` to features `[B, D]`, and what each one expects."""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence

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

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of each channel in [0, 1] that most ImageNet weights were trained with."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of each channel that goes with it."""


@dataclasses.dataclass(frozen=True)
class BackboneSpec:
    """A backbone, and the images that its default weights were trained on.

    Weights of other origin may want another preprocessing; their source says which.

    Attributes:
        network: makes the module; takes `dtype`, `frozen`, and the options of
            `layers.Norm` where `normalised`.
        feature: D; None where it depends on the image's size.
        smallest: shortest side, in pixels.
        stages: a regular expression for each stage that can be frozen, of the names
            of its parameters (those directly under "params"), in order; empty for
            "small_conv", whose blocks are counted by its widths, and for "features",
            which has no parameters.
        multiple: sides of images are multiples of so many pixels.
        image_size: side of the square that the weights were evaluated on, in pixels;
            0 without weights.
        crop: that side's share of the shorter side of the resized image.
        mean: subtracted from each channel of images in [0, 1].
        std: each channel is divided by it.
        weights: default weights, in the words of the loader; empty for none.
        normalised: whether it has normalisation layers with batch statistics.
        reference: the paper's address.
    """

    network: Callable[..., nn.Module]
    feature: int | None
    smallest: int
    stages: tuple[str, ...]
    multiple: int = 1
    image_size: int = 224
    crop: float = 0.875
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    weights: str = ""
    normalised: bool = False
    reference: str = ""


_FIVE_AND_TWO = (*(f"conv{i}" for i in range(5)), "fc0", "fc1")
_RESNET_STAGES = ("stem_.*", *(f"stage{i}_.*" for i in range(1, 5)))
_VIT_STAGES = ("embed_.*", *(f"block{i}" for i in range(12)), "norm")

SPECS: dict[str, BackboneSpec] = {
    "small_conv": BackboneSpec(
        small_conv.SmallConv,
        None,
        small_conv.SMALLEST,
        (),
        image_size=0,
        mean=(0.5,),
        std=(0.25,),
        normalised=True,
    ),
    "alexnet": BackboneSpec(
        alexnet.AlexNet,
        4096,
        alexnet.SMALLEST,
        _FIVE_AND_TWO,
        weights="torchvision:alexnet",
        reference="https://arxiv.org/abs/1404.5997",
    ),
    "vgg_f": BackboneSpec(
        alexnet.VGGF,
        4096,
        alexnet.SMALLEST,
        _FIVE_AND_TWO,
        reference="https://arxiv.org/abs/1405.3531",
    ),
    "vgg16": BackboneSpec(
        vgg.VGG16,
        4096,
        vgg.SMALLEST,
        (*(f"block{i}_.*" for i in range(5)), "fc0", "fc1"),
        weights="hf:timm/vgg16.tv_in1k",
        reference="https://arxiv.org/abs/1409.1556",
    ),
    "resnet18": BackboneSpec(
        functools.partial(resnet.ResNet, blocks=(2, 2, 2, 2), bottleneck=False),
        512,
        resnet.SMALLEST,
        _RESNET_STAGES,
        crop=0.95,
        weights="hf:timm/resnet18.a1_in1k",
        normalised=True,
        reference="https://arxiv.org/abs/1512.03385",
    ),
    "resnet50": BackboneSpec(
        resnet.ResNet,
        2048,
        resnet.SMALLEST,
        _RESNET_STAGES,
        crop=0.95,
        weights="hf:timm/resnet50.a1_in1k",
        normalised=True,
        reference="https://arxiv.org/abs/1512.03385",
    ),
    "efficientnet_lite0": BackboneSpec(
        efficientnet_lite.EfficientNetLite,
        1280,
        efficientnet_lite.SMALLEST,
        ("stem_.*", *(f"stage{i}_.*" for i in range(1, 8)), "head_.*"),
        # (x - 127) / 128 of its authors; timm's 0.5 and 0.5 are all but the same.
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        weights="hf:timm/tf_efficientnet_lite0.in1k",
        normalised=True,
        reference="https://arxiv.org/abs/1905.11946",
    ),
    "vit_b16": BackboneSpec(
        vit.VisionTransformer,
        768,
        16,
        _VIT_STAGES,
        multiple=16,
        crop=0.9,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        weights="hf:timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
        reference="https://arxiv.org/abs/2010.11929",
    ),
    "vit_s14": BackboneSpec(
        functools.partial(
            vit.VisionTransformer,
            patch=14,
            grid=37,
            width=384,
            heads=6,
            layer_scale=True,
        ),
        384,
        14,
        _VIT_STAGES,
        multiple=14,
        image_size=518,
        crop=1.0,
        weights="hf:timm/vit_small_patch14_dinov2.lvd142m",
        reference="https://arxiv.org/abs/2304.07193",
    ),
    "features": BackboneSpec(
        stored.StoredFeatures, None, 1, (), image_size=0, mean=(0.0,), std=(1.0,)
    ),
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
