"""Transforms, compiled, and what they are called with."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import scipy.special
import scipy.stats

from ssah_jax import transforms
from ssah_jax.types import Deformation, DeformationLogits

SCALES = (0.25, 0.5, 0.75)


draw_deformation = jax.jit(transforms.draw_deformation)


def random_image(seed, height=9, width=7, channels=2):
    pixels = np.random.default_rng(seed).random((height, width, channels))
    return jnp.asarray(pixels, jnp.float32)


def random_logits(seed, num_scales=3, grid=4, blocks=4, bins=5):
    draw = np.random.default_rng(seed).standard_normal
    return DeformationLogits(
        scale=jnp.asarray(draw(num_scales), jnp.float32),
        position=jnp.asarray(draw((num_scales, grid, grid)), jnp.float32),
        angle=jnp.asarray(draw((blocks, bins)), jnp.float32),
    )


def one_hot(shape, index, value=1.0):
    out = np.zeros(shape, np.float32)
    out[index] = value
    return jnp.asarray(out)


MASKS = jnp.asarray(np.random.default_rng(2).random((2, 9, 7)), jnp.float32)


ANGLES = jnp.asarray([[0.3, -0.2, 1.0, 0.0], [0.1, 0.2, -0.3, 2.0]])


LOGITS = jax.tree.map(
    lambda *leaf: jnp.asarray(np.stack(leaf)), random_logits(4), random_logits(5)
)


SOFT = Deformation(
    scale=jnp.asarray(scipy.special.softmax(LOGITS.scale, axis=-1)),
    position=jnp.asarray(scipy.special.softmax(LOGITS.position, axis=(-2, -1))),
    angle=ANGLES,
)
