"""Ranking losses and soft histograms against loops in NumPy."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.core import jaxprs_in_params
from loss_oracles import LABELS, assert_gradient, codes, normal

from ssah_jax.losses.ranking import (
    dtsh_loss,
    dtsh_sampled_loss,
    mihash_loss,
    talr_loss,
    valid_anchors,
)
from ssah_jax.losses.soft_histogram import kind_histograms, soft_histogram
from ssah_jax.retrieval.tie_aware import expected_average_precision

# Oracles, one loop each.


def histogram_loop(distance, weight, bins, limit):
    out = np.zeros((len(distance), bins + 1))
    width = limit / bins
    for i, j in np.ndindex(*distance.shape):
        d = min(max(float(distance[i, j]), 0.0), limit)
        for b in range(bins + 1):
            out[i, b] += float(weight[i, j]) * max(0.0, 1 - abs(d - b * width) / width)
    return out


def inner_loop(u, v):
    out = np.zeros((len(u), len(v)))
    for i, j in np.ndindex(*out.shape):
        out[i, j] = sum(float(a) * float(b) for a, b in zip(u[i], v[j], strict=True))
    return out


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


def dtsh_loop(u, v, similar, where, margin, scale):
    product = scale * inner_loop(u, v)
    out = np.zeros(len(u))
    for i in range(len(u)):
        terms = []
        for p in np.flatnonzero(similar[i] & where[i]):
            for n in np.flatnonzero(~similar[i] & where[i]):
                x = margin - (product[i, p] - product[i, n])
                terms.append(max(x, 0.0) + math.log1p(math.exp(-abs(x))))
        out[i] = sum(terms) / len(terms) if terms else 0.0
    return out


# Inputs.

SQUASHED = ("random", "one row", "duplicate rows", "saturated", "zero rows", "all zero")
MASKS = ("all", "not self", "random", "one row", "empty")


def squashed(name):
    """Codes in [-1, 1]; saturated ones are +-1 exactly."""
    return np.tanh(codes(name)).astype(np.float32)


def mask(name, rows, columns=None):
    columns = columns or rows
    return {
        "all": np.ones((rows, columns), bool),
        "not self": ~np.eye(rows, columns, dtype=bool),
        "random": np.random.default_rng(4).random((rows, columns)) < 0.6,
        "one row": np.broadcast_to(np.arange(rows)[:, None] == 3, (rows, columns)),
        "empty": np.zeros((rows, columns), bool),
    }[name]


def overlap(kind, rows):
    labels = LABELS[kind][:rows]
    return labels @ labels.T > 0.5


def on_device(function, similar, where=None, **options):
    """The loss as a function of both codes."""
    similar = jnp.asarray(similar)
    where = None if where is None else jnp.asarray(where)
    return jax.jit(lambda u, v: function(u, v, similar, where=where, **options))


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


# Soft histograms.


HISTOGRAMS = {
    options: jax.jit(partial(soft_histogram, bins=options[0], limit=options[1]))
    for options in ((1, 20.0), (4, 8.0), (7, 0.5))
}


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(list(HISTOGRAMS)),
    st.lists(st.floats(-0.5, 1.5, width=32), min_size=4, max_size=4),
)
def test_soft_histogram_equals_the_loop_and_keeps_the_weight(options, distances):
    distance = options[1] * np.array(distances, np.float32).reshape(2, 2)
    weight = np.array([[1.0, 0.25], [0.0, 2.0]], np.float32)
    found = HISTOGRAMS[options](distance, weight)
    wanted = histogram_loop(distance, weight, *options)
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    np.testing.assert_allclose(found.sum(axis=1), weight.sum(axis=1), rtol=1e-5)


def test_soft_histogram_has_the_right_derivative_at_a_centre_and_the_left_at_limit():
    one = jnp.ones((1, 1))
    jacobian = jax.jit(
        jax.jacrev(lambda d: soft_histogram(d, one, bins=4, limit=8.0)[0])
    )

    def derivative(d):
        return jacobian(jnp.asarray([[d]]))[:, 0, 0]

    half = 0.5  # One over the width of a bin.
    np.testing.assert_array_equal(derivative(0.0), [-half, half, 0, 0, 0])
    np.testing.assert_array_equal(derivative(4.0), [0, 0, -half, half, 0])
    np.testing.assert_array_equal(derivative(8.0), [0, 0, 0, -half, half])
    for outside in (-1.0, 8.5, 1e9):
        assert not derivative(outside).any()


def test_soft_histogram_of_nan_spoils_its_own_row_only():
    distance = np.array([[1.0, 2.0], [math.nan, 2.0], [3.0, 8.0]], np.float32)
    found = HISTOGRAMS[4, 8.0](distance, np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(
        found[::2], [[0.5, 1.5, 0, 0, 0], [0, 0.5, 0.5, 0, 1]]
    )
    assert np.isnan(found[1]).any()


def test_soft_histogram_gradient_of_weight_and_forward_mode():
    distance, weight = 6 * np.random.default_rng(0).random((2, 3, 5), np.float32)
    f = jax.jit(partial(soft_histogram, bins=4, limit=6.0))
    cotangent = normal(3, 3, 5)
    assert_gradient(
        lambda w: f(jnp.asarray(distance), w),
        lambda w: histogram_loop(distance, w, 4, 6.0),
        weight,
        cotangent,
    )
    assert_gradient(
        lambda d: f(d, jnp.asarray(weight)),
        lambda d: histogram_loop(d, weight, 4, 6.0),
        distance,
        cotangent,
    )
    args = (jnp.asarray(distance), jnp.asarray(weight))
    forward, backward = jax.jacfwd(f)(*args), jax.jacrev(f)(*args)
    np.testing.assert_allclose(forward, backward, atol=1e-6)


def test_kind_histograms_are_two_soft_histograms():
    distance = 6 * np.random.default_rng(0).random((3, 5), np.float32)
    kind, where = mask("random", 3, 5), np.random.default_rng(1).random((3, 5)) < 0.7
    options = {"bins": 4, "limit": 6.0}
    for counted in (None, where):
        found = kind_histograms(
            jnp.asarray(distance),
            jnp.asarray(kind),
            None if counted is None else jnp.asarray(counted),
            **options,
        )
        keep = np.ones((3, 5), bool) if counted is None else counted
        for histogram, weight in zip(found, (kind & keep, ~kind & keep), strict=True):
            wanted = histogram_loop(distance, weight, **options)
            np.testing.assert_allclose(histogram, wanted, atol=1e-6)


@pytest.mark.parametrize("option", [{"bins": 0}, {"limit": 0.0}, {"limit": math.nan}])
def test_soft_histogram_names_a_bad_option(option):
    options = {"bins": 4, "limit": 8.0} | option
    with pytest.raises(ValueError, match=rf"^{next(iter(option))}: found .*accepted"):
        soft_histogram(jnp.ones((1, 1)), jnp.ones((1, 1)), **options)


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


# DTSH.


def test_dtsh_presets():
    u, v, similar = normal(0, 4, 8), normal(1, 9, 8), mask("random", 4, 9)
    for options, margin, scale in (
        ({}, 5.0, 1.0),
        ({"margin": 4.0, "scale": 0.5}, 4.0, 0.5),
    ):
        wanted = dtsh_loop(u, v, similar, mask("all", 4, 9), margin, scale)
        np.testing.assert_allclose(
            on_device(dtsh_loss, similar, **options)(u, v), wanted, rtol=1e-5
        )


@pytest.mark.parametrize("name", ["grad", "value"])
def test_dtsh_keeps_no_triplets(name):
    # [B, M, M] would be 64 times [B, M].
    rows, columns = 3, 64
    v, similar = jnp.zeros((columns, 2)), jnp.asarray(mask("random", rows, columns))
    function = lambda u: dtsh_loss(u, v, similar).sum()  # noqa: E731
    function = jax.grad(function) if name == "grad" else function
    largest = max(sizes(jax.make_jaxpr(function)(jnp.zeros((rows, 2))).jaxpr))
    assert largest <= 4 * rows * columns


def sizes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (out.aval.size for out in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from sizes(inner)


def test_dtsh_sampled_loss_is_unbiased():
    u, v = normal(0, 5, 4), normal(1, 9, 4)
    similar = np.random.default_rng(2).random((5, 9)) < 0.4
    similar[3], similar[4] = True, False
    where = mask("random", 5, 9)
    exact = on_device(dtsh_loss, similar, where, margin=1.0)(u, v)
    args = [jnp.asarray(x) for x in (u, v, similar)]
    draw = jax.jit(
        jax.vmap(
            lambda key: dtsh_sampled_loss(
                key, *args, draws=3, margin=1.0, where=jnp.asarray(where)
            )
        )
    )
    drawn = np.asarray(draw(jax.random.split(jax.random.key(5), 4000)))
    error = drawn.std(axis=0) / math.sqrt(len(drawn))
    assert np.all(drawn.std(axis=0)[:3] > 0.1)
    assert np.all(np.abs(drawn.mean(axis=0) - exact) <= 4 * error)
    assert not drawn[:, 3:].any()


def test_dtsh_sampled_loss_draws_every_column_of_its_kind_alike():
    # Products are the columns' numbers: a draw shows in the loss which it was.
    number = np.array([[3.0], [50.0], [7.0], [20.0], [90.0], [1.0], [5.0]], np.float32)
    similar = np.array([[True, False, True, True, False, False, True]])
    where = np.array([[True, True, True, True, True, True, False]])
    draw = jax.jit(
        jax.vmap(
            lambda key: dtsh_sampled_loss(
                key,
                jnp.ones((1, 1)),
                jnp.asarray(number),
                jnp.asarray(similar),
                draws=1,
                margin=1000.0,
                where=jnp.asarray(where),
            )[0]
        )
    )
    # margin - p + n, and softplus of that is the same.
    found = 1000 - np.asarray(draw(jax.random.split(jax.random.key(1), 9000)))
    wanted = [p - n for p in (3, 7, 20) for n in (50, 90, 1)]
    values, counts = np.unique(found.round().astype(int), return_counts=True)
    assert sorted(wanted) == values.tolist()
    assert np.all(np.abs(counts - 1000) < 5 * math.sqrt(1000))


def test_dtsh_sampled_loss_of_one_triplet_is_exact(key):
    u, v = normal(0, 1, 4), normal(1, 2, 4)
    similar = np.array([[False, True]])
    rest = jnp.asarray(v), jnp.asarray(similar)
    f = jax.jit(lambda u: dtsh_sampled_loss(key, u, *rest))
    assert_gradient(
        f, lambda u: dtsh_loop(u, v, similar, mask("all", 1, 2), 5.0, 1.0), u, 1.0
    )


def test_dtsh_sampled_loss_has_no_nan(key):
    u = codes("saturated")
    f = jax.jit(
        jax.value_and_grad(
            lambda u, similar, where: dtsh_sampled_loss(
                key, u, u, similar, draws=2, where=where
            ).sum()
        )
    )
    for kind, which in itertools.product(LABELS, MASKS):
        value, gradient = f(u, overlap(kind, 6), mask(which, 6))
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_dtsh_sampled_loss_names_bad_draws(key):
    u = jnp.ones((2, 4))
    with pytest.raises(ValueError, match=r"^draws: found 0, accepted is at least 1$"):
        dtsh_sampled_loss(key, u, u, jnp.eye(2, dtype=bool), draws=0)


# Anchors.


def test_valid_anchors():
    similar = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 0], [1, 0, 1]], bool)
    where = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1], [0, 1, 0]], bool)
    check = partial(valid_anchors, jnp.asarray(similar))
    assert check().tolist() == [True, False, False, True]
    assert check(dissimilar=False).tolist() == [True, True, False, True]
    assert check(where=jnp.asarray(where)).tolist() == [True, False, False, False]
    assert check(where=jnp.asarray(where), dissimilar=False).tolist() == [
        True,
        True,
        False,
        False,
    ]
