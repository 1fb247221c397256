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
    hardness_by_kind,
)
from ssah_jax.method.codes import CleanCodes, batch_hardness, hash_images
from ssah_jax.method.consistent import Opinion, recognition
from ssah_jax.method.optim import anet_optimiser
from ssah_jax.method.views import Generated, generate, make_views
from ssah_jax.types import Deformation, DeformationLogits


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


def views_of(config):
    """Views of a batch as one program: operation by operation it compiles hundreds."""
    batch = jax.device_put(make_batch(config))
    return jax.jit(partial(make_views, config=config))(jax.random.key(3), batch)


def frozen(config):
    """State and jitted steps of A-Net and reach alone, with hardness by kind."""
    state = make_state(config)
    views = views_of(config)
    hash_ = partial(
        hash_images, state.hnet, state.batch_stats, config=config, axis_name=None
    )
    clean_codes = jax.jit(lambda images: hash_(images, domain="clean")[0])
    clean = CleanCodes(clean_codes(views.labelled), clean_codes(views.unlabelled))
    optimiser = anet_optimiser(config)

    @jax.jit
    def step(state, key):
        seen = dataclasses.replace(views, keys=jax.random.split(key, len(views.keys)))
        generated = generate(state.anet, seen, state.pace, config=config)
        codes, _ = hash_(generated.images, domain="generated")
        hardness = batch_hardness(codes, clean, views.label, axis_name=None)
        grads, metrics = jax.grad(anet_objective, has_aux=True)(
            state.anet, state, seen, generated, hardness, config=config
        )
        updates, opt = optimiser.update(grads, state.anet_opt, state.anet)
        kinds = hardness_by_kind(generated, hardness, state.pace.threshold)
        pace = pacing.follow_hardness(
            state.pace, *kinds.values(), rate=config.pace.dual_rate
        )
        anet = optax.apply_updates(state.anet, updates)
        new = state.replace(anet=anet, anet_opt=opt, pace=pace)
        return new, jnp.stack(list(kinds.values())), metrics

    return state, step


def run(step, state, steps, first=0):
    found = []
    for index in range(first, first + steps):
        state, kinds, metrics = step(state, jax.random.key(index))
        found.append(kinds)
    return state, np.mean(found[-100:], axis=0), metrics


@pytest.mark.slow
def test_hardness_of_both_kinds_reaches_the_threshold_from_both_sides():
    config = small_config(
        anet={"blocks": 1, "width": 8}, pace={"reach": 0.5, "dual_rate": 0.03}
    )
    start, step = frozen(config)
    still = small_config(anet={"blocks": 1}, pace={"reach": 0.5, "dual_rate": 0.0})
    state, step_still = frozen(still)
    _, halfway, _ = run(step_still, state, 100)
    for share in (0.7, 1.15):
        threshold = share * float(halfway.min())
        pace = pacing.init_pace(threshold, 0.9, reach=0.5)
        state, reached, _ = run(step, start.replace(pace=pace), 400)
        np.testing.assert_allclose(reached, threshold, rtol=0.06)
        assert share > 1 or max(state.pace.window, state.pace.angle) < 0.5


@pytest.mark.slow
def test_anet_prefers_what_is_hard_within_reach_and_the_more_the_lower_the_threshold():
    config = small_config(
        anet={"blocks": 1, "width": 8},
        optim={"anet_learning_rate": 0.01},
        pace={"reach": 1.0, "dual_rate": 0.0},
    )
    start, step = frozen(config)

    def learnt(threshold):
        pace = pacing.init_pace(0.1, 0.9, reach=1.0)
        pace = pace.replace(threshold=jnp.float32(threshold))
        _, kinds, metrics = run(step, start.replace(pace=pace), 300)
        return kinds.mean(), float(metrics["entropy/angle"])

    chance, open_ = learnt(1e3)
    assert open_ > 0.999
    some, less_open = learnt(0.1)
    more, least_open = learnt(0.02)
    assert more > some > 1.02 * chance
    assert least_open < less_open < open_


def test_hardness_by_kind_is_the_threshold_where_there_is_no_sample_of_it():
    scale = jnp.asarray([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    drawn = Deformation(scale, jnp.zeros((3, 2, 1, 1)), jnp.zeros((3, 1)))
    generated = Generated(jnp.zeros((3, 1, 1, 1)), None, drawn)
    hardness = jnp.asarray([0.1, 0.4, 0.3])
    found = hardness_by_kind(generated, hardness, jnp.float32(0.2))
    assert list(found.values()) == pytest.approx([0.2, 0.4])
    occluded = generated._replace(deformations=drawn.replace(scale=scale + 1.0))
    found = hardness_by_kind(occluded, hardness, jnp.float32(0.25))
    assert list(found.values()) == pytest.approx([0.8 / 3, 0.25])


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [0.0, 90.0])
def test_hard_samples_are_occluded_or_turned(degrees):
    config = small_config(anet={"max_degrees": degrees})
    state = make_state(config)
    draw = jax.jit(partial(generate, config=config))
    drawn = draw(state.anet, views_of(config), state.pace).deformations
    occluded = np.asarray(drawn.scale.sum(axis=-1)) > 0
    turned = np.any(np.asarray(drawn.angle) != 0, axis=-1)
    assert np.array_equal(occluded, ~turned)
    # Without rotation every sample is occluded, none is left as it was.
    assert occluded.all() if degrees == 0 else 0 < occluded.mean() < 1


def test_the_baseline_of_a_sample_is_the_mean_of_its_like():
    rng = np.random.default_rng(0)
    hardness = rng.normal(size=20).astype(np.float32)
    turned = rng.random(20) < 0.5
    labelled = jnp.arange(20) < 8
    found = _group_means(jnp.asarray(hardness), jnp.asarray(turned), labelled, None)
    for row in range(20):
        like = [
            hardness[other]
            for other in range(20)
            if turned[other] == turned[row] and (other < 8) == (row < 8)
        ]
        np.testing.assert_allclose(found[row], np.mean(like), rtol=1e-5)


@pytest.mark.slow
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
    recognised = jax.jit(partial(recognition, config=config, axis_name=None))
    found = recognised(jnp.asarray(hard), opinion, state)
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


@pytest.mark.slow
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
