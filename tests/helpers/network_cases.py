"""Arrays of noise, and variables of networks."""

import jax
import jax.numpy as jnp
import numpy as np


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def images(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).random(shape), jnp.float32)


def init(net, x):
    return net.init(jax.random.key(0), x, method="both_domains")


def moved(variables, seed=5):
    return jax.tree.map(lambda p: p + 0.1 * normal(seed, *p.shape), variables)
