"""Vision Transformers: ViT-B/16, and DINOv2's ViT-S/14."""

import functools
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssah_jax.networks.layers import Domain, end_stage
from ssah_jax.networks.spec import BackboneSpec
from ssah_jax.networks.torch_names import (
    CONV,
    DENSE,
    DROPPED,
    IN_PROJECTION,
    LAYER_NORM,
    PARAMETER,
    Rule,
)

EPSILON = 1e-6
"""Added to the variances of layer normalisation."""


class EncoderBlock(nn.Module):
    """Self-attention and a two-layer perceptron, each normalised first and added.

    Attributes:
        heads: of the attention.
        layer_scale: multiply what is added by a learnt factor for each channel.
        dtype: of the computation.
    """

    heads: int
    layer_scale: bool
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Transform tokens `[B, T, D]`."""
        batch, tokens, width = x.shape

        def normalise(x: Array, name: str) -> Array:
            return nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name=name)(x)

        def dense(x: Array, units: int, name: str) -> Array:
            return nn.Dense(units, dtype=self.dtype, name=name)(x)

        def scale(x: Array, name: str) -> Array:
            if not self.layer_scale:
                return x
            gamma = self.param(name, nn.initializers.constant(1e-5), (width,))
            return x * gamma.astype(x.dtype).reshape(1, 1, -1)

        y = dense(normalise(x, "norm1"), 3 * width, "qkv")
        y = y.reshape(batch, tokens, 3, self.heads, width // self.heads)
        y = jax.nn.dot_product_attention(y[:, :, 0], y[:, :, 1], y[:, :, 2])
        y = dense(y.reshape(batch, tokens, width), width, "projection")
        x = x + scale(y, "scale1")
        y = dense(normalise(x, "norm2"), 4 * width, "fc1")
        y = dense(nn.gelu(y, approximate=False), width, "fc2")
        return x + scale(y, "scale2")


class VisionTransformer(nn.Module):
    """ViT whose feature is the class token after the last normalisation; D = `width`.

    "An Image is Worth 16x16 Words" (https://arxiv.org/abs/2010.11929); with
    `layer_scale`, the encoder of "DINOv2: Learning Robust Visual Features without
    Supervision" (https://arxiv.org/abs/2304.07193), without register tokens.

    The position embedding is a parameter of `grid` x `grid` patches. Images with
    another number of patches use it resized by cubic interpolation, antialiased where
    it shrinks (Keys' kernel, a = -1/2), which is what timm does. DINOv2's own code
    interpolates without antialiasing, with a = -3/4 and a ratio of sides increased by
    0.1 of a patch, so its features differ a little where the grid is not 37 x 37. No
    dropout and no stochastic depth.

    Attributes:
        patch: side of a patch in pixels; sides of images must be multiples.
        grid: patches a side that the position embedding is made for.
        width: D, channels of a token.
        depth: encoder blocks.
        heads: of the attention.
        layer_scale: see `EncoderBlock`.
        dtype: of the computation; parameters and feature are float32.
        frozen: leading stages, of depth + 2 (embedding, blocks, last normalisation),
            that do not learn.
    """

    patch: int = 16
    grid: int = 14
    width: int = 768
    depth: int = 12
    heads: int = 12
    layer_scale: bool = False
    dtype: str = "float32"
    frozen: int = 0

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W ch"], *, domain: Domain, train: bool
    ) -> Float[Array, "B D"]:
        """Compute the feature `[B, D]` of normalised images.

        Raises:
            ValueError: if the sides are no multiples of the patch's.
        """
        del domain, train  # No normalisation by batches, no dropout.
        height, width = image.shape[1:3]
        if height % self.patch or width % self.patch or not height * width:
            raise ValueError(
                f"vit: found images of {height} x {width} pixels, accepted are sides "
                f"that are multiples of {self.patch}"
            )
        small = nn.initializers.normal(0.02)
        token = self.param("embed_class", small, (1, 1, self.width))
        place = self.param("embed_position", small, (1, 1 + self.grid**2, self.width))
        x = nn.Conv(
            self.width,
            (self.patch, self.patch),
            (self.patch, self.patch),
            padding="VALID",
            dtype=self.dtype,
            name="embed_patch",
        )(image.astype(self.dtype))
        rows, columns = x.shape[1:3]
        place = resize_positions(place, self.grid, rows, columns)
        x = x.reshape(x.shape[0], rows * columns, self.width)
        token = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.width))
        x = jnp.concatenate([token, x], axis=1) + place.astype(x.dtype)
        x = end_stage(x, 0, self.frozen)
        for i in range(self.depth):
            block = EncoderBlock(
                self.heads, self.layer_scale, self.dtype, name=f"block{i}"
            )
            x = end_stage(block(x), i + 1, self.frozen)
        x = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="norm")(x[:, 0])
        return end_stage(x, self.depth + 1, self.frozen).astype(jnp.float32)


def resize_positions(
    position: Float[Array, "1 T D"], grid: int, rows: int, columns: int
) -> Float[Array, "1 U D"]:
    """Position embedding of another grid: see `VisionTransformer`.

    Args:
        position: of the class token and then of `grid` x `grid` patches, row by row.
        grid: patches a side it was made for.
        rows: patches of a column of the image.
        columns: patches of a row of the image.

    Returns:
        `[1, 1 + rows * columns, D]`; `position` itself if the grid is the same.
    """
    if rows == columns == grid:
        return position
    width = position.shape[-1]
    cells = position[:, 1:].reshape(1, grid, grid, width)
    cells = jax.image.resize(cells, (1, rows, columns, width), "cubic")
    cells = cells.reshape(1, rows * columns, width)
    return jnp.concatenate([position[:, :1], cells], axis=1)


def _vit() -> Iterator[Rule]:
    """ViT of timm and of DINOv2, which agree, and of torchvision."""
    timm, other = r"blocks\.(\d+)", r"encoder\.layers\.encoder_layer_(\d+)"
    yield "(?:cls_token|class_token)", "embed_class", PARAMETER
    yield r"(?:pos_embed|encoder\.pos_embedding)", "embed_position", PARAMETER
    yield r"(?:patch_embed\.proj|conv_proj)", "embed_patch", CONV
    for i in (1, 2):
        yield rf"{timm}\.norm{i}", rf"block\1/norm{i}", LAYER_NORM
        yield rf"{other}\.ln_{i}", rf"block\1/norm{i}", LAYER_NORM
        yield rf"{timm}\.ls{i}\.gamma", rf"block\1/scale{i}", PARAMETER
    yield rf"{timm}\.attn\.qkv", r"block\1/qkv", DENSE
    yield rf"{other}\.self_attention", r"block\1/qkv", IN_PROJECTION
    yield rf"{timm}\.attn\.proj", r"block\1/projection", DENSE
    yield rf"{other}\.self_attention\.out_proj", r"block\1/projection", DENSE
    for i, place in ((1, "(?:0|linear_1)"), (2, "(?:3|linear_2)")):
        yield rf"{timm}\.mlp\.fc{i}", rf"block\1/fc{i}", DENSE
        yield rf"{other}\.mlp\.{place}", rf"block\1/fc{i}", DENSE
    yield r"(?:norm|encoder\.ln)", "norm", LAYER_NORM
    yield r"(?:head|heads\.head)", "logits", DENSE
    yield "mask_token", "", DROPPED  # DINOv2's, of its training.


_STAGES = ("embed_.*", *(f"block{i}" for i in range(12)), "norm")

SPECS = {
    "vit_b16": BackboneSpec(
        VisionTransformer,
        768,
        16,
        _STAGES,
        multiple=16,
        crop=0.9,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        weights="hf:timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
        table=_vit,
        reference="https://arxiv.org/abs/2010.11929",
    ),
    "vit_s14": BackboneSpec(
        functools.partial(
            VisionTransformer,
            patch=14,
            grid=37,
            width=384,
            heads=6,
            layer_scale=True,
        ),
        384,
        14,
        _STAGES,
        multiple=14,
        image_size=518,
        crop=1.0,
        weights="hf:timm/vit_small_patch14_dinov2.lvd142m",
        table=_vit,
        reference="https://arxiv.org/abs/2304.07193",
    ),
}
"""By their words in a configuration."""
