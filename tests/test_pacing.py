"""The self-paced policy: hardness, the reach and the threshold."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_oracles import assert_gradient, codes, cosine_loop, normal

from ssah_jax import pacing


def flips_loop(generated, clean):
    return (1 - np.diag(cosine_loop(generated, clean))) / 2


def hardness_loop(generated, clean, others, similar, where):
    after, before = cosine_loop(generated, others), cosine_loop(clean, others)
    out = []
    for i in range(len(generated)):
        total = 0.0
        for kind in (True, False):
            sign = 1 if kind else -1
            added = [
                (1 - sign * after[i, j]) / 2 - (1 - sign * before[i, j]) / 2
                for j in range(len(others))
                if where[i, j] and bool(similar[i, j]) == kind
            ]
            total += sum(added) / len(added) if added else 0.0
        out.append(total)
    return np.array(out)


CODES = ("random", "one row", "duplicate rows", "saturated", "zero rows")
STEPS = {"zero rows": 1e-9, "saturated": 1.0}


@pytest.mark.parametrize("name", CODES)
def test_bit_flips_equal_the_loop(name):
    generated = codes(name)
    clean = normal(1, len(generated), 8)
    function = partial(pacing.bit_flips, u_clean=jnp.asarray(clean))
    found = function(jnp.asarray(generated))
    np.testing.assert_allclose(found, flips_loop(generated, clean), 1e-5, 1e-6)
    assert np.all((found >= -1e-6) & (found <= 1 + 1e-6))
    assert_gradient(
        function,
        lambda u: flips_loop(u, clean),
        generated,
        normal(2, len(generated)),
        STEPS.get(name, 1e-5),
    )


def test_bit_flips_of_binary_codes_are_the_share_of_bits():
    clean = np.sign(normal(0, 5, 8))
    generated = clean.copy()
    for i in range(5):
        generated[i, : 2 * i] *= -1
    found = pacing.bit_flips(jnp.asarray(generated), jnp.asarray(clean))
    np.testing.assert_allclose(found, [0, 0.25, 0.5, 0.75, 1], atol=1e-6)


PAIRS = {
    "random": (np.random.default_rng(3).random((6, 7)) < 0.4),
    "no similar pair": np.zeros((6, 7), bool),
    "all similar": np.ones((6, 7), bool),
}


@pytest.mark.parametrize("mask", ["all", "random", "empty rows", "empty"])
@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("name", ["random", "one row", "saturated", "zero rows"])
def test_pair_hardness_equals_the_loop(name, pairs, mask):
    generated = codes(name)
    number = len(generated)
    clean, others = normal(1, number, 8), normal(2, 7, 8)
    where = {
        "all": np.ones((number, 7), bool),
        "random": np.random.default_rng(4).random((number, 7)) < 0.5,
        "empty rows": np.repeat(np.arange(number) % 2 == 1, 7).reshape(number, 7),
        "empty": np.zeros((number, 7), bool),
    }[mask]
    similar = PAIRS[pairs][:number]
    function = partial(
        pacing.pair_hardness,
        u_clean=jnp.asarray(clean),
        others=jnp.asarray(others),
        similar=jnp.asarray(similar),
        where=jnp.asarray(where),
    )
    found = function(jnp.asarray(generated))
    wanted = hardness_loop(generated, clean, others, similar, where)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert not np.any(found[~where.any(axis=1)])
    gradient = jax.grad(lambda u: function(u).sum())(jnp.asarray(generated))
    assert np.isfinite(gradient).all()
    if mask == "random":
        assert_gradient(
            function,
            lambda u: hardness_loop(u, clean, others, similar, where),
            generated,
            normal(5, number),
            STEPS.get(name, 1e-5),
        )


def test_pair_hardness_reaches_its_bounds_and_its_sign():
    clean = jnp.ones((1, 8))
    others = jnp.concatenate([clean, -clean])
    arguments = (others, jnp.asarray([[True, False]]), jnp.ones((1, 2), bool))
    unmoved = pacing.pair_hardness(clean, clean, *arguments)
    np.testing.assert_allclose(unmoved, [0.0], atol=1e-6)
    np.testing.assert_allclose(pacing.pair_hardness(-clean, clean, *arguments), [2.0])
    np.testing.assert_allclose(pacing.pair_hardness(clean, -clean, *arguments), [-2.0])


def test_hardness_is_blind_to_the_order_and_signs_of_bits():
    rng = np.random.default_rng(0)
    u, clean, others = normal(0, 6, 8), normal(1, 6, 8), normal(2, 7, 8)
    order, sign = rng.permutation(8), rng.choice([-1.0, 1.0], 8).astype(np.float32)
    pairs = (jnp.asarray(PAIRS["random"]), jnp.ones((6, 7), bool))

    def values(change):
        x, y, z = (jnp.asarray(change(a)) for a in (u, clean, others))
        return pacing.bit_flips(x, y), pacing.pair_hardness(x, y, z, *pairs)

    changed = values(lambda a: a[:, order] * sign)
    for a, b in zip(values(lambda a: a), changed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_clean_codes_are_constants_of_the_gradient():
    u, clean, others = (jnp.asarray(normal(i, 6, 8)) for i in range(3))
    of_u, of_clean = jax.grad(lambda *x: pacing.bit_flips(*x).sum(), (0, 1))(u, clean)
    assert np.any(of_u)
    assert not np.any(of_clean)
    similar = jnp.asarray(PAIRS["random"][:, :6])

    def hardness(u, clean, others):
        where = jnp.ones((6, 6), bool)
        return pacing.pair_hardness(u, clean, others, similar, where).sum()

    of_u, *constant = jax.grad(hardness, (0, 1, 2))(u, clean, others)
    assert np.any(of_u)
    for gradient in constant:
        assert not np.any(gradient)


def test_bfloat16_codes_have_float32_hardness():
    u, clean, others = (jnp.asarray(normal(i, 6, 8), jnp.bfloat16) for i in range(3))
    assert pacing.bit_flips(u, clean).dtype == jnp.float32
    similar = jnp.asarray(PAIRS["random"][:, :6])
    hardness = pacing.pair_hardness(u, clean, others, similar, jnp.ones((6, 6), bool))
    assert hardness.dtype == jnp.float32


# The reach.


def reach_after(occluded, rotated, window=0.3, angle=0.3, rate=0.5):
    pace = pacing.init_pace(0.1, 0.9, reach=0.3)
    pace = pace.replace(window=jnp.float32(window), angle=jnp.float32(angle))
    return pacing.follow_hardness(
        pace, jnp.float32(occluded), jnp.float32(rotated), rate=rate
    )


def test_the_policy_starts_where_nothing_moves_it():
    pace = pacing.init_pace(0.2, 0.8, reach=0.3)
    assert [float(x) for x in jax.tree.leaves(pace)] == pytest.approx(
        [0.2, 0.3, 0.3, 0.8]
    )
    hardness = jnp.float32(0.2)
    moved = pacing.follow_hardness(pace, hardness, hardness, rate=0.5)
    moved = pacing.follow_recognition(
        moved, jnp.float32(0.8), jnp.float32(1.0), target=0.8, rate=0.5
    )
    for found, wanted in zip(*map(jax.tree.leaves, (moved, pace)), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("hardness", [0.3, 0.1, 0.02, 0.0, -0.05, -0.4])
def test_each_reach_equals_plain_numbers_and_looks_at_its_own_kind(hardness):
    factor = math.exp(0.5 * (0.1 - hardness) / max(0.1, abs(hardness)))
    pace = reach_after(hardness, 0.1)
    np.testing.assert_allclose(pace.window, 0.3 * factor, rtol=1e-5)
    np.testing.assert_allclose(pace.angle, 0.3, rtol=1e-6)
    pace = reach_after(0.1, hardness)
    np.testing.assert_allclose(pace.angle, 0.3 * factor, rtol=1e-5)
    np.testing.assert_allclose(pace.window, 0.3, rtol=1e-6)
    assert pace.threshold == jnp.float32(0.1)


def test_the_reach_ends_at_the_family_and_never_at_nothing():
    pace = reach_after(0.0, 2.0, window=0.9, angle=0.0101)
    assert (pace.window, pace.angle) == (1.0, jnp.float32(pacing.SHORTEST))


@pytest.mark.parametrize("threshold", [0.05, 0.25])
def test_the_reach_finds_where_samples_are_as_hard_as_the_threshold(threshold):
    # Occlusions are hard by their area, rotations by their angle.
    pace = pacing.init_pace(threshold, 0.9, reach=0.3)
    step = jax.jit(partial(pacing.follow_hardness, rate=0.05))
    for _ in range(400):
        pace = step(pace, 0.4 * pace.window**2, 0.6 * pace.angle)
    np.testing.assert_allclose(0.4 * pace.window**2, threshold, rtol=1e-3)
    np.testing.assert_allclose(0.6 * pace.angle, threshold, rtol=1e-3)


# The threshold.


def follow(running, recognised, evidence, threshold=0.1, **options):
    pace = pacing.init_pace(threshold, running, reach=0.3)
    options = {"target": 0.9, "rate": 0.1} | options
    return pacing.follow_recognition(
        pace, jnp.float32(recognised), jnp.float32(evidence), **options
    )


def test_the_threshold_rises_while_hard_samples_are_recognised_and_falls_while_not():
    assert follow(0.95, 0.95, 1.0).threshold > 0.1
    assert follow(0.8, 0.8, 1.0).threshold < 0.1
    np.testing.assert_allclose(follow(0.9, 0.9, 1.0).threshold, 0.1, rtol=1e-6)


@given(running=st.floats(0, 1), recognised=st.floats(0, 1), evidence=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_recognition_equals_plain_numbers(running, recognised, evidence):
    pace = follow(running, recognised, evidence, decay=0.5)
    mean = running + 0.5 * evidence * (recognised - running)
    np.testing.assert_allclose(pace.recognised, mean, rtol=1e-5, atol=1e-6)
    wanted = 0.1 * math.exp(0.1 * (mean - 0.9))
    np.testing.assert_allclose(pace.threshold, wanted, rtol=1e-5)


def test_without_evidence_nothing_is_learnt_of_recognition():
    # The share of an empty set is 0 by convention.
    assert follow(0.9, 0.0, 0.0).recognised == jnp.float32(0.9)
    assert follow(0.9, 0.0, 1.0).recognised < 0.9


def test_a_threshold_ends_where_a_code_of_chance_is():
    pace = follow(1.0, 1.0, 1.0, threshold=0.499, rate=5.0)
    assert pace.threshold == jnp.float32(pacing.LARGEST)


def test_the_policy_keeps_its_types():
    # A weakly typed threshold would compile the next step anew.
    pace = pacing.init_pace(0.1, 0.9, reach=0.3)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    for update in (
        lambda p, h: pacing.follow_hardness(p, h, h, rate=0.1),
        lambda p, h: pacing.follow_recognition(p, h, h, target=0.9, rate=0.1),
    ):
        found = jax.eval_shape(update, pace, scalar)
        for leaf in jax.tree.leaves(found):
            assert (leaf.shape, leaf.dtype, leaf.weak_type) == ((), jnp.float32, False)
