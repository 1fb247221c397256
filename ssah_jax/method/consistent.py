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
from ssah_jax.losses.by_name import HASH_LOSSES, QUANTISATION, Labelled
from ssah_jax.losses.reduce import all_rows, all_sum, first_row, masked_mean
from ssah_jax.method.codes import encode
from ssah_jax.method.views import Views
from ssah_jax.types import AlignmentState, Metrics, TrainState


class Opinion(NamedTuple):
    """What the teacher says of clean unlabelled images; no gradient.

    Attributes:
        code: `[U, K]`.
        posterior: of the classes, `[U, C]`.
        aligned: the same with the classes' shares aligned, `[U, C]`.
    """

    code: Float[Array, "U K"]
    posterior: Float[Array, "U C"]
    aligned: Float[Array, "U C"]


class Student(NamedTuple):
    """What H-Net says of a batch, for the consistent loss.

    Attributes:
        hard: codes of hard samples of unlabelled images, `[U, K]`.
        clean: codes of these images themselves; the same without hard samples.
        labelled: what the hash loss compares labelled images with.
    """

    hard: Float[Array, "U K"]
    clean: Float[Array, "U K"]
    labelled: Labelled


class _Seen(NamedTuple):
    """What a term looks at: arguments of `consistent_loss`."""

    student: Student
    opinion: Opinion
    state: TrainState
    views: Views
    config: Config
    axis_name: str | None


def drawn_to_others(samples: Labelled, *, config: Config) -> Float[Array, ""]:
    """The hash loss of samples that move to where other codes are, not these to them.

    A hard sample, or a wrong label, moves one image and no labelled one. Quantisation
    is left out: it is taken on clean codes only.

    Args:
        samples: codes, and what they are compared with: constants here.
        config: of the run.
    """
    samples = samples._replace(others=stop_gradient(samples.others))
    terms = HASH_LOSSES[config.loss.name].terms(samples, **config.loss.hash_options)
    terms.pop(QUANTISATION, None)
    return sum(terms.values(), jnp.zeros(()))


def ask_teacher(state: TrainState, views: Views, *, config: Config) -> Opinion:
    """The opinion of the moving average of H-Net on clean unlabelled images."""
    state = stop_gradient(state)
    code = encode(state.teacher, state.teacher_stats, views.unlabelled, config=config)
    multi_label = config.data.multi_label
    logits = _class_logits(code, state, config)
    posterior = similarity.class_posterior(logits, multi_label=multi_label)
    aligned = posterior
    if config.loss.align:
        aligned = similarity.align_posterior(
            posterior,
            state.alignment.prior,
            state.alignment.predicted,
            multi_label=multi_label,
        )
    return Opinion(code, posterior, aligned)


def labels_seen(
    hard: Float[Array, "U K"],
    opinion: Opinion,
    state: TrainState,
    *,
    config: Config,
) -> tuple[Bool[Array, "U C"], Bool[Array, "U C"]]:
    """Labels given to hard samples, and labels that the teacher is sure of.

    Args:
        hard: codes of hard samples of unlabelled images, `[U, K]`.
        opinion: the teacher's, of the images themselves.
        state: the class centres.
        config: of the run.
    """
    logits = _class_logits(stop_gradient(hard), state, config)
    seen = similarity.predicted_labels(logits, multi_label=config.data.multi_label)
    return seen, opinion.aligned >= config.loss.gate


def recognition(
    hard: Float[Array, "U K"],
    opinion: Opinion,
    state: TrainState,
    *,
    config: Config,
    axis_name: str | None,
) -> Metrics:
    """How much of what the teacher is sure of H-Net still sees in the hard samples.

    Args:
        hard: codes of hard samples of unlabelled images, `[U, K]`.
        opinion: the teacher's, of the images themselves.
        state: the class centres.
        config: of the run.
        axis_name: mapped axis.

    Returns:
        The share of labels that H-Net gives too, among those whose probability is at
        least `loss.gate`, and the share of images that have any: the evidence.
    """
    mean = partial(masked_mean, axis_name=axis_name)
    seen, sure = labels_seen(hard, opinion, state, config=config)
    return {
        "pace/recognised": mean(seen.astype(jnp.float32), sure),
        "pace/evidence": mean(jnp.any(sure, axis=-1).astype(jnp.float32)),
    }


def consistent_loss(
    student: Student,
    opinion: Opinion,
    state: TrainState,
    views: Views,
    *,
    config: Config,
    axis_name: str | None,
) -> tuple[Float[Array, ""], Metrics]:
    """The weighted consistent losses on unlabelled images, ramped or fading.

    Args:
        student: H-Net's codes.
        opinion: the teacher's.
        state: everything else; constants.
        views: the batch.
        config: of the run.
        axis_name: mapped axis.
    """
    weights = config.loss
    seen = _Seen(student, opinion, state, views, config, axis_name)
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
    return loss, {f"loss/{name}": value for name, value in terms.items()}


def follow_classes(
    alignment: AlignmentState,
    label: Float[Array, "L C"],
    posterior: Float[Array, "U C"],
    *,
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


def _class_logits(
    codes: Float[Array, "U K"], state: TrainState, config: Config
) -> Float[Array, "U C"]:
    return similarity.class_logits(
        codes,
        state.centres,
        scale=config.loss.posterior_scale,
        offset=config.loss.label_offset if config.data.multi_label else 0.0,
    )


def _taught(
    seen: _Seen,
    codes: Float[Array, "U K"],
    posterior: Float[Array, "U C"],
    weight: Float[Array, "U"],
    gate: float,
) -> Float[Array, ""]:
    """The hash loss of unlabelled images, with labels of whose presence one is sure.

    Pairs count where it is as sure whether they share a label.
    """
    labelled = seen.student.labelled
    label = all_rows(seen.views.label, seen.axis_name)
    where = jnp.ones(len(label), bool)
    if bank := seen.state.bank:
        label = jnp.concatenate([label, bank.labels])
        where = jnp.concatenate([where, bank.valid])
    present = (posterior >= gate).astype(jnp.float32)
    possible = (posterior > 1.0 - gate).astype(jnp.float32)
    similar = similarity.labels_overlap(present, label)
    sure = similar | ~similarity.labels_overlap(possible, label)
    known = labelled._replace(
        u=codes,
        label=present,
        similar=similar,
        where=sure & jnp.broadcast_to(where, sure.shape),
        weight=weight * jnp.any(present > 0, axis=-1),
    )
    return drawn_to_others(known, config=seen.config)


def _to_teacher(seen: _Seen) -> Float[Array, ""]:
    """What the teacher is sure of, asked of the hard sample: `loss.consistent`."""
    weight = jnp.ones(len(seen.student.hard))
    opinion = seen.opinion.aligned
    return _taught(seen, seen.student.hard, opinion, weight, seen.config.loss.gate)


def _to_teacher_pairs(seen: _Seen) -> Float[Array, ""]:
    """SSDPH's squared error of pair probabilities: `loss.consistent_teacher`."""
    state = stop_gradient(seen.state)
    known = encode(
        state.teacher, state.teacher_stats, seen.views.labelled, config=seen.config
    )
    target = losses.pair_posterior(
        jnp.tanh(seen.opinion.code), jnp.tanh(all_rows(known, seen.axis_name))
    )
    values = losses.ssdph_loss(
        jnp.tanh(seen.student.hard),
        jnp.tanh(all_rows(seen.student.labelled.u, seen.axis_name)),
        target,
    )
    return masked_mean(values, axis_name=seen.axis_name)


def _to_neighbours(seen: _Seen) -> Float[Array, ""]:
    """SSDH's contrastive pairs of neighbours: `loss.consistent_graph`."""
    bits = jax.nn.sigmoid(seen.student.hard)
    others = all_rows(bits, seen.axis_name)
    rows = first_row(len(bits), seen.axis_name)
    where = similarity.not_self(rows, len(bits), len(others))
    near, sure = losses.graph_pairs(bits, others, where=where)
    values = losses.contrastive_loss(bits, others, near)
    return losses.balanced_pair_mean(values, near, sure, axis_name=seen.axis_name)


def _to_spread_labels(seen: _Seen) -> Float[Array, ""]:
    """Labels that spread over the graph, asked of the images themselves.

    A hard sample need not show what an image is like.
    """
    spread, multi_label = seen.views.spread, seen.config.data.multi_label
    if spread is None:
        raise ValueError("batch: found no spread labels, expected [U, C]")
    trust = similarity.certainty(spread, multi_label=multi_label)
    if not multi_label:
        spread = jax.nn.one_hot(jnp.argmax(spread, axis=-1), spread.shape[-1])
    return _taught(seen, seen.student.clean, spread, trust, 0.5)


_TERMS: dict[str, Callable[[_Seen], Float[Array, ""]]] = {
    "consistent": _to_teacher,
    "consistent_teacher": _to_teacher_pairs,
    "consistent_graph": _to_neighbours,
}
"""Terms that ramp up, by the field of `config.loss` that weights them."""
