"""Soft histograms: values, derivatives, bad options."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_oracles import assert_gradient, normal
from ranking_oracles import HISTOGRAMS, histogram_loop, mask

from ssah_jax.losses.soft_histogram import kind_histograms, soft_histogram


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


@pytest.mark.slow
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
