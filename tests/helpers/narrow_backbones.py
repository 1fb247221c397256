"""Backbones of few channels, and their variables."""

import functools
import json

import backbone_cases as cases
import flax
import jax
import jax.numpy as jnp

from ssah_jax.networks.alexnet import VGGF
from ssah_jax.networks.efficientnet_lite import EfficientNetLite
from ssah_jax.networks.resnet import ResNet
from ssah_jax.networks.vgg import VGG16
from ssah_jax.networks.vit import VisionTransformer

GOLDENS = json.loads((cases.GOLDEN / "backbones.json").read_text())


# Narrow versions of each, whose stages are those of the real ones.
NARROW = {
    "alexnet": cases.AlexNet(16),
    "vgg_f": VGGF(16),
    "vgg16": VGG16(cases.VGG_BLOCKS, 16),
    "resnet18": ResNet((1, 1, 1, 1), False, 4),
    "resnet50": ResNet((1, 1, 1, 1), True, 4),
    "efficientnet_lite0": EfficientNetLite(
        tuple(
            (1 + (i > 0), 4 + 4 * i, 1 + (i == 1), 1 + (i in (1, 2, 3, 5)), 3 + i % 2)
            for i in range(7)
        ),
        4,
        8,
    ),
    "vit_b16": VisionTransformer(16, 2, 8, 2, 2),
    "vit_s14": VisionTransformer(14, 2, 8, 2, 2, layer_scale=True),
}


def images(side, batch=2):
    return jnp.asarray(cases.random_images(side, batch))


def golden_tensors(key):
    shapes = GOLDENS[key]["shapes"]
    return cases.random_tensors({name: tuple(s) for name, s in shapes.items()})


def shapes(network, side):
    """Shapes of a backbone's variables, of both domains."""

    def visit(network, x):
        for domain in ("clean", "generated"):
            network(x, domain=domain, train=False)

    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(flax.linen.init(visit, network), jax.random.key(0), x)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("domain", "train"))
def apply(network, variables, x, *, domain="clean", train=False):
    """What a network answers, and its statistics after that."""
    return network.apply(
        variables, x, domain=domain, train=train, mutable=["batch_stats"]
    )


def leaves(tree):
    return flax.traverse_util.flatten_dict(tree, sep="/")
