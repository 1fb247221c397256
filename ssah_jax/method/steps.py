"""One training step and one encoding step: pure, neither compiled nor mapped."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, UInt8

from ssah_jax import losses, pacing, similarity
from ssah_jax.config import Config
from ssah_jax.losses.by_name import HASH_LOSSES
from ssah_jax.losses.reduce import all_sum
from ssah_jax.method.adversary import anet_objective, hardness_by_kind
from ssah_jax.method.codes import build_hnet, describe, encode
from ssah_jax.method.draws import draw_hardest, pace_of_first
from ssah_jax.method.objectives import Carried, hnet_objective
from ssah_jax.method.optim import anet_optimiser, hnet_optimiser
from ssah_jax.method.views import build_anet, clean_view, generate, make_views
from ssah_jax.networks import backbone_scope
from ssah_jax.types import (
    AlignmentState,
    Batch,
    BatchRows,
    HashOutputs,
    ImagePool,
    Metrics,
    PaceState,
    Params,
    TrainState,
)


def init_state(
    key: Key[Array, ""],
    *,
    config: Config,
    image_shape: tuple[int, int, int],
    num_classes: int,
    backbone: Params | None = None,
) -> TrainState:
    """The state before the first step.

    Args:
        key: root of all randomness of the run; kept in the state.
        config: of the run.
        image_shape: (H, W, ch) of the images as the networks see them.
        num_classes: C; of 0 the state is that of one class, which nothing learns.
        backbone: "params" and "batch_stats" that the backbone begins with, all of
            them; None for random ones.
    """
    hnet_key, anet_key, centre_key, root = jax.random.split(key, 4)
    # Checkpoints hold no empty arrays.
    num_classes = max(num_classes, 1)
    image = jnp.zeros((1, *image_shape))
    variables = hnet_variables(hnet_key, config=config, image_shape=image_shape)
    anet = build_anet(config).init(anet_key, image)["params"]
    params, stats = variables["params"], variables.get("batch_stats", {})
    if backbone is not None:
        scope = backbone_scope(config.hnet.backbone)
        # Copies: both domains may begin with the same array.
        given = jax.tree.map(jnp.array, backbone)
        params = params | {scope: given["params"]}
        stats = stats | ({scope: given["batch_stats"]} if scope in stats else {})
    # A number that no split of the same key reaches.
    loss_keys = jax.random.split(jax.random.fold_in(centre_key, 2**32 - 1))
    if HASH_LOSSES[config.loss.name].classifier:
        shape = (num_classes, config.bits)
        params = params | {
            "classifier": jax.random.normal(loss_keys[0], shape) / config.bits**0.5
        }
    centres = losses.class_centres(
        centre_key, num_classes=num_classes, bits=config.bits
    )
    if not HASH_LOSSES[config.loss.name].fixed_centres:
        # Running means of unit vectors: longer ones would outlast hundreds of steps.
        centres = similarity.unit_rows(centres)
    share = 0.5 if config.data.multi_label else 1.0 / num_classes
    uniform = jnp.full((num_classes,), share, jnp.float32)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=root,
        hnet=params,
        anet=anet,
        batch_stats=stats,
        # Copies: buffers that are donated may stand in a state only once.
        teacher=jax.tree.map(jnp.copy, params),
        teacher_stats=jax.tree.map(jnp.copy, stats),
        hnet_opt=hnet_optimiser(config).init(params),
        anet_opt=anet_optimiser(config).init(anet),
        centres=centres,
        ties=losses.init_ties(loss_keys[1], bits=config.bits),
        bank=losses.init_bank(
            size=config.loss.bank, bits=config.bits, num_classes=num_classes
        )
        if config.loss.bank
        else {},
        pace=pacing.init_pace(
            config.pace.start, config.pace.target, reach=config.pace.reach
        ),
        alignment=AlignmentState(prior=uniform, predicted=jnp.copy(uniform)),
    )


def hnet_variables(
    key: Key[Array, ""], *, config: Config, image_shape: tuple[int, int, int]
) -> Params:
    """H-Net's random variables, with the statistics of both domains.

    Args:
        key: of the draws.
        config: of the run.
        image_shape: (H, W, ch) of the images as the networks see them.
    """
    image = jnp.zeros((1, *image_shape))
    return build_hnet(config).init(key, image, method="both_domains")


class Gradients(NamedTuple):
    """Global gradients of one step, and what its forward passes brought along.

    Attributes:
        hnet: of H-Net's objective, summed over devices.
        anet: of A-Net's objective; None unless A-Net is trained.
        carried: what the next state takes over from H-Net's passes.
        metrics: of both objectives, reduced over devices.
    """

    hnet: Params
    anet: Params
    carried: Carried
    metrics: Metrics


def gradients(
    state: TrainState, batch: Batch, *, config: Config, axis_name: str | None = None
) -> Gradients:
    """Both objectives' gradients at the state's parameters; see `train_step`.

    XLA merges the forward passes that the two objectives share.
    """
    step_key = jax.random.fold_in(state.key, state.step)
    views = make_views(step_key, batch, config=config, axis_name=axis_name)
    generated, drawn, images = None, None, views.stored
    if config.anet.kind in ("anet", "random"):
        if config.anet.draws > 1:
            drawn = draw_hardest(state, views, config=config)
            generated = drawn.kept
        else:
            generated = generate(state.anet, views, state.pace, config=config)
        images = generated.images
    hnet_grad = jax.value_and_grad(hnet_objective, has_aux=True)
    (_, aux), hnet = hnet_grad(
        state.hnet, state, views, images, config=config, axis_name=axis_name
    )
    anet, metrics = None, aux.metrics
    if drawn is not None:
        # In place of what H-Net recognises of those that were kept.
        metrics |= pace_of_first(
            drawn, state, views, config=config, axis_name=axis_name
        )
    elif generated is not None:
        metrics |= hardness_by_kind(
            generated, aux.hardness, state.pace.threshold, axis_name=axis_name
        )
    if config.anet.kind == "anet":
        anet_grad = jax.value_and_grad(anet_objective, has_aux=True)
        # Of several draws A-Net learns from all: those that were kept are not as often
        # drawn as A-Net draws them.
        tried, hardness = generated, aux.hardness
        if drawn is not None:
            tried, hardness = drawn.tried, drawn.hardness
        (_, more), anet = anet_grad(
            state.anet,
            state,
            views,
            tried,
            hardness,
            config=config,
            axis_name=axis_name,
        )
        metrics = metrics | more
    # Each device holds its share of every loss, so the sum is the whole.
    hnet, anet, metrics = all_sum((hnet, anet, metrics), axis_name)
    return Gradients(hnet, anet, aux.carried, metrics)


def train_step(
    state: TrainState, batch: Batch, *, config: Config, axis_name: str | None = None
) -> tuple[TrainState, Metrics]:
    """H-Net and A-Net descend; the reach and the threshold move.

    Both networks are updated from their parameters before the step.

    Args:
        state: equal on all devices of `axis_name`.
        batch: this device's share of the global batch.
        config: of the run; static.
        axis_name: mapped axis over which gradients, batch moments, metrics and
            pairs are global; None on a single device or under plain `jit`.

    Returns:
        The next state and metrics; both are equal on all devices.
    """
    found = gradients(state, batch, config=config, axis_name=axis_name)
    metrics = found.metrics | {"gradient/hnet": optax.tree.norm(found.hnet)}
    updates, hnet_opt = hnet_optimiser(config).update(
        found.hnet, state.hnet_opt, state.hnet
    )
    hnet = optax.apply_updates(state.hnet, updates)
    anet, anet_opt = state.anet, state.anet_opt
    if found.anet is not None:
        metrics["gradient/anet"] = optax.tree.norm(found.anet)
        updates, anet_opt = anet_optimiser(config).update(found.anet, anet_opt, anet)
        anet = optax.apply_updates(anet, updates)
    pace = state.pace
    if config.anet.kind != "none":
        pace = _update_pace(state.pace, metrics, config=config)
        # As it was in this step, beside the hardness that it was set against.
        metrics["pace/threshold"] = state.pace.threshold
        metrics["pace/reach_window"] = state.pace.window
        metrics["pace/reach_angle"] = state.pace.angle
    decay = jnp.minimum(
        config.optim.ema_decay, (1.0 + state.step) / (10.0 + state.step)
    )

    def follow(new: Params, running: Params) -> Params:
        moved = optax.incremental_update(new, running, 1.0 - decay)
        if not config.hnet.frozen_stages:
            return moved

        def keep(new: Array, running: Array, moved: Array) -> Array:
            # The average of equal numbers is another one after rounding.
            return jnp.where(new == running, running, moved)

        return jax.tree.map(keep, new, running, moved)

    return state.replace(
        step=state.step + 1,
        hnet=hnet,
        anet=anet,
        teacher=follow(hnet, state.teacher),
        teacher_stats=follow(found.carried.batch_stats, state.teacher_stats),
        hnet_opt=hnet_opt,
        anet_opt=anet_opt,
        pace=pace,
        **found.carried._asdict(),
    ), metrics


def gather_batch(pool: ImagePool, rows: BatchRows) -> Batch:
    """The batch of images and labels that lies on the device in these rows."""
    return Batch(
        image=pool.images[rows.labelled],
        label=pool.labels[rows.labelled],
        unlabelled=pool.images[rows.unlabelled],
        spread=None if pool.spread is None else pool.spread[rows.unlabelled],
    )


def encode_step(
    params: Params,
    stats: Params,
    image: UInt8[Array, "B H W ch"] | Float[Array, "B H W ch"],
    *,
    config: Config,
) -> Float[Array, "B K"]:
    """Real-valued codes `[B, K]` of images, by running statistics.

    Args:
        params: H-Net's parameters, of the teacher as a rule.
        stats: their running statistics.
        image: uint8 `[B, H, W, ch]`, or features, float `[B, 1, 1, D]`.
        config: of the run; static.
    """
    return encode(params, stats, clean_view(image, config=config), config=config)


def describe_step(
    params: Params,
    stats: Params,
    image: UInt8[Array, "B H W ch"] | Float[Array, "B H W ch"],
    *,
    config: Config,
) -> HashOutputs:
    """As `encode_step`, with the backbone's features `[B, D]` beside the codes."""
    return describe(params, stats, clean_view(image, config=config), config=config)


def _update_pace(pace: PaceState, metrics: Metrics, *, config: Config) -> PaceState:
    """The reach follows the threshold as it was, and the threshold H-Net."""
    if config.anet.kind != "stored":
        pace = pacing.follow_hardness(
            pace,
            metrics["pace/hardness_occluded"],
            metrics["pace/hardness_rotated"],
            rate=config.pace.dual_rate,
        )
    return pacing.follow_recognition(
        pace,
        metrics["pace/recognised"],
        metrics["pace/evidence"],
        target=config.pace.target,
        rate=config.pace.rate,
    )
