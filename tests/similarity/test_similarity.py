"""Similarities of labels, codes and posteriors against loops in NumPy."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_oracles import assert_gradient, cosine_loop, normal

from ssah_jax import similarity

LABELS = np.array(
    [[1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 1], [1, 0, 0]], np.float32
)
ONE_LABEL = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]]


def posterior(seed, rows=6, classes=3, multi_label=False):
    p = np.random.default_rng(seed).random((rows, classes)).astype(np.float32)
    return p if multi_label else p / p.sum(1, keepdims=True)


# Codes.


def rows(name):
    u = normal(0, 5, 8)
    if name == "one row":
        return u[:1]
    if name == "duplicate rows":
        return u[[0, 0, 1, 0, 1]]
    if name == "saturated":
        return np.where(u > 0, 1e4, -1e4).astype(np.float32)
    if name == "zero rows":
        u[[1, 3]] = 0.0
    if name == "tiny rows":
        return (1e-8 * u).astype(np.float32)
    return u


STEPS = {"zero rows": 1e-9, "tiny rows": 1e-9, "saturated": 1.0}


@pytest.mark.parametrize(
    "name",
    ["random", "one row", "duplicate rows", "saturated", "zero rows", "tiny rows"],
)
def test_cosine_equals_the_loop(name):
    u, v = rows(name), normal(1, 4, 8)
    function = partial(similarity.cosine, v=jnp.asarray(v))
    found = function(jnp.asarray(u))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, cosine_loop(u, v), rtol=1e-5, atol=1e-6)
    assert np.all(np.abs(found) <= 1 + 1e-6)
    assert_gradient(
        function,
        lambda u: cosine_loop(u, v),
        u,
        normal(2, len(u), 4),
        STEPS.get(name, 1e-5),
    )


def test_a_zero_row_has_cosine_zero_with_everything():
    u = jnp.zeros((2, 8))
    np.testing.assert_array_equal(similarity.cosine(u, u), np.zeros((2, 2)))
    gradient = jax.grad(lambda u: similarity.cosine(u, u).sum())(u)
    assert not np.any(gradient)


def test_unit_rows_have_length_one_or_less_than_epsilon_would_make_them():
    u = jnp.asarray([[3.0, 4.0], [0.0, 0.0], [3e-3, 4e-3]])
    found = similarity.unit_rows(u, epsilon=1e-2)
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, 0.0], [0.3, 0.4]], rtol=1e-6)


def test_bfloat16_codes_are_compared_in_float32():
    u, v = jnp.asarray(normal(0, 5, 64)), jnp.asarray(normal(1, 4, 64))
    short = (u.astype(jnp.bfloat16), v.astype(jnp.bfloat16))
    for function in (
        lambda u, v: similarity.unit_rows(u),
        similarity.cosine,
        partial(similarity.class_logits, scale=10.0),
    ):
        found = function(*short)
        assert found.dtype == jnp.float32
        exact = function(*(x.astype(jnp.float32) for x in short))
        np.testing.assert_array_equal(found, exact)


def test_class_logits_are_scaled_cosines():
    u, centres = normal(0, 5, 8), np.sign(normal(1, 3, 8))
    found = similarity.class_logits(
        jnp.asarray(u), jnp.asarray(centres), scale=7.0, offset=0.3
    )
    np.testing.assert_allclose(
        found, 7.0 * (cosine_loop(u, centres) - 0.3), rtol=1e-5, atol=1e-5
    )
    plain = similarity.class_logits(jnp.asarray(u), jnp.asarray(centres), scale=7.0)
    np.testing.assert_allclose(found + 2.1, plain, rtol=1e-5, atol=1e-5)


# Labels.


@pytest.mark.parametrize("labels", [LABELS, ONE_LABEL, LABELS[3:4]])
def test_labels_overlap_equals_the_loop(labels):
    found = similarity.labels_overlap(jnp.asarray(labels), jnp.asarray(LABELS))
    wanted = [
        [any(a * b for a, b in zip(x, y, strict=True)) for y in LABELS] for x in labels
    ]
    assert found.dtype == bool
    np.testing.assert_array_equal(found, wanted)


def test_not_self_is_false_where_a_column_is_the_row():
    found = similarity.not_self(jnp.asarray(4), 2, 8)
    wanted = np.ones((2, 8), bool)
    wanted[0, 4] = wanted[1, 5] = False
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(
        similarity.not_self(jnp.asarray(0), 3, 3), ~np.eye(3, dtype=bool)
    )


# Posteriors.


def test_class_posterior_is_a_softmax_or_sigmoids():
    logits = 3 * normal(0, 5, 4)
    single = similarity.class_posterior(jnp.asarray(logits), multi_label=False)
    several = similarity.class_posterior(jnp.asarray(logits), multi_label=True)
    for i, row in enumerate(logits):
        weights = [math.exp(x) for x in row]
        for c, x in enumerate(row):
            np.testing.assert_allclose(single[i, c], weights[c] / sum(weights), 1e-5)
            np.testing.assert_allclose(several[i, c], 1 / (1 + math.exp(-x)), 1e-5)
    for multi_label in (False, True):
        extreme = jnp.asarray([[1e4, -1e4, 0.0]])
        function = partial(similarity.class_posterior, multi_label=multi_label)
        assert np.isfinite(function(extreme)).all()
        assert np.isfinite(jax.grad(lambda x, f=function: f(x)[0, 0])(extreme)).all()


def align_loop(p, prior, predicted, multi_label, epsilon=1e-4):
    def odds(x):
        x = min(max(float(x), epsilon), 1 - epsilon)
        return x / (1 - x)

    out = np.zeros(p.shape)
    for i, row in enumerate(p):
        if multi_label:
            for c, x in enumerate(row):
                changed = odds(x) * odds(prior[c]) / odds(predicted[c])
                out[i, c] = changed / (1 + changed)
        else:
            weighted = [
                float(x) * max(float(a), epsilon) / max(float(b), epsilon)
                for x, a, b in zip(row, prior, predicted, strict=True)
            ]
            out[i] = np.array(weighted) / sum(weighted)
    return out


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("prior", "predicted"),
    [
        ([0.2, 0.5, 0.3], [0.6, 0.3, 0.1]),
        ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0]),
        ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
    ],
)
@pytest.mark.parametrize("case", ["random", "certain"])
def test_align_posterior_equals_the_loop(prior, predicted, multi_label, case):
    p = posterior(0, multi_label=multi_label)
    if case == "certain":
        p = ONE_LABEL
    function = partial(
        similarity.align_posterior,
        prior=jnp.asarray(prior),
        predicted=jnp.asarray(predicted),
        multi_label=multi_label,
    )
    found = function(jnp.asarray(p))
    # The probability 1 - 1e-4 itself is known to 6e-8 only: 6e-4 of its complement.
    np.testing.assert_allclose(
        found, align_loop(p, prior, predicted, multi_label), rtol=1e-3, atol=1e-6
    )
    if not multi_label:
        np.testing.assert_allclose(found.sum(1), np.ones(len(p)), rtol=1e-5)
    gradient = jax.grad(lambda p: function(p)[:, 0].sum())(jnp.asarray(p))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("multi_label", [False, True])
def test_alignment_changes_nothing_where_the_marginals_agree(multi_label):
    p = jnp.asarray(posterior(0, multi_label=multi_label))
    marginal = jnp.asarray([0.2, 0.5, 0.3])
    found = similarity.align_posterior(p, marginal, marginal, multi_label=multi_label)
    np.testing.assert_allclose(found, p, rtol=1e-5, atol=1e-6)


def test_alignment_favours_what_was_predicted_too_rarely():
    p = jnp.asarray([[0.4, 0.35, 0.25]])
    prior, predicted = jnp.asarray([0.3, 0.4, 0.3]), jnp.asarray([0.6, 0.2, 0.2])
    for multi_label in (False, True):
        found = similarity.align_posterior(p, prior, predicted, multi_label=multi_label)
        assert found[0, 0] < p[0, 0]
        assert found[0, 1] > p[0, 1]
        assert jnp.argmax(found) == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 1.0), st.booleans())
def test_confident_equals_the_loop(seed, gate, multi_label):
    p = posterior(seed, multi_label=multi_label)
    found = similarity.confident(jnp.asarray(p), gate=gate, multi_label=multi_label)
    gate = float(np.float32(gate))
    for i, row in enumerate(p):
        for c, x in enumerate(row):
            sure = x >= gate or x <= 1 - gate if multi_label else max(row) >= gate
            assert found[i, c] == sure
    assert found.dtype == bool


def test_confident_includes_the_gate_itself():
    p = jnp.asarray([[0.75, 0.25, 0.5]])
    found = similarity.confident(p, gate=0.75, multi_label=True)
    np.testing.assert_array_equal(found, [[True, True, False]])
    assert similarity.confident(p, gate=0.75, multi_label=False).all()
    assert not similarity.confident(p, gate=0.76, multi_label=False).any()


def pair_probability_loop(p, q, multi_label):
    out = np.zeros((len(p), len(q)))
    for i, j in np.ndindex(*out.shape):
        products = [float(a) * float(b) for a, b in zip(p[i], q[j], strict=True)]
        if multi_label:
            absent = 1.0
            for x in products:
                absent *= 1 - x
            out[i, j] = 1 - absent
        else:
            out[i, j] = min(sum(products), 1.0)
    return out


@pytest.mark.parametrize("multi_label", [False, True])
def test_pair_probability_equals_the_loop(multi_label):
    p = posterior(0, multi_label=multi_label)
    p[1] = [1.0, 0.0, 0.0]
    p[2] = 0.0
    others = LABELS if multi_label else ONE_LABEL
    function = partial(
        similarity.pair_probability,
        others=jnp.asarray(others),
        multi_label=multi_label,
    )
    found = function(jnp.asarray(p))
    np.testing.assert_allclose(
        found, pair_probability_loop(p, others, multi_label), rtol=1e-5, atol=2e-6
    )
    assert np.all((found >= 0) & (found <= 1))
    assert np.isfinite(jax.grad(lambda p: function(p).sum())(jnp.asarray(p))).all()
    inside = np.clip(p, 0.05, 0.9)
    if not multi_label:
        inside /= inside.sum(1, keepdims=True) * 1.01  # Off the clip at 1.
    assert_gradient(
        function,
        lambda p: pair_probability_loop(p, others, multi_label),
        inside,
        normal(3, len(p), len(others)),
    )


@pytest.mark.parametrize("multi_label", [False, True])
def test_pair_probability_of_certain_labels_is_their_overlap(multi_label):
    labels = LABELS if multi_label else ONE_LABEL
    found = similarity.pair_probability(
        jnp.asarray(labels), jnp.asarray(labels), multi_label=multi_label
    )
    overlap = similarity.labels_overlap(jnp.asarray(labels), jnp.asarray(labels))
    np.testing.assert_allclose(found, overlap, atol=2e-6)
