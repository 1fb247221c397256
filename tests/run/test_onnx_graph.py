"""Graphs of ONNX compute what the functions do; what they cannot say is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from narrow_backbones import NARROW, shapes
from quick_cases import slow_but

from ssah_jax.networks.backbones import build_backbone
from ssah_jax.run.onnx_graph import to_onnx
from ssah_jax.run.onnx_nodes import UntranslatableError

SIDES = {"vit_s14": 42, "alexnet": 67, "vgg_f": 67}
OTHERS = {
    "small_conv": build_backbone("small_conv", widths=(4, 8)),
    "group": build_backbone("small_conv", widths=(4, 16), norm="group"),
    "none": build_backbone("small_conv", widths=(4, 8), norm="none"),
}


def graph(function, shape):
    content = to_onnx(function, image_shape=shape, outputs=["y"], metadata={"a": "b"})
    return onnxruntime.InferenceSession(content)


def random_variables(network, side):
    rng = np.random.default_rng(0)
    # Variances are positive.
    return jax.tree.map(
        lambda x: jnp.asarray(rng.uniform(0.01, 0.41, x.shape), jnp.float32),
        shapes(network, side),
    )


KINDS = ["alexnet", "vgg_f", "resnet18", "efficientnet_lite0", "vit_s14", *OTHERS]
"""One of each kind: VGG-16, ResNet-50 and ViT-B have the same layers."""


@pytest.mark.parametrize("name", slow_but(KINDS, "alexnet", "resnet18"))
def test_backbones(name):
    network, side = (NARROW | OTHERS)[name], SIDES.get(name, 37)
    variables = random_variables(network, side)

    def feature(images):
        x = images.astype(jnp.float32) / 255 - 0.5
        return (network.apply(variables, x, domain="clean", train=False),)

    images = np.random.default_rng(1).integers(0, 256, (3, side, side, 3), np.uint8)
    (wanted,) = jax.jit(feature)(images)
    session = graph(feature, (side, side, 3))
    for number in (1, 3):
        (found,) = session.run(None, {"images": images[:number]})
        scale = float(np.abs(wanted).max())
        np.testing.assert_allclose(found, wanted[:number], rtol=1e-3, atol=1e-5 * scale)


CASES = {
    "resize": lambda x: jax.image.resize(x, (x.shape[0], 9, 4, 3), "cubic"),
    "crop": lambda x: jax.vmap(lambda y: y[1:6, 2:7])(x),
    "strided": lambda x: x[:, 1::2][:, :, ::3],
    "pools": lambda x: jax.lax.reduce_window(
        x, 0.0, jax.lax.add, (1, 2, 1, 2), (1, 2, 1, 1), "SAME"
    ),
    "means": lambda x: (x - x.mean((1, 2), keepdims=True)) ** 3,
    "broadcast": lambda x: jnp.concatenate(
        [jnp.broadcast_to(jnp.arange(3.0), (x.shape[0], 8, 1, 3)), x], axis=2
    ),
    "products": lambda x: jnp.einsum("bhwc,bhvc->bwv", x, jnp.sqrt(x)),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False) + jax.nn.softmax(x),
}


@pytest.mark.parametrize("name", CASES)
def test_operations(name):
    def function(images):
        return (CASES[name](images.astype(jnp.float32)),)

    images = np.random.default_rng(1).integers(0, 9, (2, 8, 7, 3), np.uint8)
    (found,) = graph(function, (8, 7, 3)).run(None, {"images": images})
    np.testing.assert_allclose(found, function(images)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: (jnp.sort(x, axis=1),), "'sort'"),
        (lambda x: (x[:, 1::2, ::3],), "gather"),
        (lambda x: (x.astype(jnp.bfloat16),), "bfloat16"),
        (
            lambda x: (
                jax.lax.conv_transpose(
                    x.astype(jnp.float32), jnp.ones((2, 2, 3, 1)), (2, 2), "SAME"
                ),
            ),
            "transposed",
        ),
    ],
)
def test_others_are_refused_by_name(function, said):
    with pytest.raises(UntranslatableError, match=said):
        graph(function, (8, 8, 3))
