"""Losses against loops in NumPy: values, gradients, kinks, constants, devices.

See `loss_oracles` for what they are compared with.
"""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from loss_oracles import (
    CODES,
    EPSILON,
    LABELS,
    SMOOTH,
    assert_gradient,
    codes,
    cosine_loop,
    log_softmax_loop,
    normal,
    step_for,
)

from ssah_jax import losses
from ssah_jax.losses.reduce import all_rows, all_sum, first_row
from ssah_jax.similarity import labels_overlap, not_self

AXIS = "batch"


# Oracles, one loop each.


def pair_loop(u, v, similar, alpha):
    logit = alpha * cosine_loop(u, v)
    out = np.zeros(logit.shape)
    for i, j in np.ndindex(*out.shape):
        chance = 1.0 / (1.0 + math.exp(-logit[i, j]))
        s = float(similar[i, j])
        out[i, j] = -s * math.log(chance) - (1 - s) * math.log(1 - chance)
    return out


def margin_loop(u, labels, centres, scale, margin):
    similarity = cosine_loop(u, centres)
    out = []
    for i, row in enumerate(labels):
        logits = [scale * (similarity[i, c] - margin * row[c]) for c in range(len(row))]
        log_p = log_softmax_loop(logits)
        own = [log_p[c] for c in range(len(row)) if row[c]]
        out.append(-sum(own) / len(own) if own else 0.0)
    return np.array(out)


def quantisation_loop(u):
    out = []
    for row in u:
        length = max(math.sqrt(sum(float(x) ** 2 for x in row)), EPSILON)
        total = sum(abs(float(x)) for x in row)
        out.append(1 - total / (math.sqrt(len(row)) * length))
    return np.array(out)


def entropy_loop(logits):
    out = []
    for row in logits:
        log_p = log_softmax_loop([float(x) for x in row])
        out.append(-sum(math.exp(x) * x for x in log_p) / math.log(len(row)))
    return np.array(out)


def centre_consistency_loop(logits, target, sure, multi_label):
    out = []
    for row, said, gate in zip(logits, target, sure, strict=True):
        if multi_label:
            terms = []
            for x, p, ok in zip(row, said, gate, strict=True):
                if ok:
                    chance = 1 / (1 + math.exp(-x))
                    terms.append(-math.log(chance if p > 0.5 else 1 - chance))
            out.append(sum(terms) / len(terms) if terms else 0.0)
        else:
            best = max(range(len(said)), key=lambda c: said[c])
            out.append(-log_softmax_loop(row)[best] if gate[0] else 0.0)
    return np.array(out)


def balanced_loop(values, similar, where):
    kinds = {True: [], False: []}
    for i, j in np.ndindex(*values.shape):
        if where[i, j]:
            kinds[bool(similar[i, j])].append(float(values[i, j]))
    means = [sum(x) / len(x) if x else 0.0 for x in kinds.values()]
    return sum(means) / 2


# Pairs.


@pytest.mark.parametrize("alpha", [1.0, 8.0])
@pytest.mark.parametrize("name", CODES)
def test_logistic_pair_loss_equals_the_loop(name, alpha):
    u, v = codes(name), normal(1, 5, 8)
    similar = np.random.default_rng(2).random((len(u), 5)) < 0.4
    loss = losses.logistic_pair_loss(
        jnp.asarray(u), jnp.asarray(v), jnp.asarray(similar), alpha=alpha
    )
    assert loss.dtype == jnp.float32
    wanted = pair_loop(u, v, similar, alpha)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5, atol=1e-6)


def test_logistic_pair_loss_takes_probabilities():
    u, v = normal(0, 4, 8), normal(1, 5, 8)
    chance = np.random.default_rng(2).random((4, 5)).astype(np.float32)
    loss = losses.logistic_pair_loss(*map(jnp.asarray, (u, v, chance)))
    np.testing.assert_allclose(loss, pair_loop(u, v, chance, 8.0), rtol=1e-5)


@pytest.mark.parametrize("name", SMOOTH)
def test_logistic_pair_loss_gradient(name):
    u, v = codes(name), normal(1, 5, 8)
    similar = np.random.default_rng(2).random((len(u), 5)) < 0.4
    weights = normal(3, len(u), 5)
    assert_gradient(
        lambda u: losses.logistic_pair_loss(u, jnp.asarray(v), jnp.asarray(similar)),
        lambda u: pair_loop(u, v, similar, 8.0),
        u,
        weights,
        step_for(name),
    )
    assert_gradient(
        lambda v: losses.logistic_pair_loss(jnp.asarray(u), v, jnp.asarray(similar)),
        lambda v: pair_loop(u, v, similar, 8.0),
        v,
        weights,
    )


def test_logistic_pair_loss_of_codes_with_themselves_has_the_sum_of_both_gradients():
    u = normal(0, 4, 8)
    similar = np.random.default_rng(2).random((4, 4)) < 0.4
    assert_gradient(
        lambda u: losses.logistic_pair_loss(u, u, jnp.asarray(similar)),
        lambda u: pair_loop(u, u, similar, 8.0),
        u,
        normal(3, 4, 4),
    )


def test_logistic_pair_loss_at_a_zero_row_is_linear_over_epsilon():
    # Below epsilon the row is divided by epsilon, not by its norm.
    u, v = codes("zero rows")[:2], normal(1, 3, 8)
    similar = np.array([[True, False, True], [False, True, True]])
    assert_gradient(
        lambda u: losses.logistic_pair_loss(u, jnp.asarray(v), jnp.asarray(similar)),
        lambda u: pair_loop(u, v, similar, 8.0),
        u,
        normal(3, 2, 3),
        step=1e-9,
    )


def balanced_from_codes(u, labels, where=None):
    similar = labels_overlap(labels, labels)
    values = losses.logistic_pair_loss(u, u, similar)
    return losses.balanced_pair_mean(values, similar, where)


@pytest.mark.parametrize("mask", ["all", "not self", "random", "one row", "empty"])
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", ["random", "saturated", "zero rows"])
def test_balanced_pair_mean_of_codes_equals_the_loop(name, kind, mask):
    u, labels = codes(name), LABELS[kind]
    where = {
        "all": np.ones((6, 6), bool),
        "not self": ~np.eye(6, dtype=bool),
        "random": np.random.default_rng(4).random((6, 6)) < 0.5,
        "one row": np.arange(6)[:, None] + np.zeros((1, 6)) == 3,
        "empty": np.zeros((6, 6), bool),
    }[mask]
    similar = labels @ labels.T > 0.5
    wanted = balanced_loop(pair_loop(u, u, similar, 8.0), similar, where)
    found, gradient = jax.value_and_grad(balanced_from_codes)(
        jnp.asarray(u), jnp.asarray(labels), jnp.asarray(where)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
    assert np.isfinite(gradient).all()
    if mask == "empty":
        assert found == 0.0
        assert not np.any(gradient)
    if mask == "all":
        assert found == balanced_from_codes(jnp.asarray(u), jnp.asarray(labels))


def test_balanced_pair_mean_weighs_both_kinds_alike():
    similar = jnp.asarray([[True] + 9 * [False]])
    values = jnp.where(similar, 4.0, 2.0)
    assert losses.balanced_pair_mean(values, similar) == 3.0
    # A kind without pairs counts 0: half of the other remains.
    assert losses.balanced_pair_mean(values, similar, ~similar) == 1.0
    assert losses.balanced_pair_mean(values, similar, similar) == 2.0


def test_balanced_pair_mean_ignores_what_the_mask_leaves_out():
    values = jnp.asarray([[1.0, jnp.nan], [jnp.inf, 3.0]])
    similar = jnp.asarray([[True, True], [False, False]])
    where = jnp.asarray([[True, False], [False, True]])
    assert losses.balanced_pair_mean(values, similar, where) == 2.0


# Points.


@pytest.mark.parametrize("kind", ["one label", "several labels", "no label"])
@pytest.mark.parametrize("name", CODES)
def test_orthohash_loss_equals_the_loop(name, kind):
    u = codes(name)
    labels, centres = LABELS[kind][: len(u)], np.sign(normal(5, 3, 8))
    options = {"scale": 7.0, "margin": 0.3}
    function = partial(
        losses.orthohash_loss,
        labels=jnp.asarray(labels),
        centres=jnp.asarray(centres),
        **options,
    )
    loss = function(jnp.asarray(u))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(
        loss, margin_loop(u, labels, centres, **options), rtol=1e-5, atol=1e-6
    )
    gradient = jax.grad(lambda u: function(u).sum())(jnp.asarray(u))
    assert np.isfinite(gradient).all()
    if kind == "no label":
        assert not np.any(loss)
        assert not np.any(gradient)
    if name in SMOOTH:
        assert_gradient(
            function,
            lambda u: margin_loop(u, labels, centres, **options),
            u,
            normal(3, len(u)),
            step_for(name),
        )


def test_the_margin_makes_the_loss_harder():
    u, labels = jnp.asarray(normal(0, 6, 8)), jnp.asarray(LABELS["one label"])
    centres = jnp.sign(normal(5, 3, 8))
    without = losses.orthohash_loss(u, labels, centres, margin=0.0)
    assert np.all(losses.orthohash_loss(u, labels, centres, margin=0.2) > without)


@pytest.mark.parametrize("name", CODES)
def test_cosine_quantisation_equals_the_loop(name):
    u = codes(name)
    loss = losses.cosine_quantisation(jnp.asarray(u))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, quantisation_loop(u), rtol=1e-5, atol=1e-6)
    assert np.all(loss >= -1e-6)
    assert np.all(loss <= 1)
    gradient = jax.grad(lambda u: losses.cosine_quantisation(u).sum())(jnp.asarray(u))
    assert np.isfinite(gradient).all()
    if name in SMOOTH:
        # |u| has the derivative sign(u): the constant signs are also the gradient.
        assert_gradient(
            losses.cosine_quantisation,
            quantisation_loop,
            u,
            normal(3, len(u)),
            step_for(name),
        )


def test_cosine_quantisation_at_a_zero_bit_counts_it_as_positive():
    u = jnp.asarray([[0.0, 3.0, -4.0, 0.0]])
    assert losses.cosine_quantisation(jnp.zeros((1, 8))) == 1.0
    gradient = jax.grad(lambda u: losses.cosine_quantisation(u).sum())(u)
    # d/du_k of 1 - |u|_1 / (2 |u|_2) at u_k = 0, taken from the right.
    np.testing.assert_allclose(gradient[0, [0, 3]], -1 / (2 * 5.0), rtol=1e-6)


# Consistency.


CONSISTENCY = {
    "random": normal(6, 5, 4),
    "saturated": np.where(normal(6, 5, 4) > 0, 1e4, -1e4).astype(np.float32),
    "zero": np.zeros((5, 4), np.float32),
}


def consistency_inputs():
    target = np.random.default_rng(7).random((5, 4)).astype(np.float32)
    sure = np.random.default_rng(8).random((5, 4)) < 0.6
    sure[2] = False
    return target, sure


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", CONSISTENCY)
def test_centre_consistency_equals_the_loop(name, multi_label):
    logits, (target, sure) = CONSISTENCY[name], consistency_inputs()
    if not multi_label:
        sure = np.broadcast_to(sure[:, :1], sure.shape)
    function = partial(
        losses.centre_consistency,
        target=jnp.asarray(target),
        sure=jnp.asarray(sure),
        multi_label=multi_label,
    )
    loss = function(jnp.asarray(logits))
    gradient = jax.grad(lambda x: function(x).sum())(jnp.asarray(logits))
    assert np.isfinite(loss).all()
    assert np.isfinite(gradient).all()
    assert loss[2] == 0.0
    assert not np.any(gradient[2])
    if name == "saturated":
        return  # The loop's logarithm overflows where softplus does not.
    oracle = partial(
        centre_consistency_loop, target=target, sure=sure, multi_label=multi_label
    )
    np.testing.assert_allclose(loss, oracle(logits), rtol=1e-5, atol=1e-6)
    assert_gradient(function, oracle, logits, normal(9, 5))


def test_centre_consistency_of_saturated_logits_is_their_size():
    logits = jnp.asarray([[1e4, -1e4]])
    sure = jnp.ones((1, 2), bool)
    wrong = jnp.asarray([[0.1, 0.9]])
    assert losses.centre_consistency(logits, wrong, sure) == 2e4
    assert losses.centre_consistency(logits, 1 - wrong, sure) == 0.0
    assert losses.centre_consistency(logits, wrong, sure, multi_label=True) == 1e4
    assert losses.centre_consistency(logits, 1 - wrong, sure, multi_label=True) == 0.0


@pytest.mark.parametrize("multi_label", [False, True])
def test_centre_consistency_without_a_sure_entry_is_zero(multi_label):
    target, _ = consistency_inputs()
    loss = losses.centre_consistency(
        jnp.asarray(CONSISTENCY["random"]),
        jnp.asarray(target),
        jnp.zeros((5, 4), bool),
        multi_label=multi_label,
    )
    np.testing.assert_array_equal(loss, np.zeros(5))


def test_pair_consistency_equals_the_loop():
    u, anchors = normal(0, 5, 8), normal(1, 3, 8)
    target = np.random.default_rng(2).random((5, 3)).astype(np.float32)
    function = partial(
        losses.pair_consistency,
        anchors=jnp.asarray(anchors),
        target=jnp.asarray(target),
        alpha=5.0,
    )
    oracle = partial(pair_loop, v=anchors, similar=target, alpha=5.0)
    np.testing.assert_allclose(function(jnp.asarray(u)), oracle(u), rtol=1e-5)
    assert_gradient(function, oracle, u, normal(3, 5, 3))


# What A-Net minimises.


def test_threshold_pursuit_turns_with_the_gap_of_the_mean():
    hardness = normal(3, 5) / 10

    def oracle(reached):
        gap = max(-1.0, min(1.0, (reached - 0.3) / 0.3))
        return np.array([gap * h for h in hardness])

    def values(h, reached):
        return losses.threshold_pursuit(h, jnp.asarray(0.3), jnp.asarray(reached))

    for reached in (0.0, 0.2, 0.3, 0.45, 0.9):
        found = values(jnp.asarray(hardness), reached)
        np.testing.assert_allclose(found, oracle(reached), rtol=1e-5, atol=1e-8)
        gradient = jax.grad(lambda *x: values(*x).sum())(jnp.asarray(hardness), reached)
        expected = np.full(5, np.clip(reached / 0.3 - 1, -1, 1))
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


def test_threshold_pursuit_descends_on_the_squared_gap():
    threshold, hardness = 0.3, np.array([-0.1, 0.1, 0.29, 0.31, 0.9], np.float32)

    def objective(h):
        pursuit = losses.threshold_pursuit(h, jnp.asarray(threshold), jnp.mean(h))
        return jnp.mean(pursuit)

    def oracle(h):
        return np.array([(np.mean(h) - threshold) ** 2 / (2 * threshold)])

    assert_gradient(objective, oracle, hardness, 1.0)


def test_threshold_pursuit_finds_a_mean_among_the_easy_and_the_very_hard():
    # Hardness 0.05 or 0.5, nothing between: the mean meets a threshold of 0.2 if a
    # third of all draws are hard. By each draw's own distance to it, none would be.
    levels, threshold = jnp.asarray([0.05, 0.5]), jnp.asarray(0.2)

    def objective(logits):
        chance = jax.nn.softmax(logits)
        reached = jnp.sum(chance * levels)
        return jnp.sum(chance * losses.threshold_pursuit(levels, threshold, reached))

    logits = jnp.zeros(2)
    for _ in range(2000):
        logits -= 10.0 * jax.grad(objective)(logits)
    assert abs(float(jnp.sum(jax.nn.softmax(logits) * levels)) - 0.2) < 1e-3


def test_score_function_loss_is_the_advantage_times_the_log_probability():
    log_p, loss = normal(11, 6), normal(12, 6)
    baseline = np.float32(0.3)
    found = losses.score_function_loss(*map(jnp.asarray, (log_p, loss, baseline)))
    wanted = [(float(b) - 0.3) * float(a) for a, b in zip(log_p, loss, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    of_log_p, of_loss, of_baseline = gradient_of(
        losses.score_function_loss, log_p, loss, baseline
    )
    np.testing.assert_allclose(of_log_p, loss - baseline, rtol=1e-6)
    assert not np.any(of_loss)
    assert not np.any(of_baseline)


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_score_function_loss_is_unbiased(baseline):
    # Every choice is drawn once, and weighed by its probability.
    logits, reward = jnp.asarray(normal(13, 5)), jnp.asarray(normal(14, 5))
    chance = jax.nn.softmax(logits)

    def surrogate(logits):
        values = losses.score_function_loss(
            jax.nn.log_softmax(logits), reward, jnp.asarray(baseline)
        )
        return jnp.sum(chance * values)

    wanted = jax.grad(lambda x: jnp.sum(jax.nn.softmax(x) * reward))(logits)
    np.testing.assert_allclose(
        jax.grad(surrogate)(logits), wanted, rtol=1e-4, atol=1e-6
    )


LOGITS = {
    "random": normal(10, 4, 7),
    "uniform": np.zeros((4, 7), np.float32),
    "saturated": np.where(normal(10, 4, 7) > 0, 1e4, -1e4).astype(np.float32),
    "two choices": normal(10, 4, 2),
}


@pytest.mark.parametrize("name", LOGITS)
def test_normalised_entropy_equals_the_loop(name):
    logits = LOGITS[name]
    entropy = losses.normalised_entropy(jnp.asarray(logits))
    np.testing.assert_allclose(entropy, entropy_loop(logits), rtol=1e-5, atol=1e-6)
    assert np.all((entropy >= 0) & (entropy <= 1 + 1e-6))
    assert_gradient(losses.normalised_entropy, entropy_loop, logits, normal(3, 4))


def test_normalised_entropy_of_a_single_choice_is_one():
    np.testing.assert_array_equal(
        losses.normalised_entropy(jnp.ones((2, 3, 1))), np.ones((2, 3))
    )
    gradient = jax.grad(lambda x: losses.normalised_entropy(x).sum())(jnp.ones((2, 1)))
    assert not np.any(gradient)


def test_entropy_floor_is_the_squared_shortfall():
    logits = 2 * LOGITS["random"]
    entropy = entropy_loop(logits)
    floor = float(np.median(entropy))

    def oracle(x):
        return np.array([max(floor - e, 0.0) ** 2 for e in entropy_loop(x)])

    function = partial(losses.entropy_floor, floor=floor)
    np.testing.assert_allclose(function(jnp.asarray(logits)), oracle(logits), 1e-4)
    assert (oracle(logits) > 0).any()
    assert (oracle(logits) == 0).any()
    assert_gradient(function, oracle, logits, np.ones(4))
    gradient = jax.grad(lambda x: function(x).sum())(jnp.asarray(logits))
    assert not np.any(gradient[entropy > floor])
    assert np.all(np.any(gradient[entropy < floor], axis=1))


def test_entropy_floor_on_its_boundary_has_no_gradient():
    # Two of four equal choices: half of the largest entropy. And a uniform one.
    half = jnp.asarray([[0.0, 0.0, -1e4, -1e4]])
    assert losses.entropy_floor(half, floor=0.5) == 0.0
    for logits, floor in ((half, 0.5), (jnp.zeros((1, 4)), 1.0)):
        gradient = jax.grad(lambda x, f=floor: losses.entropy_floor(x, floor=f).sum())(
            logits
        )
        np.testing.assert_allclose(gradient, 0.0, atol=1e-7)
    collapsed = jnp.asarray([[1e4, -1e4, -1e4, -1e4]])
    np.testing.assert_allclose(losses.entropy_floor(collapsed, floor=0.5), 0.25)


# Reductions.


finite = st.floats(-1e3, 1e3, width=32)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(finite, st.booleans()), min_size=6, max_size=6))
def test_masked_mean_equals_the_loop(rows):
    values, where = (np.array(x) for x in zip(*rows, strict=True))
    inside = [v for v, w in rows if w]
    wanted = sum(inside) / len(inside) if inside else 0.0
    found = losses.masked_mean(
        jnp.asarray(values, jnp.float32), jnp.asarray(where, bool)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_masked_mean_ignores_what_the_mask_leaves_out(bad):
    values, where = jnp.asarray([[1.0, bad], [5.0, bad]]), np.array([[1, 0], [1, 0]])
    where = jnp.asarray(where, bool)
    found, gradient = jax.value_and_grad(losses.masked_mean)(values, where)
    assert found == 3.0
    np.testing.assert_array_equal(gradient, [[0.5, 0.0], [0.5, 0.0]])


def test_masked_mean_of_nothing_is_zero():
    values, where = jnp.full((3,), jnp.nan), jnp.zeros(3, bool)
    found, gradient = jax.value_and_grad(losses.masked_mean)(values, where)
    assert found == 0.0
    assert not np.any(gradient)
    assert losses.masked_mean(jnp.zeros((0,))) == 0.0
    assert losses.masked_mean(jnp.asarray([2.0, 4.0])) == 3.0
    assert losses.masked_mean(jnp.asarray(2.0)) == 2.0


def test_masked_mean_adds_in_float32():
    # The sum of 259 is no number of bfloat16, which has eight digits.
    values = jnp.ones((259,), jnp.bfloat16)
    found = losses.masked_mean(values)
    assert found.dtype == jnp.float32
    assert found == 1.0


# Codes are equivalent up to the order and the signs of their bits.


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_bits_may_be_permuted_and_flipped(seed):
    rng = np.random.default_rng(seed)
    u, v = normal(seed, 6, 8), normal(seed + 1, 5, 8)
    centres = np.sign(normal(seed + 2, 3, 8))
    labels = jnp.asarray(LABELS["several labels"])
    similar = rng.random((6, 5)) < 0.5
    order, sign = rng.permutation(8), rng.choice([-1.0, 1.0], 8).astype(np.float32)

    def values(change):
        x, y, z = (jnp.asarray(change(a)) for a in (u, v, centres))
        return (
            losses.logistic_pair_loss(x, y, jnp.asarray(similar)),
            losses.pair_consistency(x, y, jnp.asarray(similar, jnp.float32)),
            losses.orthohash_loss(x, labels, z),
            losses.cosine_quantisation(x),
        )

    plain = values(lambda x: x)
    changed = values(lambda x: x[:, order] * sign)
    for a, b in zip(plain, changed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_bits_of_codes_alone_may_not_be_permuted_or_flipped():
    u, labels = jnp.asarray(normal(0, 6, 8)), jnp.asarray(LABELS["several labels"])
    # A bit in which all centres agree would not matter to a softmax.
    centres = jnp.sign(normal(2, 3, 8)).at[:, 0].set(jnp.asarray([1.0, -1.0, 1.0]))
    plain = losses.orthohash_loss(u, labels, centres)
    for changed in (jnp.roll(u, 1, axis=1), u.at[:, 0].multiply(-1.0)):
        moved = losses.orthohash_loss(changed, labels, centres)
        assert np.abs(moved - plain).max() > 0.1


# Constants of the gradient.


def gradient_of(function, *arguments):
    return jax.grad(lambda *x: function(*x).sum(), tuple(range(len(arguments))))(
        *(jnp.asarray(x) for x in arguments)
    )


def test_constants_of_the_gradient_are_exactly_constant():
    u, anchors = normal(0, 5, 8), normal(1, 4, 8)
    target = np.random.default_rng(2).random((5, 4)).astype(np.float32)
    of_u, of_anchors, of_target = gradient_of(
        losses.pair_consistency, u, anchors, target
    )
    assert np.any(of_u)
    assert not np.any(of_anchors)
    assert not np.any(of_target)

    logits, sure = normal(3, 5, 4), jnp.ones((5, 4), bool)
    for multi_label in (False, True):
        of_logits, of_target = gradient_of(
            lambda x, t, m=multi_label: losses.centre_consistency(
                x, t, sure, multi_label=m
            ),
            logits,
            target,
        )
        assert np.any(of_logits)
        assert not np.any(of_target)

    of_hardness, of_threshold, of_reached = gradient_of(
        losses.threshold_pursuit, normal(4, 6), np.float32(0.2), np.float32(0.1)
    )
    assert np.all(of_hardness != 0)
    assert of_threshold == of_reached == 0


def test_the_signs_of_the_quantisation_are_a_constant():
    # By the product rule of u . sign(u), were the sign a soft one, this would differ.
    u = jnp.asarray(normal(0, 4, 8))
    sign = jnp.sign(u)

    def with_fixed_signs(u):
        unit = u / jnp.linalg.norm(u, axis=-1, keepdims=True)
        return jnp.sum(1.0 - jnp.sum(unit * sign, axis=-1) / jnp.sqrt(8.0))

    np.testing.assert_allclose(
        gradient_of(losses.cosine_quantisation, u)[0],
        jax.grad(with_fixed_signs)(u),
        rtol=1e-4,
        atol=1e-6,
    )


# Precision.


def test_bfloat16_codes_have_float32_losses():
    u, v = jnp.asarray(normal(0, 6, 8)), jnp.asarray(normal(1, 5, 8))
    centres = jnp.sign(jnp.asarray(normal(2, 3, 8)))
    similar = jnp.asarray(np.random.default_rng(3).random((6, 5)) < 0.5)
    functions = {
        "pair": lambda x: losses.logistic_pair_loss(x, v.astype(x.dtype), similar),
        "consistency": lambda x: losses.pair_consistency(
            x, v.astype(x.dtype), similar.astype(jnp.float32)
        ),
        "centre": lambda x: losses.orthohash_loss(
            x, jnp.asarray(LABELS["one label"]), centres
        ),
        "quantisation": losses.cosine_quantisation,
    }
    short = u.astype(jnp.bfloat16)
    for name, function in functions.items():
        found = function(short)
        assert found.dtype == jnp.float32, name
        # But for the rounding of the codes themselves the same: only codes rounded.
        if name in ("centre", "quantisation"):
            np.testing.assert_allclose(
                found, function(short.astype(jnp.float32)), rtol=1e-5, atol=1e-6
            )
        gradient = jax.grad(lambda x, f=function: f(x).sum())(short)
        assert gradient.dtype == jnp.bfloat16
        assert np.isfinite(gradient.astype(jnp.float32)).all()


# Devices. A model of one matrix stands for the network: what each device returns is
# its share of the loss, and shares and gradients are summed.


def world(devices, seed=0):
    """Parameters, images, labels and a mask, uneven over the devices."""
    rows = 3 * devices
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(5, 8)).astype(np.float32)
    x = rng.normal(size=(rows, 5)).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[np.sort(rng.integers(0, 4, rows))]
    mask = rng.random(rows) < 0.5
    mask[:3] = False  # One device has nothing to say.
    return tuple(map(jnp.asarray, (w, x, labels, mask)))


def pair_share(w, x, labels, mask, *, axis_name=None, fault=None):
    """Balanced loss of all pairs of distinct images: rows here, columns everywhere."""
    u = x @ w
    if fault == "local pairs":
        columns, others, first = u, labels, jnp.asarray(0)
    else:
        columns, others = all_rows(u, axis_name), all_rows(labels, axis_name)
        first = first_row(len(u), axis_name)
    if fault == "first row":
        first = jnp.asarray(0)
    if fault == "constant columns":
        columns = jax.lax.stop_gradient(columns)
    similar = labels_overlap(labels, others)
    where = not_self(first, len(u), len(columns)) & mask[:, None]
    values = losses.logistic_pair_loss(u, columns, similar)
    axis = None if fault == "local count" else axis_name
    return losses.balanced_pair_mean(values, similar, where, axis_name=axis)


def point_share(w, x, labels, mask, *, axis_name=None):
    centres = jnp.sign(jnp.asarray(normal(5, 4, 8)))
    values = losses.orthohash_loss(x @ w, labels, centres)
    return losses.masked_mean(values, mask, axis_name=axis_name)


def on_devices(share, devices, w, x, labels, mask):
    """Value, gradient of w and gradient of x, from the devices' shares."""

    def one(w, x, labels, mask):
        value, (of_w, of_x) = jax.value_and_grad(share, (0, 1))(w, x, labels, mask)
        return all_sum((value, of_w), AXIS), of_x

    def split(a):
        return a.reshape(devices, -1, *a.shape[1:])

    (value, of_w), of_x = jax.pmap(
        one,
        AXIS,
        in_axes=(None, 0, 0, 0),
        out_axes=((None, None), 0),
        devices=jax.devices()[:devices],
    )(w, split(x), split(labels), split(mask))
    return np.asarray(value), np.asarray(of_w), np.asarray(of_x).reshape(x.shape)


def globally(share, w, x, labels, mask):
    both = jax.jit(jax.value_and_grad(share, (0, 1)))
    value, (of_w, of_x) = both(w, x, labels, mask)
    return np.asarray(value), np.asarray(of_w), np.asarray(of_x)


def largest_error(found, wanted):
    return [
        np.abs(a - b).max() / np.abs(b).max()
        for a, b in zip(found, wanted, strict=True)
    ]


@pytest.mark.parametrize("devices", [4, 8])
@pytest.mark.parametrize("share", [pair_share, point_share])
def test_shares_and_their_gradients_sum_to_the_global_ones(share, devices):
    inputs = world(devices)
    wanted = globally(share, *inputs)
    found = on_devices(partial(share, axis_name=AXIS), devices, *inputs)
    assert max(largest_error(found, wanted)) < 1e-5


def test_the_global_pair_loss_is_the_loop_over_pairs():
    w, x, labels, mask = map(np.asarray, world(4))
    similar = labels @ labels.T > 0.5
    where = ~np.eye(len(x), dtype=bool) & mask[:, None]
    u = x.astype(np.float64) @ w
    wanted = balanced_loop(pair_loop(u, u, similar, 8.0), similar, where)
    np.testing.assert_allclose(pair_share(*world(4)), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("fault", "in_value"),
    [
        ("constant columns", False),
        ("local pairs", True),
        ("first row", True),
        ("local count", True),
    ],
)
def test_a_wrong_way_over_devices_is_noticed(fault, in_value):
    # The usual mistakes: had they been made above, the test above would have failed.
    inputs = world(8)
    share = partial(pair_share, axis_name=AXIS, fault=fault)
    value, of_w, of_x = largest_error(
        on_devices(share, 8, *inputs), globally(pair_share, *inputs)
    )
    assert min(of_w, of_x) > 0.05
    assert (value > 0.005) == in_value


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("share", [pair_share, point_share])
def test_shares_under_shard_map(share, check):
    # Differentiated from without: the sum of the shares is an ordinary function.
    w, x, labels, mask = world(8)
    mesh = Mesh(np.asarray(jax.devices()[:8]), (AXIS,))
    shares = jax.shard_map(
        lambda *inputs: share(*inputs, axis_name=AXIS)[None],
        mesh=mesh,
        in_specs=(P(), P(AXIS), P(AXIS), P(AXIS)),
        out_specs=P(AXIS),
        check_vma=check,
    )

    def total(*inputs):
        return jnp.sum(shares(*inputs))

    found = globally(total, w, x, labels, mask)
    assert max(largest_error(found, globally(share, w, x, labels, mask))) < 1e-5


def test_an_empty_mask_on_all_devices_is_zero():
    w, x, labels, mask = world(4)
    for share in (pair_share, point_share):
        value, of_w, of_x = on_devices(
            partial(share, axis_name=AXIS), 4, w, x, labels, jnp.zeros_like(mask)
        )
        assert value == 0.0
        assert not np.any(of_w)
        assert not np.any(of_x)


def test_collectives_without_an_axis_do_nothing():
    x = jnp.asarray(normal(0, 3, 2))
    np.testing.assert_array_equal(all_rows(x, None), x)
    assert all_sum({"a": 3}, None) == {"a": 3}
    assert first_row(3, None) == 0


def test_collectives_keep_the_order_of_the_devices():
    x = jnp.arange(8 * 2 * 3.0).reshape(8, 2, 3)
    rows, first, total = jax.pmap(
        lambda x: (all_rows(x, AXIS), first_row(len(x), AXIS), all_sum(x, AXIS)), AXIS
    )(x)
    np.testing.assert_array_equal(first, 2 * np.arange(8))
    for device, one in itertools.product(range(8), rows):
        np.testing.assert_array_equal(one[first[device]], x[device, 0])
    for one in total:
        np.testing.assert_array_equal(one, np.asarray(x).sum(0))
