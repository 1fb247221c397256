"""Losses of codes by themselves against loops in NumPy: values, gradients, kinks.

See `loss_oracles` for what they are compared with. The value and the gradient of
`cosine_quantisation` are tested in `test_losses`; its mask is tested here.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from loss_oracles import CODES, SMOOTH, assert_gradient, codes, normal, step_for
from several_devices import first_devices

from ssah_jax.losses.quantisation import (
    absolute_quantisation,
    bit_balance,
    bit_independence,
    code_balance,
    cosine_quantisation,
    cubic_quantisation,
    dch_quantisation,
    log_cosh_quantisation,
    squared_quantisation,
)
from ssah_jax.losses.reduce import all_rows

AXIS = "batch"


# Oracles, one loop each.


def mean_loop(of_bit):
    def loop(u):
        return np.array([sum(of_bit(float(x)) for x in row) / len(row) for row in u])

    return loop


def squared(x):
    sign = 1.0 if x >= 0 else -1.0
    return (x - sign) ** 2


def log_cosh(x):
    x = abs(x) - 1
    return np.logaddexp(x, -x) - math.log(2)


def dch_loop(u, gamma, limit):
    out = []
    for row in u:
        length = max(math.sqrt(sum(float(x) ** 2 for x in row)), 1e-6)
        cosine = sum(abs(float(x)) for x in row) / (length * math.sqrt(len(row)))
        d = len(row) / 2 * (1 - min(cosine, limit))
        out.append(math.log(1 + d / gamma))
    return np.array(out)


def bit_balance_loop(u):
    means = [sum(float(x) for x in column) / len(u) for column in u.T]
    return np.array([x**2 for x in means])


def bit_independence_loop(u):
    bits = u.shape[1]
    out = np.zeros((bits, bits))
    for k, m in np.ndindex(bits, bits):
        total = sum(float(row[k]) * float(row[m]) for row in u)
        out[k, m] = (total / len(u) - (k == m)) ** 2
    return out


# By name: the loss, its loop, and whether it has a value for each code.
LOSSES = {
    "absolute": (absolute_quantisation, mean_loop(lambda x: abs(abs(x) - 1)), True),
    "squared": (squared_quantisation, mean_loop(squared), True),
    "log cosh": (log_cosh_quantisation, mean_loop(log_cosh), True),
    "cubic": (cubic_quantisation, mean_loop(lambda x: abs(abs(x) - 1) ** 3), True),
    "dch": (dch_quantisation, partial(dch_loop, gamma=20.0, limit=0.99), True),
    "dch, gamma": (
        partial(dch_quantisation, gamma=3.0, limit=0.85),
        partial(dch_loop, gamma=3.0, limit=0.85),
        True,
    ),
    "code balance": (code_balance, lambda u: mean_loop(float)(u) ** 2, True),
    "bit balance": (bit_balance, bit_balance_loop, False),
    "bit independence": (bit_independence, bit_independence_loop, False),
}


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_equals_the_loop(loss, name):
    function, loop, _ = LOSSES[loss]
    u = codes(name)
    found, wanted = function(jnp.asarray(u)), loop(u)
    assert found.dtype == jnp.float32
    scale = max(1.0, np.abs(wanted).max())
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6 * scale)
    # log cosh may miss 0 by its rounding.
    assert np.all(found >= -1e-9)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_that_of_the_loop(loss, name):
    function, loop, _ = LOSSES[loss]
    u = codes(name)
    weights = normal(3, *loop(u).shape)
    assert_gradient(function, loop, u, weights, step_for(name))


@pytest.mark.parametrize("loss", [*LOSSES, "cosine"])
def test_masked_codes_are_those_left_out(loss):
    one_each = LOSSES.get(loss, (cosine_quantisation, None, True))
    function, _, has_rows = one_each
    u = normal(0, 6, 8)
    rows = np.array([True, False, True, True, False, True])
    wanted = np.asarray(function(jnp.asarray(u[rows])))
    u[~rows] = 1e4

    def total(u):
        values = function(u, where=jnp.asarray(rows))
        return values.sum(), values

    gradient, found = jax.grad(total, has_aux=True)(jnp.asarray(u))
    found = np.asarray(found)
    np.testing.assert_allclose(found[rows] if has_rows else found, wanted, rtol=1e-5)
    assert np.abs(wanted).max() > 1e-3
    assert not np.any(gradient[~rows])
    assert np.any(gradient[rows])
    if has_rows:
        assert not found[~rows].any()


@pytest.mark.parametrize("function", [bit_balance, bit_independence])
def test_without_codes_there_is_nothing_to_balance(function):
    u = 1e4 * jnp.ones((3, 4))
    where = jnp.zeros(3, bool)
    np.testing.assert_array_equal(function(u, where=where), 0.0)
    gradient = jax.grad(lambda u: function(u, where=where).sum())(u)
    np.testing.assert_array_equal(gradient, 0.0)
    np.testing.assert_array_equal(function(jnp.zeros((0, 4))), 0.0)


# Kinks.


@pytest.mark.parametrize(
    ("function", "at_zero"),
    [
        (absolute_quantisation, -1.0),
        (squared_quantisation, -2.0),
        (log_cosh_quantisation, -math.tanh(1.0)),
        (cubic_quantisation, -3.0),
    ],
)
def test_a_bit_at_zero_moves_up_and_one_at_a_sign_rests(function, at_zero):
    u = jnp.asarray([[0.0, -0.0, 1.0, -1.0]])
    gradient = jax.grad(lambda u: function(u).sum())(u)
    np.testing.assert_allclose(gradient, [[at_zero / 4] * 2 + [0, 0]], rtol=1e-6)
    # Beside them it has the signs one expects.
    near = jnp.asarray([[0.5, -0.5, 1.5, -1.5]])
    gradient = jax.grad(lambda u: function(u).sum())(near)
    np.testing.assert_array_equal(np.sign(gradient), [[-1, 1, 1, -1]])


def test_the_quantiser_of_dsh_has_a_gradient():
    # DeepHash-pytorch once took |sign u - 1|, which has none (its issue 16).
    u = jnp.asarray([[0.2, -0.3, 2.0, -3.0]])
    gradient = jax.grad(lambda u: absolute_quantisation(u).sum())(u)
    np.testing.assert_allclose(gradient, [[-0.25, 0.25, 0.25, -0.25]])


@pytest.mark.parametrize("loss", ["absolute", "squared", "log cosh", "cubic"])
def test_codes_cost_nothing(loss):
    function, _, _ = LOSSES[loss]
    signs = jnp.sign(normal(0, 5, 8))
    np.testing.assert_array_equal(function(signs), 0.0)


def test_log_cosh_keeps_the_digits_of_a_small_excess():
    excess = 2.0 ** np.arange(-12, -2)
    u = jnp.asarray(1 + excess, jnp.float32)[:, None]
    wanted = [math.log(math.cosh(x)) for x in excess]
    np.testing.assert_allclose(log_cosh_quantisation(u), wanted, rtol=1e-3)


def test_log_cosh_of_a_long_code_does_not_overflow():
    u = jnp.asarray([[1e30, -1e30], [100.0, -100.0]])
    value, gradient = jax.value_and_grad(lambda u: log_cosh_quantisation(u).sum())(u)
    np.testing.assert_allclose(value, 1e30, rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0.5, -0.5]] * 2, rtol=1e-6)


# DCH.


@pytest.mark.parametrize("name", CODES)
def test_dch_quantisation_stays_in_the_range_it_documents(name):
    found = np.asarray(dch_quantisation(jnp.asarray(codes(name))))
    assert np.all(found >= math.log1p(4 * 0.01 / 20) * (1 - 1e-4))
    assert np.all(found <= math.log1p(4 / 20) * (1 + 1e-6))


def test_dch_quantisation_at_the_limit_has_no_gradient():
    # Of four bits one is sure: the cosine of this code and its signs is 1/2 exactly.
    u = jnp.asarray([[5.0, 0.0, 0.0, 0.0]])
    error = float(cosine_quantisation(u)[0])
    assert error == 0.5
    gradient = jax.grad(lambda u, limit: dch_quantisation(u, limit=limit).sum())
    np.testing.assert_array_equal(gradient(u, 0.5), 0.0)
    np.testing.assert_array_equal(gradient(u, 0.4), 0.0)
    # Not at the limit, the other bits are pushed up from 0.
    assert np.all(gradient(u, 0.6)[0, 1:] < -1e-4)


def test_dch_quantisation_of_a_zero_code():
    value, gradient = jax.value_and_grad(lambda u: dch_quantisation(u).sum())(
        jnp.zeros((1, 8))
    )
    np.testing.assert_allclose(value, math.log1p(4 / 20), rtol=1e-6)
    assert np.isfinite(gradient).all()


# Balance.


def test_balanced_and_independent_codes_cost_nothing():
    hadamard = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    u = jnp.asarray(np.concatenate([hadamard, -hadamard]), jnp.float32)
    np.testing.assert_array_equal(bit_balance(u), 0.0)
    np.testing.assert_array_equal(bit_independence(u), 0.0)
    np.testing.assert_array_equal(code_balance(u), [1, 0, 0, 0, 1, 0, 0, 0])


@pytest.mark.parametrize("function", [bit_balance, bit_independence])
def test_gathered_codes_are_those_of_all_devices(function):
    u = jnp.asarray(normal(0, 8, 4))
    weights = jnp.asarray(normal(1, *function(u).shape))
    where = jnp.asarray([True, False] * 2 + [True] * 4)

    def alone(u):
        return jnp.sum(function(u, where=where) * weights)

    def share(u, where):
        counts = all_rows(where.astype(jnp.int32), AXIS) > 0
        values = function(all_rows(u, AXIS), where=counts)
        return jnp.sum(values * weights)[None] / 4

    mapped = jax.shard_map(
        share,
        mesh=Mesh(np.asarray(first_devices(4)), (AXIS,)),
        in_specs=P(AXIS),
        out_specs=P(AXIS),
        check_vma=False,
    )
    found = jax.jit(jax.value_and_grad(lambda u: jnp.sum(mapped(u, where))))(u)
    wanted = jax.value_and_grad(alone)(u)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
