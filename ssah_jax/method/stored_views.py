"""Which view of an image is which, where features of several are stored with it.

Of V views the first `(V + 1) // 2` are weakly augmented, the very first not at all, and
the others are hard samples of these, in their order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


class Drawn(NamedTuple):
    """Views of one image for one step, features `[1, 1, D]` each.

    Attributes:
        weak: any of the weakly augmented ones.
        other: another weakly augmented one; any hard sample where there is none, and of
            a single view this.
        hard: any hard sample; of a single view this.
    """

    weak: Float[Array, "1 1 D"]
    other: Float[Array, "1 1 D"]
    hard: Float[Array, "1 1 D"]


def number_weak(views: int) -> int:
    """How many of so many views, at least 1, are weakly augmented ones."""
    return (views + 1) // 2


def draw(key: Key[Array, ""], features: Float[Array, "V 1 D"]) -> Drawn:
    """Draws uniformly from the views of an image.

    Args:
        key: consumed.
        features: of its views, `[V, 1, D]`.
    """
    views = len(features)
    if views == 1:
        return Drawn(features, features, features)
    weak_key, other_key, hard_key = jax.random.split(key, 3)
    number = number_weak(views)
    weak = jax.random.randint(weak_key, (), 0, number)
    hard = jax.random.randint(hard_key, (), number, views)
    # As far away as any of the others, counted round.
    away = jax.random.randint(other_key, (), 1, max(number, 2))
    other = (weak + away) % number if number > 1 else hard
    rows = jnp.stack([weak, other, hard])
    return Drawn(*features[rows][:, None])
