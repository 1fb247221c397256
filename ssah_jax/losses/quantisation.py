"""Losses that bring a real-valued code close to its signs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssah_jax.similarity import unit_rows


def cosine_quantisation(u: Float[Array, "B K"]) -> Float[Array, "B"]:
    """One minus the cosine between a code and its own signs, `[B]` in [0, 1].

    Scale-free: it asks that all bits of a code be equally sure, not that they be +-1.
    The signs are a constant of the gradient. `1 - |u|_1 / (sqrt(K) |u|_2)`, the
    quantisation error of OrthoHash (https://arxiv.org/abs/2109.14449).

    Args:
        u: codes `[B, K]`, any real; a zero row has loss 1.
    """
    sign = jax.lax.stop_gradient(jnp.where(u >= 0, 1.0, -1.0))
    return 1.0 - jnp.mean(unit_rows(u) * sign, axis=-1) * jnp.sqrt(float(u.shape[-1]))
