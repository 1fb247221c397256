"""Ranking losses against loops in NumPy."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import LABELS, assert_gradient, codes, normal
from ranking_oracles import (
    MASKS,
    dtsh_loop,
    histogram_loop,
    inner_loop,
    mask,
    on_device,
    overlap,
)

from ssah_jax.losses.ranking import (
    dtsh_loss,
    mihash_loss,
    talr_loss,
)
from ssah_jax.retrieval.tie_aware import expected_average_precision


def kinds_loop(u, v, similar, where, bins):
    bits = u.shape[1]
    distance = (bits - inner_loop(u, v)) / 2
    return [
        histogram_loop(distance, kind & where, bins, bits)
        for kind in (similar, ~similar)
    ]


def mihash_loop(u, v, similar, where, bins):
    positive, negative = kinds_loop(u, v, similar, where, bins)
    out = np.zeros(len(u))
    for i in range(len(u)):
        n = positive[i].sum() + negative[i].sum()
        for kind in (positive[i], negative[i]):
            for d, here in enumerate(kind):
                if here > 0:
                    joint = here / n
                    alone = (positive[i, d] + negative[i, d]) / n * kind.sum() / n
                    out[i] -= joint * math.log(joint / alone)
    return out


def talr_loop(u, v, similar, where, bins):
    positive, negative = kinds_loop(u, v, similar, where, bins)
    out = np.zeros(len(u))
    for i in range(len(u)):
        precision = before = before_all = 0.0
        for c_plus, c_minus in zip(positive[i], negative[i], strict=True):
            upto, upto_all = before + c_plus, before_all + c_plus + c_minus
            precision += c_plus * (before + upto + 1) / (before_all + upto_all + 1)
            before, before_all = upto, upto_all
        relevant = (similar & where)[i].sum()
        out[i] = 1 - precision / relevant if relevant else 0.0
    return out


# Inputs.

SQUASHED = ("random", "one row", "duplicate rows", "saturated", "zero rows", "all zero")


def squashed(name):
    """Codes in [-1, 1]; saturated ones are +-1 exactly."""
    return np.tanh(codes(name)).astype(np.float32)


LOSSES = {
    "mihash": (mihash_loss, mihash_loop, {"bins": 5}),
    "mihash, one bin": (mihash_loss, mihash_loop, {"bins": 1}),
    "talr": (talr_loss, talr_loop, {"bins": 5}),
    "dtsh": (dtsh_loss, dtsh_loop, {"margin": 1.5, "scale": 0.5}),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_equals_the_loop(loss):
    function, oracle, options = LOSSES[loss]

    # Compiled once for all cases.
    @jax.jit
    def value_and_jacobian(u, similar, where):
        def f(u):
            return function(u, u, similar, where=where, **options)

        return f(u), jax.jacrev(f)(u)

    for name, kind, which in itertools.product(SQUASHED, LABELS, MASKS):
        u = squashed(name)
        similar, where = overlap(kind, len(u)), mask(which, len(u))
        found, gradient = value_and_jacobian(u, similar, where)
        wanted = oracle(u, u, similar, where, **options)
        message = f"{name}, {kind}, {which}"
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6, err_msg=message)
        assert found.dtype == jnp.float32
        assert np.isfinite(gradient).all(), message
        none = ~(similar & where).any(axis=1)
        if loss != "talr":
            none |= ~(~similar & where).any(axis=1)
        assert not found[none].any(), message
        assert not gradient[none].any(), message


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient(loss):
    function, oracle, options = LOSSES[loss]
    v = np.tanh(normal(1, 7, 8))
    similar = np.random.default_rng(2).random((6, 7)) < 0.4
    where = mask("random", 6, 7)
    f = on_device(function, similar, where, **options)
    oracle = partial(oracle, similar=similar, where=where, **options)
    weights = normal(3, 6)
    for name in ("random", "duplicate rows"):
        u = squashed(name)
        assert_gradient(lambda u: f(u, v), lambda u: oracle(u, v), u, weights)
    assert_gradient(lambda v: f(u, v), lambda v: oracle(u, v), v, weights)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_of_codes_with_themselves_is_the_sum_of_both(loss):
    function, oracle, options = LOSSES[loss]
    u, similar = squashed("random"), overlap("several labels", 6)
    where = mask("not self", 6)
    f = on_device(function, similar, where, **options)
    assert_gradient(
        lambda u: f(u, u),
        lambda u: oracle(u, u, similar, where, **options),
        u,
        normal(3, 6),
    )


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_columns_outside_the_mask_do_not_exist(loss):
    function, _, options = LOSSES[loss]
    u, v = squashed("random"), np.tanh(normal(1, 9, 8))
    similar = np.random.default_rng(2).random((6, 9)) < 0.4
    keep = np.arange(9) % 3 != 1
    masked = on_device(function, similar, np.tile(keep, (6, 1)), **options)
    left = on_device(function, similar[:, keep], **options)
    np.testing.assert_allclose(masked(u, v), left(u, v[keep]), rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda v: masked(u, v).sum())(jnp.asarray(v))
    assert not gradient[~keep].any()


@pytest.mark.parametrize("loss", LOSSES)
def test_long_codes_have_no_nan(loss):
    function, _, options = LOSSES[loss]
    # Of an odd number of bits, so that no product is 0.
    u, similar = codes("saturated", bits=7), overlap("one label", 6)
    f = on_device(function, similar, **options)
    value, gradient = jax.value_and_grad(lambda u: f(u, u).sum())(jnp.asarray(u))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    if loss != "dtsh":
        # Beyond the ends of the histogram nothing moves.
        assert not gradient.any()


def test_dtsh_of_long_codes_is_the_loop():
    u, similar = codes("saturated"), overlap("one label", 6)
    wanted = dtsh_loop(u, u, similar, mask("all", 6), 5.0, 1.0)
    found = on_device(dtsh_loss, similar)(u, u)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert wanted.max() > 1e7


# MIHash.


def test_mihash_is_the_entropy_of_similarity_when_the_distance_says_all():
    # Two similar columns at distance 0, two dissimilar ones at K.
    u = np.ones((1, 8), np.float32)
    v = np.concatenate([u, u, -u, -u])
    similar = np.array([[True, True, False, False]])
    loss = on_device(mihash_loss, similar)
    np.testing.assert_allclose(loss(u, v), [-math.log(2)], rtol=1e-6)
    # (CISiP-FIRe has no bin centred at K: what is there is lost.)
    one = on_device(mihash_loss, similar[:, 1:])(u, v[1:])
    np.testing.assert_allclose(one, [math.log(1 / 3) / 3 + 2 / 3 * math.log(2 / 3)])
    np.testing.assert_allclose(loss(u, np.tile(u, (4, 1))), [0.0], atol=1e-7)


def test_mihash_descends_where_similar_columns_come_near():
    # (CISiP-FIRe returns plus the information, whose descent makes codes useless.)
    u = jnp.asarray(squashed("random"))
    f = on_device(mihash_loss, overlap("one label", 6), mask("not self", 6))
    value, gradient = jax.value_and_grad(lambda u: f(u, u).sum())(u)
    assert value < 0
    assert f(u - 0.02 * gradient, u - 0.02 * gradient).sum() < value


def test_mihash_gradient_at_an_empty_bin_is_finite_and_does_not_jump():
    # A similar column alone at centre 2, dissimilar ones alone at centre 3.
    u = jnp.ones((1, 8))
    v = np.ones((4, 8), np.float32)
    v[0, :2] = v[1, :2] = v[2, :3] = v[3, :3] = -1.0
    similar = np.array([[True, True, False, False]])
    f = on_device(mihash_loss, similar)
    gradients = [
        jax.grad(lambda v: f(u, v)[0])(jnp.asarray(v))[0, 7]
        for v in (v, v - 1e-6 * np.eye(4, 8, 7, dtype=np.float32))
    ]
    # Towards the dissimilar ones the information falls: the loss rises with distance.
    assert all(-100.0 < g < -0.5 for g in gradients)
    assert abs(gradients[0] - gradients[1]) < 1.0


@pytest.mark.parametrize("loss", [mihash_loss, talr_loss])
def test_default_bins(loss):
    for bits in (31, 32):
        u, v = np.tanh(normal(0, 3, bits)), np.tanh(normal(1, 6, bits))
        similar = np.random.default_rng(2).random((3, 6)) < 0.5
        halved = loss is talr_loss and bits >= 32
        wanted = on_device(loss, similar, bins=bits // 2 if halved else bits)(u, v)
        np.testing.assert_array_equal(on_device(loss, similar)(u, v), wanted)


@pytest.mark.parametrize("bins", [1, 5, 12])
def test_ranges(bins):
    information = jax.jit(partial(mihash_loss, bins=bins))
    precision = jax.jit(partial(talr_loss, bins=bins))
    for seed in range(20):
        u, v = np.tanh(2 * normal(seed, 3, 12)), np.tanh(2 * normal(seed + 1, 9, 12))
        similar = np.random.default_rng(seed).random((3, 9)) < 0.5
        entropy = [
            -sum(p * math.log(p) for p in (s, 1 - s) if p) for s in similar.mean(axis=1)
        ]
        loss = information(u, v, similar)
        assert np.all((loss <= 1e-6) & (loss >= -np.array(entropy) - 1e-6))
        loss = precision(u, v, similar)
        assert np.all((loss >= 0) & (loss < 1))


# TALR.


def binary_case(seed, bits, columns, share=0.3):
    rng = np.random.default_rng(seed)
    u = rng.choice([-1.0, 1.0], (4, bits)).astype(np.float32)
    v = rng.choice([-1.0, 1.0], (columns, bits)).astype(np.float32)
    return u, v, rng.random((4, columns)) < share


def test_talr_of_binary_codes_is_the_sum_over_groups_of_equal_distance():
    u, v, similar = binary_case(0, 12, 40)
    distance = (u[:, None] != v[None]).sum(-1)
    wanted = []
    for d, s in zip(distance, similar, strict=True):
        # Each similar column has the precision at the middle of its group of ties.
        places = [
            ((s & (d < x)).sum() + (s & (d <= x)).sum() + 1)
            / ((d < x).sum() + (d <= x).sum() + 1)
            for x in d[s]
        ]
        wanted.append(1 - np.mean(places))
    found = on_device(talr_loss, similar, bins=12)(u, v)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_talr_of_binary_codes_is_close_to_the_exact_tie_aware_precision(seed):
    u, v, similar = binary_case(seed, 16, 200)
    # Codes with something to say: similar ones move towards the anchor.
    flip = similar[0] & (np.random.default_rng(9).random(200) < 0.7)
    v[flip, :10] = u[0, :10]
    distance = (u[:, None] != v[None]).sum(-1)
    count = np.stack([np.bincount(d, minlength=17) for d in distance])
    relevant = np.stack(
        [
            np.bincount(d[s], minlength=17)
            for d, s in zip(distance, similar, strict=True)
        ]
    )
    exact = expected_average_precision(count, relevant)
    found = 1 - on_device(talr_loss, similar, bins=16)(u, v)
    assert exact[0] > exact[1:].max() + 0.2
    np.testing.assert_allclose(found, exact, atol=0.02)


def test_talr_of_a_perfect_ranking_is_zero_and_of_the_worst_is_large():
    u = np.ones((1, 8), np.float32)
    v = np.repeat([[1.0], [1.0], [-1.0], [-1.0], [-1.0]], 8, axis=1)
    v = v.astype(np.float32)
    similar = np.array([[True, True, False, False, False]])
    assert on_device(talr_loss, similar)(u, v)[0] == 0.0
    # All dissimilar ones first: 1 - (2 + 1) / (3 + 5 + 1).
    worst = on_device(talr_loss, similar)(-u, v)[0]
    np.testing.assert_allclose(worst, 1 - 3 / 9, rtol=1e-6)
