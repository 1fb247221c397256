"""What H-Net minimises on one batch: the method, without updates.

Values are this device's share of the global one (see `ssah_jax.losses.reduce`), and
have no gradient on A-Net's parameters.
"""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from ssah_jax import losses, similarity
from ssah_jax.config import Config
from ssah_jax.losses.by_name import HASH_LOSSES, Labelled
from ssah_jax.losses.reduce import all_rows, all_sum, masked_mean
from ssah_jax.method.codes import (
    CleanCodes,
    batch_hardness,
    hash_images,
    label_pairs,
)
from ssah_jax.method.consistent import (
    Student,
    ask_teacher,
    consistent_loss,
    drawn_to_others,
    follow_classes,
    recognition,
)
from ssah_jax.method.views import Views
from ssah_jax.types import AlignmentState, Metrics, Params, TrainState


class Carried(NamedTuple):
    """Fields of `TrainState` that H-Net's forward passes move, no gradient.

    Attributes:
        batch_stats: the new running statistics.
        alignment: the new class marginals.
        centres: the new class centres.
        bank: the new memory bank.
    """

    batch_stats: Params
    alignment: AlignmentState
    centres: Float[Array, "C K"]
    bank: Params


class HNetAux(NamedTuple):
    """What H-Net's objective brings along.

    Attributes:
        hardness: of the hard samples, `[L + U]`; None without any.
        carried: what the next state takes over.
        metrics: this device's shares.
    """

    hardness: Float[Array, "B"] | None
    carried: Carried
    metrics: Metrics


def consistent_on(config: Config) -> bool:
    """Whether a consistent loss has any weight."""
    loss = config.loss
    return (
        loss.consistent > 0
        or loss.consistent_teacher > 0
        or loss.consistent_graph > 0
        or loss.consistent_spread > 0
    )


def asks_teacher(config: Config) -> bool:
    """Whether any part of the step asks what the teacher says of unlabelled images."""
    return config.anet.kind != "none" or consistent_on(config)


def uses_unlabelled(config: Config) -> bool:
    """Whether any part of the step looks at unlabelled images."""
    return asks_teacher(config) or config.loss.cross_view > 0


def hnet_objective(
    params: Params,
    state: TrainState,
    views: Views,
    generated: Float[Array, "B H W ch"] | None,
    *,
    config: Config,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], HNetAux]:
    """H-Net's loss: similarity, quantisation, hard samples, consistency, agreement.

    Clean labelled, clean unlabelled and generated images pass separately, so that
    batch moments tie no labelled code to an unlabelled image.

    Args:
        params: H-Net's parameters, which are differentiated.
        state: everything else; constants.
        views: the batch.
        generated: hard samples `[L + U, H, W, ch]`, or None without any.
        config: of the run.
        axis_name: mapped axis.
    """
    codes = _hash_batch(params, state, views, generated, config, axis_name)
    labelled = _compare(codes.labelled, params, state, views.label, axis_name)
    terms: Metrics = {}
    if config.batch.labelled:
        hash_loss = HASH_LOSSES[config.loss.name]
        terms |= hash_loss.terms(labelled, **config.loss.hash_options)
        terms |= _regularisers(codes.labelled, config=config, axis_name=axis_name)
    if codes.other is not None:
        terms |= _cross_view(
            codes.unlabelled, codes.other, config=config, axis_name=axis_name
        )
    total = sum(terms.values(), jnp.zeros(()))
    metrics: Metrics = {f"loss/{name}": value for name, value in terms.items()}

    hardness, student = None, codes.unlabelled
    if codes.hard is not None:
        number = len(views.label)
        student = codes.hard[number:]
        samples = labelled._replace(u=codes.hard[:number])
        hard = drawn_to_others(samples, config=config)
        total += config.loss.hard * hard
        clean = CleanCodes(codes.labelled, codes.unlabelled)
        hardness = stop_gradient(
            batch_hardness(codes.hard, clean, views.label, axis_name=axis_name)
        )
        metrics |= {"loss/hard": hard} | _hardness(hardness, number, axis_name)

    alignment = state.alignment
    if asks_teacher(config):
        opinion = ask_teacher(state, views, config=config)
        if codes.hard is not None:
            metrics |= recognition(
                student, opinion, state, config=config, axis_name=axis_name
            )
        alignment = follow_classes(
            alignment, views.label, opinion.posterior, axis_name=axis_name
        )
        seen = Student(student, codes.unlabelled, labelled)
        loss, more = consistent_loss(
            seen, opinion, state, views, config=config, axis_name=axis_name
        )
        total += loss
        metrics |= more
    metrics["loss/total"] = total
    centres, bank = state.centres, state.bank
    if config.batch.labelled:
        centres, bank = _remember(codes.labelled, state, views.label, config, axis_name)
    carried = Carried(codes.stats, alignment, centres, bank)
    return total, HNetAux(hardness, carried, metrics)


class _Codes(NamedTuple):
    """H-Net's passes over a batch.

    Attributes:
        labelled: codes of labelled images, `[L, K]`.
        unlabelled: of unlabelled ones, `[U, K]`; none where nothing asks for them.
        other: of second views of these, `[U, K]`; None where nothing compares two.
        hard: of hard samples, `[L + U, K]`; None without any.
        stats: the running statistics after all of them.
    """

    labelled: Float[Array, "L K"]
    unlabelled: Float[Array, "U K"]
    other: Float[Array, "U K"] | None
    hard: Float[Array, "B K"] | None
    stats: Params


def _hash_batch(
    params: Params,
    state: TrainState,
    views: Views,
    generated: Float[Array, "B H W ch"] | None,
    config: Config,
    axis_name: str | None,
) -> _Codes:
    hash_ = partial(hash_images, config=config, axis_name=axis_name)
    stats, labelled = state.batch_stats, jnp.zeros((0, config.bits))
    if config.batch.labelled:
        labelled, stats = hash_(params, stats, views.labelled, domain="clean")
    unlabelled, other, hard = labelled[:0], None, None
    if uses_unlabelled(config):
        # Beside hard samples it is mostly a target, without half of the cost.
        learns = (
            generated is None
            or config.loss.consistent_spread > 0
            or config.loss.cross_view > 0
        )
        learnt = params if learns else stop_gradient(params)
        unlabelled, stats = hash_(learnt, stats, views.unlabelled, domain="clean")
    if views.other is not None:
        # Hard where there is no other: evaluation does not go by their moments.
        other, stats = hash_(params, stats, views.other, domain="generated")
    if generated is not None:
        # A-Net learns from its own objective.
        images = stop_gradient(generated)
        hard, stats = hash_(params, stats, images, domain="generated")
    return _Codes(labelled, unlabelled, other, hard, stats)


def _hardness(
    hardness: Float[Array, "B"], number: int, axis_name: str | None
) -> Metrics:
    """Mean hardness; the first `number` samples are of labelled images."""
    mean = partial(masked_mean, axis_name=axis_name)
    return {
        "pace/hardness": mean(hardness),
        "pace/hardness_labelled": mean(hardness[:number]),
        "pace/hardness_unlabelled": mean(hardness[number:]),
    }


def _compare(
    codes: Float[Array, "L K"],
    params: Params,
    state: TrainState,
    label: Float[Array, "L C"],
    axis_name: str | None,
) -> Labelled:
    """Labelled codes beside those of the batch of all devices and of the bank."""
    others, similar, where = label_pairs(codes, label, axis_name)
    if state.bank:
        # Constants of the gradient: they come from earlier parameters.
        others = jnp.concatenate([others, state.bank.codes])
        shared = similarity.labels_overlap(label, state.bank.labels)
        similar = jnp.concatenate([similar, shared], axis=1)
        valid = jnp.broadcast_to(state.bank.valid, shared.shape)
        where = jnp.concatenate([where, valid], axis=1)
    return Labelled(
        u=codes,
        others=others,
        label=label,
        similar=similar,
        where=where,
        weight=jnp.ones(len(label)),
        centres=params.get("classifier", state.centres),
        ties=state.ties,
        step=state.step,
        axis_name=axis_name,
    )


def _cross_view(
    one: Float[Array, "U K"],
    other: Float[Array, "U K"],
    *,
    config: Config,
    axis_name: str | None,
) -> Metrics:
    """Weighted shares of what two views of unlabelled images are asked."""
    weight, mean = config.loss.cross_view, partial(masked_mean, axis_name=axis_name)
    agreement = 0.5 * (
        mean(losses.code_agreement_loss(one, other))
        + mean(losses.code_agreement_loss(other, one))
    )
    terms = {"cross_view": weight * agreement}
    if config.loss.coding_rate:
        gaps = [
            jnp.mean(losses.coding_rate_gap(all_rows(codes, axis_name)))
            for codes in (one, other)
        ]
        share = weight * config.loss.coding_rate / all_sum(1, axis_name)
        terms["coding_rate"] = share * 0.5 * (gaps[0] + gaps[1])
    return terms


def _regularisers(
    codes: Float[Array, "L K"], *, config: Config, axis_name: str | None
) -> Metrics:
    """Weighted shares of the regularisers that look at all codes of the batch."""
    weights, terms = config.loss, {}
    if weights.balance or weights.independence:
        codes, devices = all_rows(codes, axis_name), all_sum(1, axis_name)
        if weights.balance:
            value = jnp.mean(losses.bit_balance(codes))
            terms["balance"] = weights.balance * value / devices
        if weights.independence:
            value = jnp.mean(losses.bit_independence(codes))
            terms["independence"] = weights.independence * value / devices
    return terms


def _remember(
    codes: Float[Array, "L K"],
    state: TrainState,
    label: Float[Array, "L C"],
    config: Config,
    axis_name: str | None,
) -> tuple[Float[Array, "C K"], Params]:
    """The next class centres and bank, equal on all devices."""
    centres, bank = state.centres, state.bank
    codes = all_rows(stop_gradient(codes), axis_name)
    label = all_rows(label, axis_name)
    if not HASH_LOSSES[config.loss.name].fixed_centres:
        centres = losses.follow_class_means(centres, codes, label)
    if bank:
        bank = losses.update_bank(bank, codes, label)
    return centres, bank
