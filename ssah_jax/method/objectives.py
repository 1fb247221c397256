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
from ssah_jax.losses.by_name import HASH_LOSSES, QUANTISATION, Labelled
from ssah_jax.losses.reduce import all_rows, all_sum, first_row, masked_mean
from ssah_jax.method.consistent import consistent_loss
from ssah_jax.method.views import Generated, Views, generate, max_angle, propose
from ssah_jax.networks import Domain, HNet
from ssah_jax.networks.backbones import SPECS
from ssah_jax.networks.weight_tables import CONVERTIBLE
from ssah_jax.types import AlignmentState, HashOutputs, Metrics, Params, TrainState


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
        outcome: of the hard samples; None without any.
        carried: what the next state takes over.
        metrics: this device's shares.
    """

    outcome: Outcome | None
    carried: Carried
    metrics: Metrics


def build_hnet(config: Config, *, axis_name: str | None = None) -> HNet:
    """H-Net as configured; batch moments are averaged over `axis_name`.

    Where the backbone begins with others' weights, its images are normalised as these
    expect, and not by the moments of the data set.
    """
    spec = SPECS[config.hnet.backbone]
    others = bool(config.hnet.weights) and config.hnet.backbone in CONVERTIBLE
    stored = config.hnet.backbone == "features"
    return HNet(
        bits=config.bits,
        mean=spec.mean if others or stored else config.data.mean,
        std=spec.std if others or stored else config.data.std,
        backbone=config.hnet.backbone,
        widths=config.hnet.widths,
        norm=config.hnet.norm,
        share_stats=config.hnet.share_stats,
        axis_name=axis_name,
        dtype=config.hnet.dtype,
        frozen=config.hnet.frozen_stages,
        image_size=config.hnet.image_size,
        channels=3 if others else 0,
    )


def consistent_on(config: Config) -> bool:
    """Whether a consistent loss has any weight."""
    loss = config.loss
    return (
        loss.consistent > 0
        or loss.consistent_pair > 0
        or loss.consistent_teacher > 0
        or loss.consistent_graph > 0
        or loss.consistent_spread > 0
    )


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
    method = partial(HASH_LOSSES[weights.name].terms, **weights.hash_options)
    number = len(views.label)
    labelled = _compare(codes, params, state, views.label, axis_name)
    terms = method(labelled) | _regularisers(codes, config=config, axis_name=axis_name)
    total = sum(terms.values(), jnp.zeros(()))
    metrics: Metrics = {f"loss/{name}": value for name, value in terms.items()}

    outcome, unlabelled = None, None
    if generated is not None:
        # Without gradient it would cost half as much, but spread labels need it.
        learnt = params if weights.consistent_spread else stop_gradient(params)
        plain, stats = hash_(learnt, stats, views.unlabelled, domain="clean")
        # A-Net learns from its own objective.
        images = stop_gradient(generated)
        hard_codes, stats = hash_(params, stats, images, domain="generated")
        clean = CleanCodes(codes, stop_gradient(plain))
        hardness = batch_hardness(hard_codes, clean, views.label, axis_name=axis_name)
        outcome = Outcome(clean, hardness)
        limit = acceptance_limit(state, config)
        weight = pacing.self_paced_weight(hardness, limit, kind=config.pace.weight)
        # Hard samples move to where clean codes are, never the reverse.
        hard_terms = method(
            labelled._replace(
                u=hard_codes[:number],
                others=stop_gradient(labelled.others),
                weight=weight[:number],
            )
        )
        hard_terms.pop(QUANTISATION, None)
        hard = sum(hard_terms.values(), jnp.zeros(()))
        total += weights.hard * hard
        unlabelled = (hard_codes[number:], plain, weight[number:])
        metrics |= {
            "loss/hard": hard,
            "pace/hardness": mean(hardness),
            "pace/hardness_labelled": mean(hardness[:number]),
            "pace/hardness_unlabelled": mean(hardness[number:]),
            "pace/accepted": mean((hardness <= limit).astype(jnp.float32)),
            "pace/mastered": mean(
                (hardness <= state.pace.threshold).astype(jnp.float32)
            ),
        }
    elif uses_unlabelled(config):
        plain, stats = hash_(params, stats, views.unlabelled, domain="clean")
        unlabelled = (plain, plain, jnp.ones(len(plain)))

    alignment = state.alignment
    if unlabelled is not None and consistent_on(config):
        teach = partial(encode, state.teacher, state.teacher_stats, config=config)
        loss, alignment, more = consistent_loss(
            *unlabelled,
            all_rows(codes, axis_name),
            teach,
            state,
            views,
            config=config,
            axis_name=axis_name,
        )
        total += loss
        metrics |= more
    metrics["loss/total"] = total
    centres, bank = _remember(codes, state, views.label, config, axis_name)
    carried = Carried(stats, alignment, centres, bank)
    return total, HNetAux(outcome, carried, metrics)


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
    mean = partial(masked_mean, axis_name=axis_name)

    def pursue(hardness: Array) -> Array:
        reached = all_sum(mean(stop_gradient(hardness)), axis_name)
        return losses.threshold_pursuit(hardness, state.pace.threshold, reached)

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


def _compare(
    codes: Float[Array, "L K"],
    params: Params,
    state: TrainState,
    label: Float[Array, "L C"],
    axis_name: str | None,
) -> Labelled:
    """Labelled codes beside those of the batch of all devices and of the bank."""
    others, similar, where = _pairs(codes, label, axis_name)
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
