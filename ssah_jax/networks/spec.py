"""What a backbone is, apart from its layers; each network's file has its own."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn

from ssah_jax.networks.torch_names import Table

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
        table: makes the rules by which others' weights become its own; None where
            nobody else has any.
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
    table: Table | None = None
    normalised: bool = False
    reference: str = ""
