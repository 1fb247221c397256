"""Several deformations of each image, of which the hardest is kept."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Int

from ssah_jax import pacing
from ssah_jax.config import Config
from ssah_jax.method.adversary import hardness_by_kind
from ssah_jax.method.codes import encode
from ssah_jax.method.consistent import ask_teacher, recognition
from ssah_jax.method.views import Generated, Views, draw_all, propose
from ssah_jax.types import Metrics, TrainState


class Drawn(NamedTuple):
    """Deformations that were tried.

    Attributes:
        kept: of each image the hardest, `[L + U, ...]`.
        tried: all, `[D (L + U), ...]`, draw by draw.
        hardness: of these, a share of bits, `[D (L + U)]`.
        codes: of these, the teacher's, `[D (L + U), K]`.
    """

    kept: Generated
    tried: Generated
    hardness: Float[Array, "DB"]
    codes: Float[Array, "DB K"]


def draw_hardest(state: TrainState, views: Views, *, config: Config) -> Drawn:
    """Draw `anet.draws` deformations of each image, and keep the hardest.

    How hard is what the teacher says: the share of its bits that a deformation flips.
    So the adversary looks before it chooses, as in MaxUp
    (https://arxiv.org/abs/2002.09024), while the pace keeps what it may choose from to
    what is still recognised.

    Args:
        state: A-Net's and the teacher's parameters, and the pace; constants.
        views: the batch.
        config: of the run.
    """
    state = stop_gradient(state)
    look = partial(encode, state.teacher, state.teacher_stats, config=config)
    # Apart: XLA merges the second with what the teacher is asked for its opinion.
    clean = jnp.concatenate([look(views.labelled), look(views.unlabelled)])
    # Once: all draws are of the same logits.
    logits = propose(state.anet, views, config=config)

    def draw(
        number: Int[Array, ""],
    ) -> tuple[Generated, Float[Array, "B"], Float[Array, "B K"]]:
        keys = jax.vmap(partial(jax.random.fold_in, data=number))(views.keys)
        again = views.replace(keys=keys)
        made = draw_all(again, logits, state.pace, config=config)
        codes = look(made.images)
        return made, pacing.bit_flips(codes, clean), codes

    # One after the other: all at once would hold the activations of all.
    found = jax.lax.map(draw, jnp.arange(config.anet.draws))
    tried, hardness, _ = found
    best = jnp.argmax(hardness, axis=0), jnp.arange(hardness.shape[1])
    kept = jax.tree.map(lambda leaf: leaf[best], tried)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)
    return Drawn(kept, *flat)


def pace_of_first(
    drawn: Drawn,
    state: TrainState,
    views: Views,
    *,
    config: Config,
    axis_name: str | None = None,
) -> Metrics:
    """What the pace follows: hardness and recognition of the first draw of each image.

    Of the one that is kept they would answer a harder choice with a shorter reach, and
    so take back what it gives. Both are the teacher's, who has seen the first draw.

    Args:
        drawn: of `draw_hardest`.
        state: the teacher, the class centres and the pace; constants.
        views: the batch.
        config: of the run.
        axis_name: mapped axis.
    """
    first = slice(len(views.keys))
    generated = jax.tree.map(lambda leaf: leaf[first], drawn.tried)
    hardness, codes = drawn.hardness[first], drawn.codes[first]
    threshold, unlabelled = state.pace.threshold, codes[len(views.label) :]
    opinion = ask_teacher(state, views, config=config)
    return hardness_by_kind(
        generated, hardness, threshold, axis_name=axis_name
    ) | recognition(unlabelled, opinion, state, config=config, axis_name=axis_name)
