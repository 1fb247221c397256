"""VGG-16."""

import functools
from collections.abc import Iterator, Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from ssah_jax.networks.alexnet import fully_connected
from ssah_jax.networks.layers import Domain, end_stage, max_pool2, require_side
from ssah_jax.networks.spec import BackboneSpec
from ssah_jax.networks.torch_names import CONV, DENSE, Rule, affine, rows

SMALLEST = 32
"""Shortest side, in pixels: one position is left in the last map."""

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions of each block of VGG-16, its configuration D."""


class VGG16(nn.Module):
    """VGG-16 without batch normalisation; D = 4096, what leaves its second last layer.

    "Very Deep Convolutional Networks for Large-Scale Image Recognition"
    (https://arxiv.org/abs/1409.1556), configuration D. Images of other sizes than 224
    pixels are averaged into 7x7 bins in the last map, as torchvision does; timm's
    classifier slides over larger maps instead, and differs there. No dropout.

    Attributes:
        blocks: channels and convolutions of each block.
        width: units of the two fully connected layers.
        dtype: of the computation; parameters and feature are float32.
        frozen: leading stages, of 7 (each block, each fully connected layer), that
            do not learn.
    """

    blocks: Sequence[tuple[int, int]] = BLOCKS
    width: int = 4096
    dtype: str = "float32"
    frozen: int = 0

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W ch"], *, domain: Domain, train: bool
    ) -> Float[Array, "B D"]:
        """Compute the feature `[B, D]` of normalised images of at least 32 pixels."""
        del domain, train  # No normalisation layers, no dropout.
        require_side("vgg16", image, SMALLEST)
        x = image.astype(self.dtype)
        for stage, (width, convolutions) in enumerate(self.blocks):
            for i in range(convolutions):
                name = f"block{stage}_conv{i}"
                conv = nn.Conv(width, (3, 3), padding=1, dtype=self.dtype, name=name)
                x = nn.relu(conv(x))
            x = end_stage(max_pool2(x), stage, self.frozen)
        return fully_connected(
            x,
            7,
            self.width,
            dtype=self.dtype,
            stage=len(self.blocks),
            frozen=self.frozen,
        )


def _vgg16() -> Iterator[Rule]:
    """VGG-16 of torchvision and timm, which differ in the classifier."""
    place = 0
    for block, (_, convolutions) in enumerate(BLOCKS):
        for i in range(convolutions):
            yield rf"features\.{place}", f"block{block}_conv{i}", CONV
            place += 2
        place += 1
    first = affine(functools.partial(rows, side=7))
    yield r"(?:classifier\.0|pre_logits\.fc1)", "fc0", first
    yield r"(?:classifier\.3|pre_logits\.fc2)", "fc1", DENSE
    yield r"(?:classifier\.6|head\.fc)", "logits", DENSE


SPECS = {
    "vgg16": BackboneSpec(
        VGG16,
        4096,
        SMALLEST,
        (*(f"block{i}_.*" for i in range(5)), "fc0", "fc1"),
        weights="hf:timm/vgg16.tv_in1k",
        reference="https://arxiv.org/abs/1409.1556",
        table=_vgg16,
    ),
}
"""By their words in a configuration."""
