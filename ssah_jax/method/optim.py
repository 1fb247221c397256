"""The two optimisers, from the configuration."""

from functools import partial

import jax
import optax

from ssah_jax.config import Config
from ssah_jax.networks import backbone_scope
from ssah_jax.networks.backbones import stage_of
from ssah_jax.types import Params

_LEARNING, _FROZEN = "learning", "frozen"


def hnet_optimiser(config: Config) -> optax.GradientTransformation:
    """AdamW with clipping, a linear warm-up and a cosine decay to zero.

    Weight decay spares vectors: biases, and scales of normalisation. The backbone has
    a learning rate of its own where `optim.backbone_rate` is not 1; frozen stages have
    neither updates, nor weight decay, nor moments.
    """
    optim = config.optim
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=optim.learning_rate,
        # One step at least is left for the decay.
        warmup_steps=min(round(optim.warmup * config.steps), config.steps - 1),
        decay_steps=config.steps,
    )
    update = optax.adamw(schedule, weight_decay=optim.weight_decay, mask=_matrices)
    if optim.backbone_rate != 1:
        slower = optax.masked(
            optax.scale(optim.backbone_rate), partial(_in_backbone, config=config)
        )
        update = optax.chain(update, slower)
    if config.hnet.frozen_stages:
        update = optax.partition(
            {_LEARNING: update, _FROZEN: optax.set_to_zero()},
            partial(_groups, config=config),
        )
    return optax.chain(optax.clip_by_global_norm(optim.clip_norm), update)


def anet_optimiser(config: Config) -> optax.GradientTransformation:
    """Adam with clipping and a constant rate: the adversary never settles."""
    return optax.chain(
        optax.clip_by_global_norm(config.optim.clip_norm),
        optax.adam(config.optim.anet_learning_rate),
    )


def _matrices(params: Params) -> Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _in_backbone(params: Params, *, config: Config) -> Params:
    """Which parameters of H-Net are its backbone's."""
    scope = backbone_scope(config.hnet.backbone)
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[0].key == scope, params
    )


def _groups(params: Params, *, config: Config) -> Params:
    """Which parameters of H-Net learn."""
    backbone, frozen = config.hnet.backbone, config.hnet.frozen_stages
    scope = backbone_scope(backbone)

    def group(path: tuple[jax.tree_util.DictKey, ...], _: jax.Array) -> str:
        keys = [part.key for part in path]
        if keys[0] == scope and stage_of(backbone, keys[1]) < frozen:
            return _FROZEN
        return _LEARNING

    return jax.tree_util.tree_map_with_path(group, params)
