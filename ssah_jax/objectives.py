"""What H-Net and A-Net each minimise on one batch: the method, without updates.

Both objectives return this device's share of the global value (see
`ssah_jax.losses.reduce`), and neither has any gradient on the other's parameters.
"""

from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float

from ssah_jax import losses, pacing, similarity, transforms
from ssah_jax.config import Config
from ssah_jax.losses.reduce import all_rows, all_sum, first_row, masked_mean
from ssah_jax.networks import Domain, HNet
from ssah_jax.types import AlignmentState, HashOutputs, Metrics, Params, TrainState
from ssah_jax.views import Generated, Views, generate, max_angle, propose


class CleanCodes(NamedTuple):
    """Codes of a batch before deformation, which hardness is measured against.

    Attributes:
        labelled: `[L, K]`.
        unlabelled: `[U, K]`; carries no gradient.
    """

    labelled: Float[Array, "L K"]
    unlabelled: Float[Array, "U K"]


class Outcome(NamedTuple):
    """What H-Net made of a batch's hard samples; A-Net learns from it.

    Attributes:
        clean: codes of the clean images.
        hardness: of the generated samples, `[L + U]`.
    """

    clean: CleanCodes
    hardness: Float[Array, "B"]


class HNetAux(NamedTuple):
    """What H-Net's objective brings along.

    Attributes:
        outcome: of the hard samples; None without any.
        batch_stats: the new running statistics.
        alignment: the new class marginals.
        metrics: this device's shares.
    """

    outcome: Outcome | None
    batch_stats: Params
    alignment: AlignmentState
    metrics: Metrics


def build_hnet(config: Config, *, axis_name: str | None = None) -> HNet:
    """H-Net as configured; batch moments are averaged over `axis_name`."""
    return HNet(
        bits=config.bits,
        mean=config.data.mean,
        std=config.data.std,
        backbone=config.hnet.backbone,
        widths=config.hnet.widths,
        norm=config.hnet.norm,
        share_stats=config.hnet.share_stats,
        axis_name=axis_name,
    )


def consistent_on(config: Config) -> bool:
    """Whether a consistent loss has any weight."""
    return config.loss.consistent > 0 or config.loss.consistent_pair > 0


def uses_unlabelled(config: Config) -> bool:
    """Whether any part of the step looks at unlabelled images."""
    return config.anet.kind != "none" or consistent_on(config)


def hash_images(
    params: Params,
    stats: Params,
    images: Float[Array, "B H W ch"],
    *,
    domain: Domain,
    config: Config,
    axis_name: str | None,
) -> tuple[Float[Array, "B K"], Params]:
    """Hash images in training mode: codes, and the new running statistics."""
    outputs, updates = build_hnet(config, axis_name=axis_name).apply(
        {"params": params, "batch_stats": stats},
        images,
        domain=domain,
        train=True,
        mutable=["batch_stats"],
    )
    return outputs.code, updates.get("batch_stats", stats)


def encode(
    params: Params, stats: Params, images: Float[Array, "B H W ch"], *, config: Config
) -> Float[Array, "B K"]:
    """Real-valued codes of images by running statistics, not those of the batch."""
    variables = {"params": params, "batch_stats": stats}
    outputs = cast(HashOutputs, build_hnet(config).apply(variables, images))
    return outputs.code


def batch_hardness(
    hard: Float[Array, "B K"],
    clean: CleanCodes,
    label: Float[Array, "L C"],
    *,
    axis_name: str | None,
) -> Float[Array, "B"]:
    """Hardness of every generated sample, labelled first, `[L + U]`.

    Args:
        hard: codes of the generated samples, `[L + U, K]`.
        clean: codes of what they were generated from; constants.
        label: multi-hot `[L, C]`.
        axis_name: mapped axis; pairs are global.
    """
    others, similar, where = _pairs(clean.labelled, label, axis_name)
    number = len(label)
    labelled = pacing.pair_hardness(
        hard[:number], clean.labelled, others, similar, where
    )
    unlabelled = pacing.bit_flips(hard[number:], clean.unlabelled)
    return jnp.concatenate([labelled, unlabelled])


def hnet_objective(
    params: Params,
    state: TrainState,
    views: Views,
    generated: Float[Array, "B H W ch"] | None,
    *,
    config: Config,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], HNetAux]:
    """H-Net's loss: similarity, quantisation, paced hard samples, consistency.

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
    weights = config.loss
    mean = partial(masked_mean, axis_name=axis_name)
    hash_ = partial(hash_images, config=config, axis_name=axis_name)
    codes, stats = hash_(params, state.batch_stats, views.labelled, domain="clean")
    others, similar, where = _pairs(codes, views.label, axis_name)

    def similarity_terms(u: Array, others: Array, weight: Array) -> tuple[Array, Array]:
        pair = losses.logistic_pair_loss(u, others, similar, alpha=weights.pair_alpha)
        point = losses.centre_margin_loss(
            u,
            views.label,
            state.centres,
            scale=weights.point_scale,
            margin=weights.point_margin,
        )
        pair_mean = losses.balanced_pair_mean(
            weight[:, None] * pair, similar, where, axis_name=axis_name
        )
        return pair_mean, mean(weight * point)

    number = len(views.label)
    pair, point = similarity_terms(codes, others, jnp.ones(number))
    quantisation = mean(losses.cosine_quantisation(codes))
    total = (
        weights.pair * pair
        + weights.point * point
        + weights.quantisation * quantisation
    )
    metrics: Metrics = {
        "loss/pair": pair,
        "loss/point": point,
        "loss/quantisation": quantisation,
    }

    outcome, student, paced = None, None, None
    if generated is not None:
        unlabelled, stats = hash_(
            stop_gradient(params), stats, views.unlabelled, domain="clean"
        )
        # A-Net learns from its own objective.
        images = stop_gradient(generated)
        hard_codes, stats = hash_(params, stats, images, domain="generated")
        clean = CleanCodes(codes, unlabelled)
        hardness = batch_hardness(hard_codes, clean, views.label, axis_name=axis_name)
        outcome = Outcome(clean, hardness)
        limit = (1.0 + config.pace.slack) * state.pace.threshold
        weight = pacing.self_paced_weight(hardness, limit, kind=config.pace.weight)
        # Hard samples move to where clean codes are, never the reverse.
        pair, point = similarity_terms(
            hard_codes[:number], stop_gradient(others), weight[:number]
        )
        hard = weights.pair * pair + weights.point * point
        total += weights.hard * hard
        student, paced = hard_codes[number:], weight[number:]
        metrics |= {
            "loss/hard": hard,
            "pace/hardness": mean(hardness),
            "pace/hardness_labelled": mean(hardness[:number]),
            "pace/hardness_unlabelled": mean(hardness[number:]),
            "pace/accepted": mean((hardness <= limit).astype(jnp.float32)),
        }
    elif uses_unlabelled(config):
        student, stats = hash_(params, stats, views.unlabelled, domain="clean")
        paced = jnp.ones(len(student))

    alignment = state.alignment
    if student is not None and paced is not None and consistent_on(config):
        loss, alignment, more = _consistent_loss(
            student,
            paced,
            all_rows(codes, axis_name),
            state,
            views,
            config=config,
            axis_name=axis_name,
        )
        total += loss
        metrics |= more
    metrics["loss/total"] = total
    return total, HNetAux(outcome, stats, alignment, metrics)


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
    """A-Net's loss: hardness up to the threshold, from choices that stay open.

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
    mean = partial(masked_mean, axis_name=axis_name)
    pursue = partial(
        losses.threshold_pursuit,
        threshold=state.pace.threshold,
        share=config.pace.share,
    )
    if config.anet.trainer == "straight_through":
        again = generate(anet_params, views, config=config)
        logits = again.logits
        hard, _ = hash_images(
            hnet_params,
            state.batch_stats,
            again.images,
            domain="generated",
            config=config,
            axis_name=axis_name,
        )
        pursuit = mean(
            pursue(
                batch_hardness(hard, outcome.clean, views.label, axis_name=axis_name)
            )
        )
        total = pursuit
    else:
        logits = propose(anet_params, views, config=config)
        each = pursue(outcome.hardness)
        pursuit = mean(each)
        log_probability = jax.vmap(
            partial(transforms.deformation_log_probability, max_angle=max_angle(config))
        )(logits, generated.deformations)
        baseline = all_sum(pursuit, axis_name)
        total = mean(losses.score_function_loss(log_probability, each, baseline))
    devices = all_sum(1, axis_name)
    floors = jnp.zeros(())
    metrics: Metrics = {}
    batch, num_scales = logits.scale.shape
    heads = {
        "scale": logits.scale[:, None],
        "position": logits.position.reshape(batch, num_scales, -1),
        "angle": logits.angle,
    }
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
    total += config.anet.entropy_weight * floors
    metrics |= {"loss/pursuit": pursuit, "loss/floors": floors}
    return total, metrics


def _pairs(
    codes: Float[Array, "L K"], label: Float[Array, "L C"], axis_name: str | None
) -> tuple[Float[Array, "M K"], Bool[Array, "L M"], Bool[Array, "L M"]]:
    """Codes of all devices, which local rows they are similar to, and which count."""
    others = all_rows(codes, axis_name)
    similar = similarity.labels_overlap(label, all_rows(label, axis_name))
    rows = first_row(len(codes), axis_name)
    return others, similar, similarity.not_self(rows, len(codes), len(others))


def _ramp_up(step: Array, length: float) -> Float[Array, ""]:
    """`exp(-5 (1 - t)^2)`, from "Temporal Ensembling" (arXiv 1610.02242)."""
    share = jnp.clip(step / max(length, 1.0), 0.0, 1.0)
    return jnp.exp(-5.0 * (1.0 - share) ** 2)


def _consistent_loss(
    student: Float[Array, "U K"],
    paced: Float[Array, "U"],
    anchors: Float[Array, "M K"],
    state: TrainState,
    views: Views,
    *,
    config: Config,
    axis_name: str | None,
) -> tuple[Float[Array, ""], AlignmentState, Metrics]:
    """The weighted, ramped consistent losses on unlabelled images.

    Args:
        student: codes of hard samples of unlabelled images, `[U, K]`.
        paced: self-paced weights of these, `[U]` in [0, 1].
        anchors: codes of the labelled images of all devices, `[M, K]`.
        state: holds the teacher; constants.
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
    teacher = stop_gradient(
        encode(state.teacher, state.teacher_stats, views.unlabelled, config=config)
    )
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
    total = jnp.zeros(())
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

    def class_share(values: Array) -> Array:
        count = all_sum(len(values), axis_name)
        return all_sum(jnp.sum(values, axis=0), axis_name) / count

    alignment = AlignmentState(
        prior=_follow(state.alignment.prior, class_share(views.label)),
        predicted=_follow(state.alignment.predicted, class_share(posterior)),
    )
    ramp = _ramp_up(state.step, weights.ramp * config.steps)
    return ramp * total, alignment, metrics


def _follow(running: Array, new: Array, decay: float = 0.99) -> Array:
    return decay * running + (1.0 - decay) * new
