"""The semi-supervised consistent loss of one batch: its parts, weighted and ramped."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from ssah_jax import losses, similarity
from ssah_jax.config import Config
from ssah_jax.losses.reduce import all_rows, all_sum, first_row, masked_mean
from ssah_jax.method.views import Views
from ssah_jax.types import AlignmentState, Metrics, TrainState


def consistent_loss(
    student: Float[Array, "U K"],
    clean: Float[Array, "U K"],
    paced: Float[Array, "U"],
    anchors: Float[Array, "M K"],
    teach: Callable[[Array], Array],
    state: TrainState,
    views: Views,
    *,
    config: Config,
    axis_name: str | None,
) -> tuple[Float[Array, ""], AlignmentState, Metrics]:
    """The weighted consistent losses on unlabelled images, ramped or fading.

    Args:
        student: codes of hard samples of unlabelled images, `[U, K]`.
        clean: codes of these images themselves; the same where there are no hard
            samples.
        paced: self-paced weights of these, `[U]` in [0, 1].
        anchors: codes of the labelled images of all devices, `[M, K]`.
        teach: the teacher's codes of clean images.
        state: everything else; constants.
        views: the batch.
        config: of the run.
        axis_name: mapped axis.
    """
    weights, multi_label = config.loss, config.data.multi_label
    mean = partial(masked_mean, axis_name=axis_name)
    to_logits = partial(
        similarity.class_logits,
        centres=state.centres,
        scale=weights.point_scale,
        offset=weights.label_offset if multi_label else 0.0,
    )
    teacher = stop_gradient(teach(views.unlabelled))
    posterior = similarity.class_posterior(to_logits(teacher), multi_label=multi_label)
    aligned = posterior
    if weights.align:
        aligned = similarity.align_posterior(
            posterior,
            state.alignment.prior,
            state.alignment.predicted,
            multi_label=multi_label,
        )
    sure = similarity.confident(aligned, gate=weights.gate, multi_label=multi_label)
    metrics: Metrics = {"monitor/gate_rate": mean(sure.astype(jnp.float32))}
    total, spread = jnp.zeros(()), jnp.zeros(())
    if weights.consistent > 0:
        values = losses.centre_consistency(
            to_logits(student), aligned, sure, multi_label=multi_label
        )
        metrics["loss/consistent"] = mean(paced * values)
        total += weights.consistent * metrics["loss/consistent"]
    if weights.consistent_pair > 0:
        labels = all_rows(views.label, axis_name)
        target = similarity.pair_probability(aligned, labels, multi_label=multi_label)
        values = losses.pair_consistency(
            student, anchors, target, alpha=weights.pair_alpha
        )
        metrics["loss/consistent_pair"] = losses.balanced_pair_mean(
            paced[:, None] * values,
            target > 0.5,
            jnp.maximum(target, 1.0 - target) >= weights.gate,
            axis_name=axis_name,
        )
        total += weights.consistent_pair * metrics["loss/consistent_pair"]

    if weights.consistent_teacher > 0:
        known = all_rows(stop_gradient(teach(views.labelled)), axis_name)
        target = losses.pair_posterior(jnp.tanh(teacher), jnp.tanh(known))
        values = losses.ssdph_loss(jnp.tanh(student), jnp.tanh(anchors), target)
        metrics["loss/consistent_teacher"] = mean(paced[:, None] * values)
        total += weights.consistent_teacher * metrics["loss/consistent_teacher"]
    if weights.consistent_graph > 0:
        bits = jax.nn.sigmoid(student)
        others = all_rows(bits, axis_name)
        rows = first_row(len(bits), axis_name)
        where = similarity.not_self(rows, len(bits), len(others))
        near, sure_pairs = losses.graph_pairs(bits, others, where=where)
        values = losses.contrastive_loss(bits, others, near)
        metrics["loss/consistent_graph"] = losses.balanced_pair_mean(
            paced[:, None] * values, near, sure_pairs, axis_name=axis_name
        )
        total += weights.consistent_graph * metrics["loss/consistent_graph"]

    if weights.consistent_spread > 0:
        if views.spread is None:
            raise ValueError("batch: found no spread labels, expected [U, C]")
        # Of the images themselves: a hard sample need not show what they are like.
        values = losses.centre_consistency(
            to_logits(clean),
            views.spread,
            jnp.ones(views.spread.shape, bool),
            multi_label=multi_label,
        )
        trust = similarity.certainty(views.spread, multi_label=multi_label)
        # The graph knows more than a teacher that has just begun, and less than one
        # that has learnt from it.
        left = losses.ramp_down(state.step, length=weights.fade * config.steps)
        metrics["loss/consistent_spread"] = left * mean(trust * values)
        spread = weights.consistent_spread * metrics["loss/consistent_spread"]

    def class_share(values: Array) -> Array:
        count = all_sum(len(values), axis_name)
        return all_sum(jnp.sum(values, axis=0), axis_name) / count

    alignment = AlignmentState(
        prior=_follow(state.alignment.prior, class_share(views.label)),
        predicted=_follow(state.alignment.predicted, class_share(posterior)),
    )
    ramp = losses.ramp_up(state.step, length=weights.ramp * config.steps)
    return ramp * total + spread, alignment, metrics


def _follow(running: Array, new: Array, decay: float = 0.99) -> Array:
    return decay * running + (1.0 - decay) * new
