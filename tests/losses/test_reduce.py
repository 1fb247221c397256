"""Means, masks, types and devices: losses that are reduced, as a run reduces them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_oracles import (
    LABELS,
    codes,
    gradient_of,
    normal,
)
from ssah_oracles import balanced_loop, pair_loop

from ssah_jax import losses
from ssah_jax.similarity import labels_overlap


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


@pytest.mark.slow
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
