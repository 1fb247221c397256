"""SSAH's terms against loops in NumPy: values, gradients, kinks, constants.

See `loss_oracles` for what they are compared with.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
from ssah_oracles import pair_loop

from ssah_jax import losses


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
