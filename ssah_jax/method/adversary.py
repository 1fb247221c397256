"""What A-Net minimises on one batch.

Of the deformations within reach, the harder ones, and no more closed a choice than that
takes: `pi(d | x) ~ exp(h(d, x) / lambda)`. Values are this device's share of the global
one (see `ssah_jax.losses.reduce`).
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float

from ssah_jax import losses, transforms
from ssah_jax.config import Config
from ssah_jax.losses.reduce import all_sum, masked_mean
from ssah_jax.method.views import Generated, Views, max_angle, propose
from ssah_jax.types import DeformationLogits, Metrics, Params, TrainState


def anet_objective(
    anet_params: Params,
    state: TrainState,
    views: Views,
    generated: Generated,
    hardness: Float[Array, "B"],
    *,
    config: Config,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """A-Net's loss: `-H(pi(. | x)) - h / lambda`, lambda being the threshold.

    H-Net has no part in it but through hardness, a number: the gradient through the
    draw is the score function's.

    Args:
        anet_params: A-Net's parameters, which are differentiated.
        state: everything else; constants.
        views: the batch.
        generated: its hard samples; constants. Of several draws all, one draw of the
            whole batch after the other.
        hardness: of these, labelled ones first, `[D (L + U)]`; a constant.
        config: of the run.
        axis_name: mapped axis.
    """
    state, generated, hardness = stop_gradient((state, generated, hardness))
    mean = partial(masked_mean, axis_name=axis_name)
    logits = propose(anet_params, views, config=config)
    images, number = len(views.keys), len(views.label)
    draws = len(hardness) // images
    if draws > 1:
        logits = jax.tree.map(
            lambda leaf: jnp.tile(leaf, (draws, *(1 for _ in leaf.shape[1:]))), logits
        )
    log_probability = jax.vmap(
        partial(
            transforms.deformation_log_probability,
            max_angle=max_angle(state.pace, config=config),
        )
    )(logits, generated.deformations)
    labelled = jnp.arange(len(hardness)) % images < number
    baseline = _group_means(hardness, turned(generated), labelled, axis_name)
    threshold = state.pace.threshold
    pursuit = losses.score_function_loss(
        log_probability, -hardness / threshold, -baseline / threshold
    )
    entropies = deformation_entropy(logits)
    loss = mean(pursuit - sum(entropies.values()))
    return loss, _openness(entropies, logits, axis_name)


def turned(generated: Generated) -> Bool[Array, "B"]:
    """Which hard samples are rotated; the others are occluded."""
    return jnp.sum(generated.deformations.scale, axis=-1) == 0.0


def hardness_by_kind(
    generated: Generated,
    hardness: Float[Array, "B"],
    threshold: Float[Array, ""],
    *,
    axis_name: str | None = None,
) -> Metrics:
    """Mean hardness of occluded and of rotated samples; the threshold without any.

    Args:
        generated: the hard samples.
        hardness: of these, `[L + U]`.
        threshold: lambda.
        axis_name: mapped axis.
    """
    metrics: Metrics = {}
    for name, where in (
        ("occluded", ~turned(generated)),
        ("rotated", turned(generated)),
    ):
        devices = all_sum(1, axis_name)
        none = all_sum(jnp.sum(where), axis_name) == 0
        mean = masked_mean(hardness, where, axis_name=axis_name)
        metrics[f"pace/hardness_{name}"] = jnp.where(none, threshold / devices, mean)
    return metrics


def deformation_entropy(logits: DeformationLogits) -> dict[str, Float[Array, "B"]]:
    """Entropy of each image's choices in nats, `[B]`: their sum is that of the draw.

    Of the scale, of the position given the scale, and of the angles of all blocks.

    Args:
        logits: scale `[B, S]`, position `[B, S, G, G]`, angle `[B, A, N]`.
    """
    entropy = losses.categorical_entropy
    given = entropy(logits.position.reshape(*logits.scale.shape, -1))
    return {
        "scale": entropy(logits.scale),
        "position": jnp.sum(jax.nn.softmax(logits.scale, axis=-1) * given, axis=-1),
        "angle": jnp.sum(entropy(logits.angle), axis=-1),
    }


def _group_means(
    hardness: Float[Array, "B"],
    turned: Bool[Array, "B"],
    labelled: Bool[Array, "B"],
    axis_name: str | None,
) -> Float[Array, "B"]:
    """Mean hardness of the samples that are like each one, in its place.

    Like in two ways: of a labelled image or not, since what is hard with labels is in
    the unit of what is hard without, not of its mean; and turned or occluded.
    """
    means = jnp.zeros_like(hardness)
    for alike in (
        labelled & turned,
        labelled & ~turned,
        ~labelled & turned,
        ~labelled & ~turned,
    ):
        mean = all_sum(masked_mean(hardness, alike, axis_name=axis_name), axis_name)
        means = jnp.where(alike, mean, means)
    return means


def _openness(
    entropies: dict[str, Float[Array, "B"]],
    logits: DeformationLogits,
    axis_name: str | None,
) -> Metrics:
    """Entropies over their maxima: of an image, and of the mean over the batch.

    An adversary that answers every image alike has as little of the second as of the
    first.
    """
    batch, num_scales = logits.scale.shape
    heads = {
        "scale": logits.scale,
        "position": logits.position.reshape(batch, num_scales, -1),
        "angle": logits.angle,
    }
    metrics: Metrics = {}
    for name, head in heads.items():
        # One choice has no entropy to lose.
        largest = math.log(head.shape[-1]) or 1.0
        blocks = head.shape[1] if name == "angle" else 1
        share = masked_mean(entropies[name], axis_name=axis_name) / blocks / largest
        metrics[f"entropy/{name}"] = share
        devices = all_sum(1, axis_name)
        mean = all_sum(jnp.mean(jax.nn.softmax(head, axis=-1), axis=0), axis_name)
        overall = losses.categorical_entropy(jnp.log(jnp.maximum(mean, 1e-9)))
        metrics[f"entropy/{name}_batch"] = jnp.mean(overall) / largest / devices
    return metrics
