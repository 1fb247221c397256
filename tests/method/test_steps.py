"""The training step: one device, eight, and the jit twin; leaks; traces; descent."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from several_devices import first_devices
from step_cases import (
    compile_gradients,
    compile_state,
    gradients_of,
    make_batch,
    make_state,
    relative_error,
    slow,
    small_config,
    train_step,
)

from ssah_jax.config import Config
from ssah_jax.method import adversary, codes, objectives, steps
from ssah_jax.method.views import generate, make_views
from ssah_jax.run import parallel
from ssah_jax.types import TrainState

# Sums in another order, on another processor's vector units, were seen to differ by
# 1.2e-5; what a device that keeps its rows to itself changes is above 5e-2.
ROUNDING = 1e-4

VARIANTS = {
    "batch norm": small_config(),
    "group norm": small_config(hnet={"norm": "group"}),
    "group norm, random": small_config(hnet={"norm": "group"}, anet={"kind": "random"}),
    "spread labels": small_config(
        anet={"kind": "none"}, loss={"consistent_spread": 1.0}
    ),
    "several labels, shared statistics": small_config(
        data={"multi_label": True},
        hnet={"share_stats": True},
        loss={"consistent_spread": 1.0},
    ),
    "supervised": small_config(anet={"kind": "none"}, loss={"consistent": 0.0}),
    "three draws": small_config(anet={"draws": 3}),
}


# Each word of the configuration that devices share something for, in one of them.
@pytest.mark.parametrize(
    "name",
    [
        "supervised",
        slow("batch norm"),
        slow("group norm, random"),
        slow("spread labels"),
        slow("several labels, shared statistics"),
        slow("three draws"),
    ],
)
def test_eight_devices_equal_one(name):
    config = VARIANTS[name]
    state = make_state(config)
    batch = make_batch(config, multi_label=config.data.multi_label)
    found = gradients_of(config, state, batch, 8)
    one = gradients_of(config, state, batch, 1)
    # Every device must return the same, or `out_axes=None` would hide it.
    for leaf in jax.tree.leaves(found):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
    first = jax.tree.map(lambda leaf: leaf[0], found)
    assert first.metrics.keys() == one.metrics.keys()
    for part in ("hnet", "anet", "carried"):
        assert relative_error(getattr(first, part), getattr(one, part)) < ROUNDING, part
    for metric, value in one.metrics.items():
        # Hardness is a difference of means of order 1: 1e-7 is their rounding.
        np.testing.assert_allclose(
            first.metrics[metric], value, rtol=ROUNDING, atol=1e-7, err_msg=metric
        )


@pytest.mark.slow
def test_pmapped_step_equals_the_jit_twin_and_is_traced_once(monkeypatch):
    config = VARIANTS["batch norm"]
    state, batch = make_state(config), make_batch(config)
    # The whole batch on one device, without collectives.
    twin_state, twin_metrics = jax.jit(partial(steps.train_step, config=config))(
        state, batch
    )
    traces = []
    real = steps.train_step
    monkeypatch.setattr(
        steps, "train_step", lambda *a, **k: traces.append(1) or real(*a, **k)
    )
    step_fn = parallel.pmap_train_step(config)
    next_state, metrics = step_fn(parallel.replicate(state), parallel.shard(batch))
    assert relative_error(metrics, twin_metrics) < ROUNDING
    assert relative_error(next_state.batch_stats, twin_state.batch_stats) < ROUNDING
    assert relative_error(next_state.pace, twin_state.pace) < ROUNDING
    assert relative_error(next_state.alignment, twin_state.alignment) < ROUNDING
    # The first moments after one step are the clipped gradients.
    assert relative_error(_moments(next_state), _moments(twin_state)) < ROUNDING
    for seed in (1, 2, 3):
        batch = parallel.shard(make_batch(config, seed))
        next_state, _ = step_fn(next_state, batch)
    assert len(traces) == 1
    assert int(next_state.step) == 4


def _moments(state: TrainState):
    return [state.hnet_opt[1][0].mu, state.anet_opt[1][0].mu]


@pytest.mark.slow
def test_device_local_pairs_would_be_noticed(monkeypatch):
    config = VARIANTS["supervised"]
    state, batch = make_state(config), make_batch(config)
    one = gradients_of(config, state, batch, 1)
    monkeypatch.setattr(codes, "all_rows", lambda x, axis_name: x)
    monkeypatch.setattr(codes, "first_row", lambda rows, axis_name: jnp.asarray(0))
    found = gradients_of(config, state, batch, 8, compile_gradients)
    first = jax.tree.map(lambda leaf: leaf[0], found)
    assert relative_error(first.hnet, one.hnet) > 0.05


@cache
def _parts(config: Config):
    """State, views, hard samples and their hardness, of one step on one device."""
    state, batch = make_state(config), make_batch(config)
    make = jax.jit(partial(make_views, config=config))
    views = make(jax.random.key(3), batch)
    generated = jax.jit(partial(generate, config=config))(state.anet, views, state.pace)
    objective = jax.jit(partial(objectives.hnet_objective, config=config))
    _, aux = objective(state.hnet, state, views, generated.images)
    return state, views, generated, aux.hardness


def _zero(tree) -> bool:
    return all(not np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch norm", slow("group norm")])
def test_neither_objective_has_a_gradient_on_the_other_network(name):
    config = VARIANTS[name]
    state, views, generated, hardness = _parts(config)

    def pursue(rest, anet):
        hnet, images, hardness = rest
        return adversary.anet_objective(
            anet,
            state.replace(hnet=hnet),
            views,
            generated._replace(images=images),
            hardness,
            config=config,
        )[0]

    rest = (state.hnet, generated.images, hardness)
    leak, own = jax.jit(jax.grad(pursue, argnums=(0, 1)))(rest, state.anet)
    assert _zero(leak)
    assert not any(_zero(leaf) for leaf in jax.tree.leaves(own))

    def hasher(anet, hnet):
        images = generate(anet, views, state.pace, config=config).images
        return objectives.hnet_objective(hnet, state, views, images, config=config)[0]

    leak, own = jax.jit(jax.grad(hasher, argnums=(0, 1)))(state.anet, state.hnet)
    assert _zero(leak)
    assert not any(_zero(leaf) for leaf in jax.tree.leaves(own))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch norm", "group norm"])
def test_supervised_loss_has_no_gradient_on_unlabelled_images(name):
    config = dataclasses.replace(
        VARIANTS[name],
        loss=dataclasses.replace(VARIANTS[name].loss, consistent=0.0, hard=0.0),
    )
    state, views, generated, _ = _parts(config)

    def loss(labelled, unlabelled):
        seen = views.replace(labelled=labelled, unlabelled=unlabelled)
        return objectives.hnet_objective(
            state.hnet, state, seen, generated.images, config=config
        )[0]

    own, leak = jax.jit(jax.grad(loss, argnums=(0, 1)))(
        views.labelled, views.unlabelled
    )
    assert _zero(leak)
    assert not _zero(own)


@pytest.mark.slow
def test_spread_labels_teach_the_images_themselves_and_fade():
    weights = {"consistent": 0.0, "hard": 0.0}
    config = small_config(loss=weights | {"consistent_spread": 1.0, "fade": 0.6})
    state, views, generated, _ = _parts(config)

    @jax.jit
    def slopes(step):
        def loss(unlabelled, hard):
            seen = views.replace(unlabelled=unlabelled)
            return objectives.hnet_objective(
                state.hnet,
                state.replace(step=step),
                seen,
                hard,
                config=config,
            )[0]

        return jax.grad(loss, argnums=(0, 1))(views.unlabelled, generated.images)

    first, hard = slopes(0)
    assert not _zero(first) and _zero(hard)
    later, _ = slopes(6)
    np.testing.assert_allclose(later, 0.5 * first, rtol=1e-3, atol=1e-7)
    assert _zero(slopes(12)[0])


def test_teacher_and_centres_have_no_gradient():
    config = VARIANTS["batch norm"]
    state, views, generated, _ = _parts(config)

    def loss(teacher):
        seen = state.replace(teacher=teacher)
        return objectives.hnet_objective(
            state.hnet, seen, views, generated.images, config=config
        )[0]

    assert _zero(jax.jit(jax.grad(loss))(state.teacher))


def test_views_do_not_depend_on_the_number_of_devices():
    first_devices(8)
    config = VARIANTS["batch norm"]
    batch, key = make_batch(config), jax.random.key(5)
    one = jax.jit(partial(make_views, config=config))(key, batch)
    make = partial(make_views, config=config, axis_name="batch")
    found = jax.pmap(make, "batch", in_axes=(None, 0))(key, parallel.shard(batch))
    joined = np.asarray(found.labelled).reshape(one.labelled.shape)
    np.testing.assert_array_equal(joined, one.labelled)
    joined = np.asarray(found.unlabelled).reshape(one.unlabelled.shape)
    np.testing.assert_array_equal(joined, one.unlabelled)


@pytest.mark.slow
def test_no_key_is_used_twice():
    config = VARIANTS["batch norm"]
    with jax.debug_key_reuse(True):
        # Traced here and not before, or nobody would look.
        state = compile_state(config)()
        jax.jit(partial(steps.train_step, config=config))(state, make_batch(config))


@pytest.mark.slow
def test_steps_learn_one_batch_by_heart():
    config = small_config(
        steps=60,
        data={"max_shift": 0, "flip": False},
        hnet={"widths": (16, 32)},
        anet={"kind": "none"},
        loss={"consistent": 0.0},
        optim={"learning_rate": 5e-3, "warmup": 0.0},
    )
    step_fn = train_step(config)
    state, batch = make_state(config), make_batch(config)
    state, first = step_fn(state, batch)
    for _ in range(59):
        state, metrics = step_fn(state, batch)
    assert float(metrics["loss/point"]) < 0.2 * float(first["loss/point"])
    assert float(metrics["loss/pair"]) < 0.5 * float(first["loss/pair"])


@pytest.mark.slow
def test_pace_and_teacher_follow():
    config = small_config(pace={"start": 0.02, "rate": 0.1, "dual_rate": 0.1})
    step_fn = train_step(config)
    state, batch = make_state(config), make_batch(config)
    start = state
    for _ in range(3):
        state, metrics = step_fn(state, batch)
    # Above the threshold, and they reach less far.
    assert float(metrics["pace/hardness"]) > 0.02
    assert float(state.pace.angle) < float(start.pace.angle)
    assert float(metrics["pace/evidence"]) > 0
    assert float(state.pace.threshold) != float(start.pace.threshold)
    # min(decay, (1 + t) / (10 + t)): the fourth update keeps 4 / 13 of the old. Beside
    # how far it moves: H-Net is hardly elsewhere after so few steps.
    after, _ = step_fn(state, batch)
    for old, new, found in (
        (state.teacher, after.hnet, after.teacher),
        (state.teacher_stats, after.batch_stats, after.teacher_stats),
    ):
        moved = jax.tree.map(jnp.subtract, found, old)
        wanted = jax.tree.map(lambda t, h: 9 / 13 * (h - t), old, new)
        assert relative_error(moved, wanted) < 1e-3


@pytest.mark.slow
def test_frozen_without_a_gate_and_open_with_it():
    """No sample passes a gate of 1, so the consistent loss is exactly 0."""
    closed = small_config(loss={"gate": 1.0, "align": False})
    state, batch = make_state(closed), make_batch(closed)
    metrics = gradients_of(closed, state, batch, 1).metrics
    assert float(metrics["loss/consistent"]) == 0.0
    assert float(metrics["pace/evidence"]) == 0.0


def test_encode_step_is_deterministic_and_ignores_the_batch():
    config = VARIANTS["batch norm"]
    state, batch = make_state(config), make_batch(config)
    encode = jax.jit(partial(steps.encode_step, config=config))
    images = jnp.asarray(batch.image)
    whole = encode(state.teacher, state.teacher_stats, images)
    assert whole.shape == (16, 16)
    one = encode(state.teacher, state.teacher_stats, images[3:4])
    np.testing.assert_allclose(whole[3:4], one, rtol=1e-5, atol=1e-6)
