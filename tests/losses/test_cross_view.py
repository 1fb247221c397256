"""Agreement of two views and the coding rate, beside loops in double precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from loss_oracles import normal
from several_devices import first_devices

from ssah_jax import losses
from ssah_jax.losses.reduce import all_rows, all_sum

U, V = normal(0, 9, 6), normal(1, 9, 6)
WHERE = np.arange(9) % 3 > 0


def agreement_loop(u, v, scale):
    values = []
    for one, other in zip(u.astype(np.float64), v, strict=True):
        length = np.sqrt(sum(x * x for x in one))
        logits = [scale * np.sqrt(len(one)) * x / length for x in one]
        terms = [
            np.log1p(np.exp(-x if y >= 0 else x))
            for x, y in zip(logits, other, strict=True)
        ]
        values.append(sum(terms) / len(terms))
    return np.array(values)


def rate_loop(u, distortion):
    """The rate of the first k bits of all codes, for k = 0 to K."""
    u = u.astype(np.float64)
    bits, rates = u.shape[1], []
    for k in range(bits + 1):
        total = np.eye(k)
        for row in u:
            z = (row / np.sqrt(sum(row * row)))[:k]
            total += bits / (len(u) * distortion**2) * np.outer(z, z)
        rates.append(0.5 * np.linalg.slogdet(total)[1])
    return np.array(rates)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_agreement_is_the_loop(scale):
    found = losses.code_agreement_loss(U, V, scale=scale, where=WHERE)
    wanted = np.where(WHERE, agreement_loop(U, V, scale), 0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("distortion", [0.3, 0.5, 2.0])
def test_the_gap_is_the_loop_of_what_each_bit_adds(distortion):
    found = losses.coding_rate_gap(U, distortion=distortion, where=WHERE)
    most = 0.5 * np.log1p(1 / distortion**2)
    wanted = most - np.diff(rate_loop(U[WHERE], distortion))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_gradients_are_finite_differences():
    def total(u):
        agreement = losses.code_agreement_loss(u, V, where=WHERE)
        return jnp.sum(agreement) + jnp.sum(losses.coding_rate_gap(u, where=WHERE))

    def precise(u):
        rates = rate_loop(u[WHERE], 0.5)
        return agreement_loop(u, V, 4.0)[WHERE].sum() - rates[-1]

    found, u, step = np.asarray(jax.jit(jax.grad(total))(U)), U.astype(np.float64), 1e-6
    for row, bit in ((1, 0), (2, 5), (4, 3), (0, 0)):
        change = np.zeros_like(u)
        change[row, bit] = step
        wanted = (precise(u + change) - precise(u - change)) / (2 * step)
        np.testing.assert_allclose(found[row, bit], wanted, rtol=1e-3, atol=1e-4)


def test_the_other_views_bits_are_constants():
    gradient = jax.grad(lambda v: jnp.sum(losses.code_agreement_loss(U, v)))(V)
    assert not np.any(gradient)


def test_ideal_codes_have_no_gap_and_one_code_the_largest():
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 4)).reshape(4, -1).T
    np.testing.assert_allclose(losses.coding_rate_gap(signs), 0, atol=1e-6)
    same = np.mean(losses.coding_rate_gap(np.ones((8, 4))))
    assert same > np.mean(losses.coding_rate_gap(signs[:2])) > 0
    # Balanced bits that say the same are no better than one bit.
    twice = np.concatenate([signs[:, :1]] * 4, axis=1)
    np.testing.assert_allclose(np.mean(losses.coding_rate_gap(twice)), same, rtol=1e-5)


def test_shares_of_devices_sum_to_the_global_batch():
    u, v = map(jnp.asarray, (normal(2, 12, 6), normal(3, 12, 6)))

    def share(u, v, axis_name=None):
        agreement = losses.masked_mean(
            losses.code_agreement_loss(u, v), axis_name=axis_name
        )
        gap = jnp.mean(losses.coding_rate_gap(all_rows(u, axis_name)))
        return agreement + gap / all_sum(1, axis_name)

    shares = jax.shard_map(
        lambda *given: share(*given, axis_name="batch")[None],
        mesh=Mesh(np.asarray(first_devices(4)), ("batch",)),
        in_specs=P("batch"),
        out_specs=P("batch"),
        check_vma=False,
    )
    several = jax.jit(jax.value_and_grad(lambda *given: jnp.sum(shares(*given))))
    alone = jax.jit(jax.value_and_grad(functools.partial(share)))
    for found, wanted in zip(several(u, v), alone(u, v), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
