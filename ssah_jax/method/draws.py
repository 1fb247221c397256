"""Several deformations of each image, of which the hardest is kept."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Int

from ssah_jax import pacing
from ssah_jax.config import Config
from ssah_jax.method.codes import encode
from ssah_jax.method.views import Generated, Views, draw_all, propose
from ssah_jax.types import TrainState


class Drawn(NamedTuple):
    """Deformations that were tried.

    Attributes:
        kept: of each image the hardest, `[L + U, ...]`.
        tried: all, `[D (L + U), ...]`, draw by draw.
        hardness: of these, a share of bits, `[D (L + U)]`.
    """

    kept: Generated
    tried: Generated
    hardness: Float[Array, "DB"]


def draw_hardest(state: TrainState, views: Views, *, config: Config) -> Drawn:
    """Draw `anet.draws` deformations of each image, and keep the hardest.

    How hard is what the teacher says: the share of its bits that a deformation flips.
    So the adversary looks before it chooses, as in MaxUp
    (https://arxiv.org/abs/2002.09024), while the pace keeps what it may choose from to
    what H-Net still recognises.

    Args:
        state: A-Net's and the teacher's parameters, and the pace; constants.
        views: the batch.
        config: of the run.
    """
    state = stop_gradient(state)
    look = partial(encode, state.teacher, state.teacher_stats, config=config)
    clean = look(jnp.concatenate([views.labelled, views.unlabelled]))
    # Once: all draws are of the same logits.
    logits = propose(state.anet, views, config=config)

    def draw(number: Int[Array, ""]) -> tuple[Generated, Float[Array, "B"]]:
        keys = jax.vmap(partial(jax.random.fold_in, data=number))(views.keys)
        again = views.replace(keys=keys)
        made = draw_all(again, logits, state.pace, config=config)
        return made, pacing.bit_flips(look(made.images), clean)

    # One after the other: all at once would hold the activations of all.
    tried, hardness = jax.lax.map(draw, jnp.arange(config.anet.draws))
    best = jnp.argmax(hardness, axis=0), jnp.arange(hardness.shape[1])
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tried)
    kept = jax.tree.map(lambda leaf: leaf[best], tried)
    return Drawn(kept, flat, hardness.reshape(-1))
