"""Losses of codes by themselves against loops in NumPy: values, gradients, masks."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import (
    CODES,
    LABELS,
    assert_gradient,
    codes,
    cosine_loop,
    log_softmax_loop,
    normal,
    numeric_gradient,
    step_for,
)

from ssah_jax.losses.pointwise import (
    csq_loss,
    dpn_loss,
    greedyhash_loss,
    orthohash_loss,
    straight_through_sign,
)

TIES = np.array([1, -1, -1, 1, 1, -1, 1, -1], np.float32)


def signs_of(seed, classes):
    return np.sign(normal(seed, classes, 8))


def labels_of(kind, rows=6):
    return LABELS[kind][:rows]


# Oracles, one loop each. The table is that of the classes: centres or classifier.


def cross_entropy_loop(logits, row):
    log_p = log_softmax_loop(logits)
    own = [log_p[c] for c in range(len(row)) if row[c]]
    return -sum(own) / len(own) if own else 0.0


def orthohash_loop(u, labels, table, scale=8.0, margin=0.2):
    similarity = cosine_loop(u, table)
    return np.array(
        [
            cross_entropy_loop(
                [
                    scale * (s - margin * y)
                    for s, y in zip(similarity[i], row, strict=True)
                ],
                row,
            )
            for i, row in enumerate(labels)
        ]
    )


def classifier_loop(b, labels, table):
    out = []
    for code, row in zip(b, labels, strict=True):
        logits = [
            sum(float(x) * float(w) for x, w in zip(code, weights, strict=True))
            for weights in table
        ]
        out.append(cross_entropy_loop(logits, row))
    return np.array(out)


def greedyhash_loop(u, labels, table):
    return classifier_loop(np.where(u >= 0, 1.0, -1.0), labels, table)


def merged_bit(row, table, k):
    total = sum(float(table[c][k]) for c in range(len(row)) if row[c])
    return float(TIES[k]) if total == 0 else math.copysign(1, total)


def csq_loop(u, labels, table):
    out = []
    for code, row in zip(u, labels, strict=True):
        terms = []
        for k, x in enumerate(code):
            t = -2 * float(x) * merged_bit(row, table, k)
            terms.append(max(t, 0.0) + math.log1p(math.exp(-abs(t))))
        out.append(sum(terms) / len(terms) if any(row) else 0.0)
    return np.array(out)


def dpn_loop(u, labels, table, margin=1.0):
    out = []
    for code, row in zip(u, labels, strict=True):
        loss = 0.0
        for c, has in enumerate(row):
            for k, x in enumerate(code):
                if has:
                    loss += max(0.0, margin - float(x) * float(table[c][k]))
        out.append(loss)
    return np.array(out)


LOSSES = {
    "orthohash": (orthohash_loss, orthohash_loop),
    "greedyhash": (greedyhash_loss, greedyhash_loop),
    "csq": (partial(csq_loss, ties=jnp.asarray(TIES)), csq_loop),
    "dpn": (dpn_loss, dpn_loop),
}
OPTIONS = [
    ("orthohash", {"scale": 5.0, "margin": 0.5}),
    ("dpn", {"margin": 0.25}),
]


def inputs(name, kind, code):
    u = codes(code)
    labels = labels_of(kind, len(u))
    classes = labels.shape[1]
    table = normal(5, classes, 8) if name == "greedyhash" else signs_of(5, classes)
    return u, labels, table


def apply(function, u, labels, table, **options):
    return function(jnp.asarray(u), jnp.asarray(labels), jnp.asarray(table), **options)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", LOSSES)
def test_values_equal_the_loop(name, code, kind):
    function, oracle = LOSSES[name]
    u, labels, table = inputs(name, kind, code)

    def total(u):
        values = apply(function, u, labels, table)
        return jnp.sum(values), values

    gradient, values = jax.grad(total, has_aux=True)(jnp.asarray(u))
    assert np.isfinite(gradient).all()
    assert values.shape == (len(u),)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, oracle(u, labels, table), rtol=1e-5, atol=2e-6)
    without = ~labels.any(axis=1)
    assert not np.any(values[without])
    assert not np.any(gradient[without])


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_options_reach_the_equation(name, options):
    function, oracle = LOSSES[name]
    arrays = inputs(name, "several labels", "random")
    found = apply(function, *arrays, **options)
    np.testing.assert_allclose(found, oracle(*arrays, **options), rtol=1e-5)
    assert np.any(np.abs(found - apply(function, *arrays)) > 0.1)


@pytest.mark.parametrize("kind", ["one label", "several labels"])
@pytest.mark.parametrize("code", ["random", "one row", "saturated", "long rows"])
@pytest.mark.parametrize("name", ["orthohash", "csq", "dpn"])
def test_gradients_of_codes(name, code, kind):
    function, oracle = LOSSES[name]
    u, labels, table = inputs(name, kind, code)
    assert_gradient(
        lambda u: apply(function, u, labels, table),
        lambda u: oracle(u, labels, table),
        u,
        normal(3, len(u)),
        step_for(code),
    )


@pytest.mark.parametrize("code", ["random", "zero rows"])
@pytest.mark.parametrize("name", ["csq", "dpn"])
def test_zero_codes_are_no_kink(name, code):
    function, oracle = LOSSES[name]
    u, labels, table = inputs(name, "several labels", code)
    assert_gradient(
        lambda u: apply(function, u, labels, table),
        lambda u: oracle(u, labels, table),
        u,
        normal(3, len(u)),
    )


@pytest.mark.parametrize("kind", ["one label", "several labels"])
def test_gradient_of_the_classifier(kind):
    u, labels, table = inputs("greedyhash", kind, "random")
    assert_gradient(
        lambda w: greedyhash_loss(jnp.asarray(u), jnp.asarray(labels), w),
        lambda w: greedyhash_loop(u, labels, w),
        table,
        normal(3, len(u)),
    )


@pytest.mark.parametrize("where", ["random", "one row", "empty"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_mask_is_the_same_as_fewer_rows(name, where):
    function, _ = LOSSES[name]
    arrays = inputs(name, "several labels", "random")
    u, labels, table = arrays
    mask = {
        "random": np.array([1, 0, 1, 1, 1, 0], bool),
        "one row": np.arange(6) == 2,
        "empty": np.zeros(6, bool),
    }[where]

    def total(u, labels, **options):
        values = apply(function, u, labels, table, **options)
        return jnp.sum(values), values

    both = jax.value_and_grad(total, has_aux=True)
    (_, values), gradient = both(
        jnp.asarray(u), jnp.asarray(labels), where=jnp.asarray(mask)
    )
    assert not np.any(values[~mask])
    assert not np.any(gradient[~mask])
    if where != "empty":
        (_, few), of_few = both(jnp.asarray(u[mask]), jnp.asarray(labels[mask]))
        np.testing.assert_allclose(values[mask], few, rtol=1e-6)
        np.testing.assert_allclose(gradient[mask], of_few, rtol=1e-5, atol=1e-7)
        assert np.any(few)


# The straight-through sign.


def test_straight_through_sign_is_exactly_the_sign():
    u = jnp.asarray([[0.0, -0.0, 0.3, -0.3, 1e-30, -1e-30, 1e8, -1e8, 0.1, -0.7]])
    found = straight_through_sign(u)
    np.testing.assert_array_equal(found, [[1, 1, 1, -1, 1, -1, 1, -1, 1, -1]])
    many = normal(0, 100, 100)
    np.testing.assert_array_equal(
        straight_through_sign(jnp.asarray(many)), np.where(many >= 0, 1.0, -1.0)
    )


@pytest.mark.parametrize("code", CODES)
def test_straight_through_sign_has_the_gradient_of_the_identity(code):
    u = codes(code)
    weights = normal(1, *u.shape)
    gradient = jax.grad(lambda u: jnp.sum(straight_through_sign(u) * weights))(
        jnp.asarray(u)
    )
    np.testing.assert_array_equal(gradient, weights)


def test_straight_through_sign_of_bfloat16_is_float32():
    found = straight_through_sign(jnp.asarray([[0.3, -0.3]], jnp.bfloat16))
    assert found.dtype == jnp.float32


# GreedyHash.


@pytest.mark.parametrize("kind", ["one label", "several labels"])
@pytest.mark.parametrize("code", CODES)
def test_greedyhash_gradient_of_a_code_is_that_of_its_signs(code, kind):
    u, labels, table = inputs("greedyhash", kind, code)
    weights = normal(3, len(u))
    found = jax.grad(
        lambda u: jnp.sum(apply(greedyhash_loss, u, labels, table) * weights)
    )(jnp.asarray(u))
    wanted = numeric_gradient(
        lambda b: np.sum(classifier_loop(b, labels, table) * weights),
        np.where(u >= 0, 1.0, -1.0),
    )
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)


def test_greedyhash_asks_for_all_of_several_labels():
    # DeepHash-pytorch takes the argmax of the labels, which is the first of them.
    u, table = jnp.asarray(codes("random")[:1]), jnp.asarray(normal(5, 3, 8))
    each = [
        greedyhash_loss(u, jnp.asarray(np.eye(3, dtype=np.float32)[[c]]), table)
        for c in range(3)
    ]
    both = greedyhash_loss(u, jnp.asarray([[1.0, 0.0, 1.0]]), table)
    np.testing.assert_allclose(both, (each[0] + each[2]) / 2, rtol=1e-6)
    assert abs(float(both[0] - each[0][0])) > 0.1


# CSQ.


def test_csq_is_the_cross_entropy_of_the_squashed_bits():
    u, labels, table = inputs("csq", "one label", "random")
    target = (labels @ table + 1) / 2
    chance = (np.tanh(u.astype(np.float64)) + 1) / 2
    bits = -target * np.log(chance) - (1 - target) * np.log(1 - chance)
    found = apply(LOSSES["csq"][0], u, labels, table)
    np.testing.assert_allclose(found, bits.mean(axis=1), rtol=1e-5)


def test_csq_of_saturated_codes_is_their_distance():
    # The logarithm of a rounded probability would be 0 or infinite, and its gradient 0.
    table, labels = jnp.ones((1, 4)), jnp.ones((1, 1))
    u = jnp.asarray([[1e4, 1e4, -1e4, 1e4]])
    function = partial(csq_loss, labels=labels, centres=table, ties=jnp.ones(4))
    assert function(u)[0] == 2e4 / 4
    gradient = jax.grad(lambda u: function(u)[0])(u)
    np.testing.assert_array_equal(gradient, [[0.0, 0.0, -0.5, 0.0]])


def test_csq_where_labels_disagree_goes_to_the_ties():
    u, labels = jnp.asarray(normal(0, 1, 8)), jnp.ones((1, 2))
    table = jnp.asarray(np.stack([TIES, -TIES]))
    found = csq_loss(u, labels, table, jnp.asarray(TIES))
    alone = csq_loss(u, jnp.asarray([[1.0, 0.0]]), table, -jnp.asarray(TIES))
    np.testing.assert_array_equal(found, alone)
    assert np.abs(found - csq_loss(u, labels, table, -jnp.asarray(TIES)))[0] > 0.01


# DPN.


def test_dpn_at_the_hinge_has_no_gradient():
    centre = jnp.asarray([[1.0, -1.0, 1.0, -1.0]])
    # On the hinge, on the hinge, inside, outside.
    u = jnp.asarray([[0.5, -0.5, 0.25, -2.0]])
    function = partial(dpn_loss, labels=jnp.ones((1, 1)), centres=centre, margin=0.5)
    assert function(u)[0] == 0.25
    gradient = jax.grad(lambda u: function(u)[0])(u)
    np.testing.assert_array_equal(gradient, [[0.0, 0.0, -1.0, 0.0]])


def test_dpn_sums_over_bits_and_over_labels():
    # DeepHash-pytorch averages over bits and merges the centres of several labels.
    u, table = jnp.asarray(normal(0, 1, 8)), jnp.asarray(signs_of(5, 3))
    each = [dpn_loss(u, jnp.eye(3)[c : c + 1], table)[0] for c in range(3)]
    found = dpn_loss(u, jnp.asarray([[1.0, 0.0, 1.0]]), table)
    np.testing.assert_allclose(found[0], each[0] + each[2], rtol=1e-6)
    twice = dpn_loss(jnp.tile(u, 2), jnp.eye(3)[:1], jnp.tile(table, (1, 2)))
    np.testing.assert_allclose(twice[0], 2 * each[0], rtol=1e-6)


# OrthoHash.


def test_orthohash_has_its_margin_on_every_label():
    # OrthoHash's code does so for NUS-WIDE alone; of COCO's labels it takes the argmax.
    u, table = jnp.asarray(normal(0, 1, 8)), jnp.asarray(signs_of(5, 3))
    plain = partial(orthohash_loss, u, centres=table)
    # A margin on all classes moves all logits alike; on some of them it counts.
    np.testing.assert_allclose(
        plain(labels=jnp.ones((1, 3))), plain(labels=jnp.ones((1, 3)), margin=0.0), 1e-5
    )
    two = jnp.asarray([[1.0, 1.0, 0.0]])
    assert plain(labels=two)[0] > plain(labels=two, margin=0.0)[0]
