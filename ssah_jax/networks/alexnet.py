"""AlexNet and VGG-F: five convolutions and two fully connected layers."""

import functools
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssah_jax.networks.layers import Domain, adaptive_mean, end_stage, require_side
from ssah_jax.networks.spec import BackboneSpec
from ssah_jax.networks.torch_names import CONV, DENSE, Rule, affine, rows

SMALLEST = 63
"""Shortest side, in pixels, of both: one position is left in the last map."""


class AlexNet(nn.Module):
    """AlexNet in its single-column form, for 224-pixel images.

    Layers and sizes follow "One weird trick for parallelizing convolutional neural
    networks" (https://arxiv.org/abs/1404.5997); D = 4096. As in torchvision, the last
    map is averaged into 6x6 bins, which does nothing to images of 224 pixels (or
    anything that leaves 6x6 positions) and makes the parameters serve every other
    size. There is no dropout: hash learning in the field's code runs without it, and
    the step stays deterministic.

    Attributes:
        width: units of the two fully connected layers.
        dtype: of the computation; parameters and feature are float32.
        frozen: leading layers, of 7, that do not learn.
    """

    width: int = 4096
    dtype: str = "float32"
    frozen: int = 0

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W ch"], *, domain: Domain, train: bool
    ) -> Float[Array, "B D"]:
        """Compute the feature `[B, D]` of normalised images of at least 63 pixels."""
        del domain, train  # No normalisation layers, no dropout.
        require_side("alexnet", image, SMALLEST)
        x = image.astype(self.dtype)
        for i, (width, side, stride, padding, pooled) in enumerate(
            (
                (64, 11, 4, 2, True),
                (192, 5, 1, 2, True),
                (384, 3, 1, 1, False),
                (256, 3, 1, 1, False),
                (256, 3, 1, 1, True),
            )
        ):
            conv = nn.Conv(
                width,
                (side, side),
                (stride, stride),
                padding=padding,
                dtype=self.dtype,
                name=f"conv{i}",
            )
            x = nn.relu(conv(x))
            if pooled:
                x = nn.max_pool(x, (3, 3), strides=(2, 2))
            x = end_stage(x, i, self.frozen)
        return fully_connected(
            x, 6, self.width, dtype=self.dtype, stage=5, frozen=self.frozen
        )


class VGGF(nn.Module):
    """VGG-F (CNN-F), the backbone of the field's MATLAB codes, for 224-pixel images.

    Layers follow table 1 of "Return of the Devil in the Details: Delving Deep into
    Convolutional Nets" (https://arxiv.org/abs/1405.3531); what the table leaves open
    (padding of the pools, constants of the local response normalisation) follows
    MatConvNet's definition (https://github.com/vlfeat/matconvnet). D = 4096. Other
    image sizes are served as by `AlexNet`, which is this project's choice.

    Attributes:
        width: units of the two fully connected layers.
        dtype: of the computation; parameters and feature are float32.
        frozen: leading layers, of 7, that do not learn.
    """

    width: int = 4096
    dtype: str = "float32"
    frozen: int = 0

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W ch"], *, domain: Domain, train: bool
    ) -> Float[Array, "B D"]:
        """Compute the feature `[B, D]` of normalised images of at least 63 pixels."""
        del domain, train  # No normalisation by batches, no dropout.
        require_side("vgg_f", image, SMALLEST)
        x = image.astype(self.dtype)
        for i, (width, side, stride, padding) in enumerate(
            ((64, 11, 4, 0), (256, 5, 1, 2), *3 * ((256, 3, 1, 1),))
        ):
            conv = nn.Conv(
                width,
                (side, side),
                (stride, stride),
                padding=padding,
                dtype=self.dtype,
                name=f"conv{i}",
            )
            x = nn.relu(conv(x))
            if i < 2:
                x = local_response_norm(x)
            if i in (0, 1, 4):
                # Only the first pool looks beyond the map's last row and column.
                end = (0, int(i == 0))
                x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=(end, end))
            x = end_stage(x, i, self.frozen)
        return fully_connected(
            x, 6, self.width, dtype=self.dtype, stage=5, frozen=self.frozen
        )


def local_response_norm(
    x: Float[Array, "B H W D"],
    *,
    size: int = 5,
    offset: float = 1.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
) -> Float[Array, "B H W D"]:
    """Divide by (offset + alpha m)^beta, m the mean square of `size` channels around.

    Section 3.3 of "ImageNet Classification with Deep Convolutional Neural Networks"
    (https://papers.nips.cc/paper/4824), with alpha counted for the mean as in Caffe
    and PyTorch; missing channels at both ends count as zeros.

    Args:
        x: features `[B, H, W, D]`.
        size: channels of the window, odd.
        offset: added to the mean square.
        alpha: weight of the mean square.
        beta: exponent.
    """
    total = jax.lax.reduce_window(
        jnp.square(x), 0.0, jax.lax.add, (1, 1, 1, size), (1, 1, 1, 1), "SAME"
    )
    return x / (offset + alpha * total / size) ** beta


def fully_connected(
    x: Float[Array, "B H W D"],
    side: int,
    width: int,
    *,
    dtype: str,
    stage: int,
    frozen: int,
) -> Float[Array, "B F"]:
    """The two layers "fc0" and "fc1" after the last map; inside a compact method.

    Args:
        x: last map `[B, H, W, D]`.
        side: positions a side that the first layer sees.
        width: F, units of both layers.
        dtype: of the computation.
        stage: number of the first of the two.
        frozen: leading stages that do not learn.

    Returns:
        Feature `[B, F]`, float32, at least 0.
    """
    x = adaptive_mean(x, side)
    x = x.reshape(x.shape[0], -1)
    for i in range(2):
        x = nn.relu(nn.Dense(width, dtype=dtype, name=f"fc{i}")(x))
        x = end_stage(x, stage + i, frozen)
    return x.astype(jnp.float32)


def _five_and_two() -> Iterator[Rule]:
    """AlexNet of torchvision."""
    for i, place in enumerate((0, 3, 6, 8, 10)):
        yield rf"features\.{place}", f"conv{i}", CONV
    yield r"classifier\.1", "fc0", affine(functools.partial(rows, side=6))
    yield r"classifier\.4", "fc1", DENSE
    yield r"classifier\.6", "logits", DENSE


_STAGES = (*(f"conv{i}" for i in range(5)), "fc0", "fc1")

SPECS = {
    "alexnet": BackboneSpec(
        AlexNet,
        4096,
        SMALLEST,
        _STAGES,
        weights="torchvision:alexnet",
        reference="https://arxiv.org/abs/1404.5997",
        table=_five_and_two,
    ),
    "vgg_f": BackboneSpec(
        VGGF,
        4096,
        SMALLEST,
        _STAGES,
        reference="https://arxiv.org/abs/1405.3531",
    ),
}
"""By their words in a configuration."""
