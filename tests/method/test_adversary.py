"""A-Net alone: the entropy of its draws, and where it ends against a frozen H-Net."""

import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from step_cases import make_batch, make_state, small_config

from ssah_jax import pacing
from ssah_jax.method.adversary import (
    _group_means,
    anet_objective,
    deformation_entropy,
)
from ssah_jax.method.codes import CleanCodes, batch_hardness, hash_images
from ssah_jax.method.consistent import Opinion, recognition
from ssah_jax.method.optim import anet_optimiser
from ssah_jax.method.views import generate, make_views
from ssah_jax.types import DeformationLogits


def chances(logits):
    shifted = np.exp(np.asarray(logits, np.float64) - np.max(logits))
    return shifted / shifted.sum()


def test_the_parts_of_the_entropy_sum_to_that_of_the_draw():
    rng = np.random.default_rng(0)
    shapes = {"scale": (2, 3), "position": (2, 3, 2, 2), "angle": (2, 2, 4)}
    logits = {
        k: jnp.asarray(rng.normal(size=v), jnp.float32) for k, v in shapes.items()
    }
    found = deformation_entropy(DeformationLogits(**logits))
    for image in range(2):
        scale = chances(logits["scale"][image])
        cells = [chances(x.ravel()) for x in logits["position"][image]]
        angles = [chances(x) for x in logits["angle"][image]]
        # Every draw there is, with its probability.
        wanted = 0.0
        for s, cell, first, second in itertools.product(
            range(3), range(4), range(4), range(4)
        ):
            p = scale[s] * cells[s][cell] * angles[0][first] * angles[1][second]
            wanted -= p * np.log(p)
        total = sum(float(values[image]) for values in found.values())
        np.testing.assert_allclose(total, wanted, rtol=1e-5)


def frozen(config):
    """State, views, and jitted steps of A-Net alone: their mean hardness, too."""
    state = make_state(config)
    batch = jax.device_put(make_batch(config))
    views = make_views(jax.random.key(3), batch, config=config)
    hash_ = partial(
        hash_images, state.hnet, state.batch_stats, config=config, axis_name=None
    )
    clean = CleanCodes(
        hash_(views.labelled, domain="clean")[0],
        hash_(views.unlabelled, domain="clean")[0],
    )
    optimiser = anet_optimiser(config)

    @jax.jit
    def step(state, key):
        seen = dataclasses.replace(views, keys=jax.random.split(key, len(views.keys)))
        generated = generate(state.anet, seen, config=config)
        codes, _ = hash_(generated.images, domain="generated")
        hardness = batch_hardness(codes, clean, views.label, axis_name=None)
        grads, metrics = jax.grad(anet_objective, has_aux=True)(
            state.anet, state, seen, generated, hardness, config=config
        )
        updates, opt = optimiser.update(grads, state.anet_opt, state.anet)
        mean = jnp.mean(hardness)
        pace = pacing.dual_ascent(state.pace, mean, rate=config.pace.dual_rate)
        anet = optax.apply_updates(state.anet, updates)
        return state.replace(anet=anet, anet_opt=opt, pace=pace), mean, metrics

    return state, step


@pytest.mark.slow
def test_mean_hardness_reaches_the_threshold_from_both_sides():
    config = small_config(
        anet={"blocks": 1, "width": 8}, optim={"anet_learning_rate": 0.01}
    )
    start, step = frozen(config)

    def run(state, steps):
        found = []
        for index in range(steps):
            state, mean, metrics = step(state, jax.random.key(index))
            found.append(float(mean))
        return state, np.mean(found[-100:]), metrics

    def at(threshold):
        pace = pacing.init_pace(threshold, 0.9)
        return start.replace(pace=pace)

    # With the multiplier at rest it stays, or becomes again, uniform.
    still = dataclasses.replace(
        config, pace=dataclasses.replace(config.pace, dual_rate=0.0)
    )
    state, step_still = frozen(still)
    for index in range(200):
        state, _, metrics = step_still(state, jax.random.key(index))
    for name in ("scale", "position", "angle"):
        assert float(metrics[f"entropy/{name}"]) > 0.999
    uniform = float(
        np.mean([step_still(state, jax.random.key(i))[1] for i in range(50)])
    )
    for share in (0.7, 1.15):
        state, reached, metrics = run(at(share * uniform), 600)
        assert abs(reached / (share * uniform) - 1) < 0.05
        assert (float(state.pace.multiplier) > 0) == (share > 1)
        assert float(metrics["entropy/position"]) > 0.5


@pytest.mark.parametrize("degrees", [0.0, 90.0])
def test_hard_samples_are_occluded_or_turned(degrees):
    config = small_config(anet={"max_degrees": degrees})
    state = make_state(config)
    views = make_views(
        jax.random.key(3), jax.device_put(make_batch(config)), config=config
    )
    drawn = generate(state.anet, views, config=config).deformations
    occluded = np.asarray(drawn.scale.sum(axis=-1)) > 0
    turned = np.any(np.asarray(drawn.angle) != 0, axis=-1)
    assert np.array_equal(occluded, ~turned)
    # Without rotation every sample is occluded, none is left as it was.
    assert occluded.all() if degrees == 0 else 0 < occluded.mean() < 1


def test_the_baseline_of_a_sample_is_the_mean_of_its_like():
    rng = np.random.default_rng(0)
    hardness = rng.normal(size=20).astype(np.float32)
    turned = rng.random(20) < 0.5
    found = _group_means(jnp.asarray(hardness), jnp.asarray(turned), 8, None)
    for row in range(20):
        like = [
            hardness[other]
            for other in range(20)
            if turned[other] == turned[row] and (other < 8) == (row < 8)
        ]
        np.testing.assert_allclose(found[row], np.mean(like), rtol=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
def test_recognition_equals_the_loop(multi_label):
    config = small_config(data={"multi_label": multi_label}, loss={"gate": 0.6})
    state = make_state(config)
    rng = np.random.default_rng(1)
    hard = rng.normal(size=(24, 16)).astype(np.float32)
    aligned = rng.dirichlet(np.ones(5) / 3, 24).astype(np.float32)
    if multi_label:
        aligned = rng.uniform(size=(24, 5)).astype(np.float32)
    opinion = Opinion(jnp.zeros((24, 16)), jnp.asarray(aligned), jnp.asarray(aligned))
    found = recognition(
        jnp.asarray(hard), opinion, state, config=config, axis_name=None
    )
    centres = np.asarray(state.centres)
    kept, sure, images = 0, 0, 0
    for u, row in zip(hard, aligned, strict=True):
        cosine = centres @ u / np.linalg.norm(u) / np.linalg.norm(centres, axis=1)
        images += any(p >= 0.6 for p in row)
        for c, p in enumerate(row):
            if p >= 0.6:
                sure += 1
                offset = config.loss.label_offset
                kept += cosine[c] > offset if multi_label else c == np.argmax(cosine)
    assert 0 < kept < sure
    np.testing.assert_allclose(found["pace/recognised"], kept / sure, rtol=1e-6)
    np.testing.assert_allclose(found["pace/evidence"], images / 24, rtol=1e-6)


def test_where_the_teacher_is_sure_of_nothing_there_is_no_evidence():
    config = small_config()
    state = make_state(config)
    flat = jnp.full((24, 5), 0.2)
    found = recognition(
        jnp.ones((24, 16)),
        Opinion(jnp.zeros((24, 16)), flat, flat),
        state,
        config=config,
        axis_name=None,
    )
    assert found["pace/recognised"] == found["pace/evidence"] == 0.0
