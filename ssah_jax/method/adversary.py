"""What A-Net minimises on one batch, and the search that it must match.

Values are this device's share of the global one (see `ssah_jax.losses.reduce`), and
have no gradient on H-Net's parameters.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from ssah_jax import losses, transforms
from ssah_jax.config import Config
from ssah_jax.losses.reduce import all_sum, masked_mean
from ssah_jax.method.codes import CleanCodes, batch_hardness, hash_images
from ssah_jax.method.views import Generated, Views, generate, max_angle, propose
from ssah_jax.types import DeformationLogits, Metrics, Params, TrainState


class Outcome(NamedTuple):
    """What H-Net made of a batch's hard samples; A-Net learns from it.

    Attributes:
        clean: codes of the clean images.
        hardness: of the generated samples, `[L + U]`.
    """

    clean: CleanCodes
    hardness: Float[Array, "B"]


def anet_objective(
    anet_params: Params,
    hnet_params: Params,
    state: TrainState,
    views: Views,
    generated: Generated,
    outcome: Outcome,
    *,
    config: Config,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """A-Net's loss: mean hardness at the threshold, from choices that stay open.

    Args:
        anet_params: A-Net's parameters, which are differentiated.
        hnet_params: H-Net's, through which hardness is seen; constants.
        state: everything else; constants.
        views: the batch.
        generated: its hard samples; constants.
        outcome: what H-Net made of them; constants.
        config: of the run.
        axis_name: mapped axis.
    """
    hnet_params, generated, outcome = stop_gradient((hnet_params, generated, outcome))
    if config.anet.trainer == "straight_through":
        pursuit, logits = _straight_through(
            anet_params, hnet_params, state, views, outcome, config, axis_name
        )
        total = pursuit
    else:
        logits = propose(anet_params, views, config=config)
        total, pursuit = _score_function(
            logits, state, generated, outcome, config, axis_name
        )
    floors, metrics = _floors(logits, config, axis_name)
    total += config.anet.entropy_weight * floors
    return total, metrics | {"loss/pursuit": pursuit, "loss/floors": floors}


def _pursue(
    hardness: Float[Array, "B"], state: TrainState, axis_name: str | None
) -> Float[Array, "B"]:
    """Each sample's share in bringing the mean hardness to the threshold."""
    mean = masked_mean(stop_gradient(hardness), axis_name=axis_name)
    reached = all_sum(mean, axis_name)
    return losses.threshold_pursuit(hardness, state.pace.threshold, reached)


def _straight_through(
    anet_params: Params,
    hnet_params: Params,
    state: TrainState,
    views: Views,
    outcome: Outcome,
    config: Config,
    axis_name: str | None,
) -> tuple[Float[Array, ""], DeformationLogits]:
    """The pursuit, differentiable through H-Net and the images; and A-Net's logits."""
    again = generate(anet_params, views, config=config)
    hard, _ = hash_images(
        hnet_params,
        state.batch_stats,
        again.images,
        domain="generated",
        config=config,
        axis_name=axis_name,
    )
    hardness = batch_hardness(hard, outcome.clean, views.label, axis_name=axis_name)
    each = _pursue(hardness, state, axis_name)
    return masked_mean(each, axis_name=axis_name), again.logits


def _score_function(
    logits: DeformationLogits,
    state: TrainState,
    generated: Generated,
    outcome: Outcome,
    config: Config,
    axis_name: str | None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The pursuit, differentiable in the probability of what was drawn; its value."""
    mean = partial(masked_mean, axis_name=axis_name)
    each = _pursue(outcome.hardness, state, axis_name)
    pursuit = mean(each)
    log_probability = jax.vmap(
        partial(transforms.deformation_log_probability, max_angle=max_angle(config))
    )(logits, generated.deformations)
    baseline = all_sum(pursuit, axis_name)
    loss = losses.score_function_loss(log_probability, each, baseline)
    return mean(loss), pursuit


def _floors(
    logits: DeformationLogits, config: Config, axis_name: str | None
) -> tuple[Float[Array, ""], Metrics]:
    """Shortfall of entropies below their floors, summed; and the entropies."""
    mean = partial(masked_mean, axis_name=axis_name)
    devices = all_sum(1, axis_name)
    batch, num_scales = logits.scale.shape
    heads = {
        "scale": logits.scale[:, None],
        "position": logits.position.reshape(batch, num_scales, -1),
        "angle": logits.angle,
    }
    floors, metrics = jnp.zeros(()), {}
    for name, head in heads.items():
        each = losses.entropy_floor(head, floor=config.anet.entropy_floor)
        # The mean choice over the global batch: an adversary that answers every
        # image alike has a low entropy here even if single answers are open.
        share = jnp.mean(jax.nn.softmax(head, axis=-1), axis=0) / devices
        overall = jnp.log(jnp.maximum(all_sum(share, axis_name), 1e-9))
        floor = getattr(config.anet, f"{name}_entropy_floor")
        spread = losses.entropy_floor(overall, floor=floor)
        floors += mean(each) + jnp.mean(spread) / devices
        metrics[f"entropy/{name}"] = mean(losses.normalised_entropy(head))
        metrics[f"entropy/{name}_batch"] = (
            jnp.mean(losses.normalised_entropy(overall)) / devices
        )
    return floors, metrics


def hardest_accepted(
    state: TrainState,
    views: Views,
    *,
    config: Config,
    axis_name: str | None = None,
) -> Generated:
    """Of several random deformations of an image, the hardest that H-Net accepts.

    What an adversary must match: a search without one, at `config.anet.candidates`
    forward passes of H-Net. If it accepts none, the easiest is taken.

    Args:
        state: H-Net's parameters and the threshold; constants.
        views: the batch.
        config: of the run.
        axis_name: mapped axis.
    """
    state = stop_gradient(state)
    hash_ = partial(
        hash_images, state.hnet, state.batch_stats, config=config, axis_name=axis_name
    )
    clean = CleanCodes(
        hash_(views.labelled, domain="clean")[0],
        hash_(views.unlabelled, domain="clean")[0],
    )
    drawn, hardness = [], []
    for index in range(config.anet.candidates):
        keys = jax.vmap(partial(jax.random.fold_in, data=index))(views.keys)
        drawn.append(generate(state.anet, views.replace(keys=keys), config=config))
        codes, _ = hash_(drawn[-1].images, domain="generated")
        hardness.append(batch_hardness(codes, clean, views.label, axis_name=axis_name))
    stacked = jnp.stack(hardness)
    accepted = jnp.where(stacked <= acceptance_limit(state, config), stacked, -jnp.inf)
    easiest, best = jnp.argmin(stacked, axis=0), jnp.argmax(accepted, axis=0)
    chosen = jnp.where(jnp.any(accepted > -jnp.inf, axis=0), best, easiest)
    rows = jnp.arange(len(chosen))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves)[chosen, rows], *drawn)


def acceptance_limit(state: TrainState, config: Config) -> Float[Array, ""]:
    """Hardness up to which H-Net accepts a sample."""
    return (1.0 + config.pace.slack) * state.pace.threshold
