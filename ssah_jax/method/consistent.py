"""The semi-supervised consistent loss: each of its terms, then the weighted sum."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float

from ssah_jax import losses, similarity
from ssah_jax.config import Config
from ssah_jax.losses.reduce import all_rows, all_sum, first_row, masked_mean
from ssah_jax.method.views import Views
from ssah_jax.types import AlignmentState, Metrics, TrainState


class _Seen(NamedTuple):
    """What a term looks at: arguments of `consistent_loss`, and these.

    Attributes:
        to_logits: from codes to logits of the classes.
        teacher: its codes of clean unlabelled images, `[U, K]`.
        aligned: its aligned posterior, `[U, C]`.
        sure: entries of that which are learnt from, `[U, C]`.
    """

    student: Float[Array, "U K"]
    clean: Float[Array, "U K"]
    paced: Float[Array, "U"]
    anchors: Float[Array, "M K"]
    teach: Callable[[Array], Array]
    to_logits: Callable[[Array], Array]
    teacher: Float[Array, "U K"]
    aligned: Float[Array, "U C"]
    sure: Bool[Array, "U C"]
    views: Views
    config: Config
    axis_name: str | None


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
    to_logits = partial(
        similarity.class_logits,
        centres=state.centres,
        scale=weights.point_scale,
        offset=weights.label_offset if multi_label else 0.0,
    )
    teacher = stop_gradient(teach(views.unlabelled))
    posterior = similarity.class_posterior(to_logits(teacher), multi_label=multi_label)
    aligned = _align(posterior, state.alignment, config)
    sure = similarity.confident(aligned, gate=weights.gate, multi_label=multi_label)
    seen = _Seen(
        *(student, clean, paced, anchors, teach, to_logits),
        *(teacher, aligned, sure, views, config, axis_name),
    )
    terms = {
        name: term(seen) for name, term in _TERMS.items() if getattr(weights, name) > 0
    }
    total = sum(
        (getattr(weights, name) * value for name, value in terms.items()),
        jnp.zeros(()),
    )
    loss = losses.ramp_up(state.step, length=weights.ramp * config.steps) * total
    if weights.consistent_spread > 0:
        # The graph knows more than a teacher that has just begun, and less than one
        # that has learnt from it.
        left = losses.ramp_down(state.step, length=weights.fade * config.steps)
        terms["consistent_spread"] = left * _to_spread_labels(seen)
        loss += weights.consistent_spread * terms["consistent_spread"]
    metrics = {f"loss/{name}": value for name, value in terms.items()}
    metrics["monitor/gate_rate"] = masked_mean(
        sure.astype(jnp.float32), axis_name=axis_name
    )
    alignment = _follow(state.alignment, views.label, posterior, axis_name)
    return loss, alignment, metrics


def _to_centres(seen: _Seen) -> Float[Array, ""]:
    """The teacher's class, asked of the hard sample: `loss.consistent`."""
    values = losses.centre_consistency(
        seen.to_logits(seen.student),
        seen.aligned,
        seen.sure,
        multi_label=seen.config.data.multi_label,
    )
    return masked_mean(seen.paced * values, axis_name=seen.axis_name)


def _to_labelled_pairs(seen: _Seen) -> Float[Array, ""]:
    """What it is similar to among labelled images: `loss.consistent_pair`."""
    target = similarity.pair_probability(
        seen.aligned,
        all_rows(seen.views.label, seen.axis_name),
        multi_label=seen.config.data.multi_label,
    )
    values = losses.pair_consistency(
        seen.student, seen.anchors, target, alpha=seen.config.loss.pair_alpha
    )
    return losses.balanced_pair_mean(
        seen.paced[:, None] * values,
        target > 0.5,
        jnp.maximum(target, 1.0 - target) >= seen.config.loss.gate,
        axis_name=seen.axis_name,
    )


def _to_teacher_pairs(seen: _Seen) -> Float[Array, ""]:
    """SSDPH's squared error of pair probabilities: `loss.consistent_teacher`."""
    known = all_rows(stop_gradient(seen.teach(seen.views.labelled)), seen.axis_name)
    target = losses.pair_posterior(jnp.tanh(seen.teacher), jnp.tanh(known))
    values = losses.ssdph_loss(jnp.tanh(seen.student), jnp.tanh(seen.anchors), target)
    return masked_mean(seen.paced[:, None] * values, axis_name=seen.axis_name)


def _to_neighbours(seen: _Seen) -> Float[Array, ""]:
    """SSDH's contrastive pairs of neighbours: `loss.consistent_graph`."""
    bits = jax.nn.sigmoid(seen.student)
    others = all_rows(bits, seen.axis_name)
    rows = first_row(len(bits), seen.axis_name)
    where = similarity.not_self(rows, len(bits), len(others))
    near, sure = losses.graph_pairs(bits, others, where=where)
    values = losses.contrastive_loss(bits, others, near)
    return losses.balanced_pair_mean(
        seen.paced[:, None] * values, near, sure, axis_name=seen.axis_name
    )


def _to_spread_labels(seen: _Seen) -> Float[Array, ""]:
    """Labels that spread over the graph, asked of the images themselves.

    A hard sample need not show what an image is like.
    """
    spread, multi_label = seen.views.spread, seen.config.data.multi_label
    if spread is None:
        raise ValueError("batch: found no spread labels, expected [U, C]")
    values = losses.centre_consistency(
        seen.to_logits(seen.clean),
        spread,
        jnp.ones(spread.shape, bool),
        multi_label=multi_label,
    )
    trust = similarity.certainty(spread, multi_label=multi_label)
    return masked_mean(trust * values, axis_name=seen.axis_name)


_TERMS: dict[str, Callable[[_Seen], Float[Array, ""]]] = {
    "consistent": _to_centres,
    "consistent_pair": _to_labelled_pairs,
    "consistent_teacher": _to_teacher_pairs,
    "consistent_graph": _to_neighbours,
}
"""Terms that ramp up, by the field of `config.loss` that weights them."""


def _align(
    posterior: Float[Array, "U C"], alignment: AlignmentState, config: Config
) -> Float[Array, "U C"]:
    if not config.loss.align:
        return posterior
    return similarity.align_posterior(
        posterior,
        alignment.prior,
        alignment.predicted,
        multi_label=config.data.multi_label,
    )


def _follow(
    alignment: AlignmentState,
    label: Float[Array, "L C"],
    posterior: Float[Array, "U C"],
    axis_name: str | None,
    decay: float = 0.99,
) -> AlignmentState:
    """Running shares of the classes among labels, and in what the teacher says."""

    def follow(running: Array, values: Array) -> Array:
        count = all_sum(len(values), axis_name)
        share = all_sum(jnp.sum(values, axis=0), axis_name) / count
        return decay * running + (1.0 - decay) * share

    return AlignmentState(
        prior=follow(alignment.prior, label),
        predicted=follow(alignment.predicted, posterior),
    )
