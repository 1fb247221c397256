"""The self-paced policy: hardness, weights as minimisers, and the threshold's way."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_oracles import normal

from ssah_jax import pacing


def cosine_loop(x, y, epsilon=1e-6):
    size_x = max(math.sqrt(sum(float(a) ** 2 for a in x)), epsilon)
    size_y = max(math.sqrt(sum(float(b) ** 2 for b in y)), epsilon)
    return sum(float(a) * float(b) for a, b in zip(x, y, strict=True)) / size_x / size_y


def flips_loop(generated, clean):
    pairs = zip(generated, clean, strict=True)
    return np.array([(1 - cosine_loop(x, y)) / 2 for x, y in pairs])


def hardness_loop(generated, clean, others, similar, where):
    out = []
    for i in range(len(generated)):
        total = 0.0
        for kind in (True, False):
            sign = 1 if kind else -1
            added = [
                (1 - sign * cosine_loop(generated[i], other)) / 2
                - (1 - sign * cosine_loop(clean[i], other)) / 2
                for j, other in enumerate(others)
                if where[i, j] and bool(similar[i, j]) == kind
            ]
            total += sum(added) / len(added) if added else 0.0
        out.append(total)
    return np.array(out)


def assert_gradient(function, oracle, x, weights, step):
    found = jax.grad(lambda x: jnp.sum(function(x) * weights))(jnp.asarray(x))
    wanted = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        up, down = x.astype(np.float64), x.astype(np.float64)
        up[index] += step
        down[index] -= step
        wanted[index] = np.sum((oracle(up) - oracle(down)) * weights) / (2 * step)
    np.testing.assert_allclose(
        found, wanted, rtol=2e-4, atol=2e-5 * max(1.0, np.abs(wanted).max())
    )


def codes(name):
    u = normal(0, 6, 8)
    if name == "one row":
        return u[:1]
    if name == "duplicate rows":
        return u[[0, 0, 1, 1, 0, 2]]
    if name == "saturated":
        return np.where(u > 0, 1e4, -1e4).astype(np.float32)
    if name == "zero rows":
        u[[1, 4]] = 0.0
    return u


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
    assert pacing.pair_hardness(clean, clean, *arguments) == 0.0
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


# Weights.


def regulariser(kind, v, threshold):
    if kind == "hard":
        return -threshold * v
    if kind == "linear":
        return threshold * (v**2 / 2 - v)
    zeta = 1 - threshold
    return zeta * v - zeta**v / math.log(zeta)


HARDNESS = np.array(
    [-0.3, 0.0, 0.02, 0.08, 0.15, 0.19, 0.21, 0.3, 0.45, 0.6, 0.95, 1.5], np.float32
)


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("kind", pacing.WEIGHT_KINDS)
def test_self_paced_weight_minimises_its_objective(kind, threshold):
    found = pacing.self_paced_weight(
        jnp.asarray(HARDNESS), jnp.asarray(threshold), kind=kind
    )
    grid = np.linspace(0, 1, 4001)
    for weight, h in zip(found, np.maximum(HARDNESS, 0), strict=True):
        values = grid * h + regulariser(kind, grid, threshold)
        assert abs(float(weight) - grid[np.argmin(values)]) < 3e-3
    assert found.dtype == jnp.float32
    assert np.all((found >= 0) & (found <= 1))
    assert np.all(np.diff(found) <= 0)  # Hardness ascends.


@pytest.mark.parametrize("kind", pacing.WEIGHT_KINDS)
def test_self_paced_weight_at_the_edges(kind):
    def weight(hardness, threshold):
        return float(
            pacing.self_paced_weight(
                jnp.asarray([hardness]), jnp.asarray(threshold), kind=kind
            )[0]
        )

    # On the threshold: mastered by "hard", worth nothing to the soft ones.
    assert weight(0.25, 0.25) == pytest.approx(float(kind == "hard"), abs=1e-6)
    assert weight(0.2501, 0.25) == 0.0
    for threshold in (0.02, 0.5, 0.98):
        assert weight(0.0, threshold) == pytest.approx(1.0, abs=1e-6)
        assert weight(-2.0, threshold) == pytest.approx(1.0, abs=1e-6)
        assert weight(2.0, threshold) == 0.0
    for threshold in (0.0, 1.0):
        for hardness in (-2.0, 0.0, 0.5, 2.0):
            assert 0.0 <= weight(hardness, threshold) <= 1.0


@pytest.mark.parametrize("kind", pacing.WEIGHT_KINDS)
def test_self_paced_weight_is_a_constant_of_the_gradient(kind):
    for gradient in jax.grad(
        lambda h, t: pacing.self_paced_weight(h, t, kind=kind).sum(), (0, 1)
    )(jnp.asarray(HARDNESS), jnp.asarray(0.2)):
        assert not np.any(gradient)


def test_an_unknown_kind_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^kind: found 'soft', accepted are hard, "):
        pacing.self_paced_weight(jnp.zeros(2), jnp.asarray(0.1), kind="soft")


# The threshold.


def feedback(threshold, running, mastered, hardness=0.1, **options):
    pace = pacing.init_pace(threshold).replace(mastered=jnp.asarray(running))
    options = {"target": 0.7, "tolerance": 0.1, "rate": 0.01} | options
    return pacing.update_by_feedback(
        pace, jnp.asarray(mastered), jnp.asarray(hardness), **options
    )


def test_init_pace():
    pace = pacing.init_pace(0.2)
    assert (pace.threshold, pace.mastered, pace.hardness) == (jnp.float32(0.2), 0, 0)
    for leaf in jax.tree.leaves(pace):
        assert leaf.dtype == jnp.float32
        assert leaf.shape == ()


@pytest.mark.parametrize(
    ("share", "move"),
    [
        (0.0, 0),
        (0.5, 0),
        (0.59, 0),
        (0.61, 1),
        (0.7, 1),
        (0.79, 1),
        (0.81, -1),
        (1, -1),
    ],
)
def test_feedback_rises_only_while_h_net_and_a_net_both_keep_up(share, move):
    pace = feedback(0.2, float(share), float(share))
    np.testing.assert_allclose(pace.threshold, 0.2 + 0.01 * move, rtol=1e-6)


def test_feedback_looks_at_the_running_mean():
    pace = feedback(0.2, 0.7, 0.0, decay=0.9, hardness=0.3)
    np.testing.assert_allclose(pace.mastered, 0.63, rtol=1e-6)
    np.testing.assert_allclose(pace.hardness, 0.03, rtol=1e-6)
    np.testing.assert_allclose(pace.threshold, 0.21, rtol=1e-6)
    assert feedback(0.2, 0.7, 0.0, decay=0.0).threshold == jnp.float32(0.2)


def test_feedback_is_clipped():
    options = {"low": 0.15, "high": 0.2, "rate": 0.03}
    assert feedback(0.19, 0.7, 0.7, **options).threshold == jnp.float32(0.2)
    assert feedback(0.16, 1.0, 1.0, **options).threshold == jnp.float32(0.15)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.03125, 0.28125, width=32),
    st.floats(0, 1, width=32),
    st.floats(0, 1, width=32),
    st.floats(-1, 1, width=32),
)
def test_feedback_never_leaves_its_bounds(threshold, running, mastered, hardness):
    pace = feedback(threshold, running, mastered, hardness, low=0.02, high=0.3)
    assert jnp.float32(0.02) <= pace.threshold <= jnp.float32(0.3)
    assert abs(float(pace.threshold) - threshold) <= 0.01 + 1e-6
    assert -1e-6 <= pace.mastered <= 1 + 1e-6
    # Hardness is only recorded.
    other = feedback(threshold, running, mastered, -hardness, low=0.02, high=0.3)
    assert other.threshold == pace.threshold


def test_feedback_is_monotone_when_the_share_stays_where_it_is():
    def run(share, steps=300):
        pace = pacing.init_pace(0.1)
        options = {"target": 0.7, "rate": 1e-3, "high": 0.3, "low": 0.02, "decay": 0.8}
        update = jax.jit(partial(pacing.update_by_feedback, **options))
        path = []
        for _ in range(steps):
            pace = update(pace, jnp.asarray(share), jnp.asarray(0.1))
            path.append(float(pace.threshold))
        return np.array(path)

    mastered, failing, easy = run(0.7), run(0.3), run(1.0)
    assert np.all(np.diff(mastered) >= 0)
    assert mastered[-1] == np.float32(0.3)
    np.testing.assert_array_equal(failing, np.float32(0.1))
    # The running mean passes the target on its way up, then all are too easy.
    assert np.all(np.diff(easy[20:]) <= 0)
    assert easy[-1] == np.float32(0.02)


def test_schedule_goes_from_start_to_end_in_a_line():
    pace = pacing.init_pace(0.1)
    path = [float(pace.threshold)]
    for step in range(6):
        pace = pacing.update_by_schedule(
            pace,
            jnp.asarray(1.0),
            jnp.asarray(0.2),
            jnp.asarray(step),
            start=0.1,
            end=0.5,
            steps=4,
            decay=0.5,
        )
        path.append(float(pace.threshold))
    np.testing.assert_allclose(path, [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(pace.mastered, 1 - 0.5**6, rtol=1e-6)
    np.testing.assert_allclose(pace.hardness, 0.2 * (1 - 0.5**6), rtol=1e-6)


def test_updates_keep_shapes_and_types_so_that_the_step_is_traced_once():
    pace = pacing.init_pace(0.1)
    arguments = (pace, jnp.asarray(0.5), jnp.asarray(0.1))
    by_schedule = partial(pacing.update_by_schedule, start=0.1, end=0.5, steps=4)
    for updated in (
        jax.eval_shape(pacing.update_by_feedback, *arguments),
        jax.eval_shape(by_schedule, *arguments, jnp.asarray(3)),
    ):
        for old, new in zip(*map(jax.tree.leaves, (pace, updated)), strict=True):
            assert (old.shape, old.dtype) == (new.shape, new.dtype)
            assert not new.weak_type
