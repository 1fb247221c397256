"""The two optimisers, from the configuration."""

import jax
import optax

from ssah_jax.config import Config
from ssah_jax.types import Params


def hnet_optimiser(config: Config) -> optax.GradientTransformation:
    """AdamW with clipping, a linear warm-up and a cosine decay to zero.

    Weight decay spares vectors: biases, and scales of normalisation.
    """
    optim = config.optim
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=optim.learning_rate,
        warmup_steps=round(optim.warmup * config.steps),
        decay_steps=config.steps,
    )
    return optax.chain(
        optax.clip_by_global_norm(optim.clip_norm),
        optax.adamw(schedule, weight_decay=optim.weight_decay, mask=_matrices),
    )


def anet_optimiser(config: Config) -> optax.GradientTransformation:
    """Adam with clipping and a constant rate: the adversary never settles."""
    return optax.chain(
        optax.clip_by_global_norm(config.optim.clip_norm),
        optax.adam(config.optim.anet_learning_rate),
    )


def _matrices(params: Params) -> Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
