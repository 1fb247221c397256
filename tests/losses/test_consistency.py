"""What teachers tell of unlabelled images: SSDPH's pairs, ramps, and SSAH's masks."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import CODES, assert_gradient, codes, normal

from ssah_jax.losses.consistency import (
    centre_consistency,
    pair_consistency,
    pair_posterior,
    ramp_down,
    ramp_up,
    ssdph_loss,
)

# Oracles, one loop each.


def posterior_loop(u, v, scale=None):
    scale = 0.4 * 48 / u.shape[1] if scale is None else scale
    out = np.zeros((len(u), len(v)))
    for i, j in np.ndindex(*out.shape):
        logit = scale * sum(
            float(a) * float(b) for a, b in zip(u[i], v[j], strict=True)
        )
        out[i, j] = 0.5 * (1 + math.tanh(logit / 2))
    return out


# SSDPH.


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("name", CODES)
def test_pair_posterior_equals_the_loop(name, scale):
    u, v = codes(name), normal(1, 5, 8)
    found = pair_posterior(jnp.asarray(u), jnp.asarray(v), scale=scale)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, posterior_loop(u, v, scale), rtol=1e-4, atol=1e-6)
    assert np.all((found >= 0) & (found <= 1))


@pytest.mark.parametrize("bits", [12, 48, 64])
def test_pair_posterior_of_equal_codes_does_not_depend_on_their_length(bits):
    found = pair_posterior(jnp.ones((1, bits)), jnp.ones((1, bits)) * 0.1)
    np.testing.assert_allclose(found, 1 / (1 + math.exp(-1.92)), rtol=1e-6)


@pytest.mark.parametrize("name", CODES)
def test_ssdph_loss_equals_the_loop(name):
    u, v = np.tanh(codes(name)), np.tanh(normal(1, 5, 8))
    target = np.random.default_rng(2).random((len(u), 5)).astype(np.float32)
    loss = ssdph_loss(*map(jnp.asarray, (u, v, target)))
    assert loss.dtype == jnp.float32
    wanted = (posterior_loop(u, v) - target) ** 2
    np.testing.assert_allclose(loss, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("where", [None, "random"])
def test_ssdph_loss_has_gradients_of_codes_and_anchors_but_not_of_the_target(where):
    u, v = np.tanh(normal(0, 6, 8)), np.tanh(normal(1, 5, 8))
    rng = np.random.default_rng(2)
    target = rng.random((6, 5)).astype(np.float32)
    mask = rng.random((6, 5)) < 0.5 if where else np.ones((6, 5), bool)
    options = {"where": jnp.asarray(mask)} if where else {}

    def oracle(u, v):
        return mask * (posterior_loop(u, v) - target) ** 2

    weights = normal(3, 6, 5)
    function = partial(ssdph_loss, target=jnp.asarray(target), **options)
    assert_gradient(
        lambda u: function(u, jnp.asarray(v)), lambda u: oracle(u, v), u, weights
    )
    assert_gradient(
        lambda v: function(jnp.asarray(u), v), lambda v: oracle(u, v), v, weights
    )
    of_target = jax.grad(
        lambda t: ssdph_loss(jnp.asarray(u), jnp.asarray(v), t, **options).sum()
    )(jnp.asarray(target))
    np.testing.assert_array_equal(of_target, np.zeros_like(target))


def test_a_student_like_its_teacher_has_no_ssdph_loss():
    teacher, known = jnp.tanh(normal(0, 6, 8)), jnp.tanh(normal(1, 5, 8))

    def loss(u, t):
        return ssdph_loss(u, known, pair_posterior(t, known)).sum()

    value, (of_u, of_teacher) = jax.value_and_grad(loss, (0, 1))(teacher, teacher)
    assert value == 0
    assert not np.any(of_u)
    # Also where the target is made inside, nothing reaches the teacher.
    of_teacher = jax.grad(loss, 1)(jnp.roll(teacher, 1, 0), teacher)
    assert not np.any(of_teacher)


def test_ramp_down():
    found = [float(ramp_down(jnp.asarray(step), length=50.0)) for step in (0, 25, 60)]
    np.testing.assert_allclose(found, [1, 0.5, 0], atol=1e-6)
    assert jax.jit(partial(ramp_down, length=50.0))(25) == found[1]
    assert ramp_down(0, length=0.0) == 1 and ramp_down(1, length=0.0) == 0


def test_ramp_up():
    steps = [0, 10, 25, 50, 80, 10**9]
    found = [ramp_up(jnp.asarray(step), length=50.0) for step in steps]
    wanted = [math.exp(-5 * (1 - min(step / 50, 1)) ** 2) for step in steps]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert found[3] == found[-1] == 1
    assert jax.jit(partial(ramp_up, length=50.0))(10) == found[1]
    # Without a ramp: no division by 0.
    assert ramp_up(1, length=0.0) == 1
    assert np.isfinite(ramp_up(0, length=0.0))


# The masks of SSAH's own.


@pytest.mark.parametrize("multi_label", [False, True])
def test_centre_consistency_of_masked_images_is_zero(multi_label):
    rng = np.random.default_rng(7)
    logits, target = normal(6, 5, 4), rng.random((5, 4)).astype(np.float32)
    sure, where = jnp.ones((5, 4), bool), np.array([1, 0, 1, 1, 0], bool)

    def loss(logits, target, sure, where=None):
        return centre_consistency(
            jnp.asarray(logits),
            jnp.asarray(target),
            sure,
            multi_label=multi_label,
            where=where,
        )

    found = loss(logits, target, sure, jnp.asarray(where))
    np.testing.assert_array_equal(found[~where], 0)
    wanted = loss(logits[where], target[where], sure[where])
    np.testing.assert_allclose(found[where], wanted, rtol=1e-6)
    assert np.all(wanted > 0)


def test_pair_consistency_of_masked_pairs_is_zero():
    arrays = [*map(jnp.asarray, (normal(0, 5, 8), normal(1, 3, 8)))]
    rng = np.random.default_rng(2)
    arrays.append(jnp.asarray(rng.random((5, 3)), jnp.float32))
    where = rng.random((5, 3)) < 0.5
    found = pair_consistency(*arrays, where=jnp.asarray(where))
    np.testing.assert_allclose(found, where * pair_consistency(*arrays), rtol=1e-6)
