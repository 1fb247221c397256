"""What trains A-Net: the score function, and the entropy of its choices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import (
    assert_gradient,
    gradient_of,
    log_softmax_loop,
    normal,
)

from ssah_jax import losses


def entropy_loop(logits):
    out = []
    for row in logits:
        log_p = log_softmax_loop([float(x) for x in row])
        out.append(-sum(math.exp(x) * x for x in log_p))
    return np.array(out)


# What A-Net minimises.


def test_score_function_loss_is_the_advantage_times_the_log_probability():
    log_p, loss = normal(11, 6), normal(12, 6)
    baseline = np.float32(0.3)
    found = losses.score_function_loss(*map(jnp.asarray, (log_p, loss, baseline)))
    wanted = [(float(b) - 0.3) * float(a) for a, b in zip(log_p, loss, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    of_log_p, of_loss, of_baseline = gradient_of(
        losses.score_function_loss, log_p, loss, baseline
    )
    np.testing.assert_allclose(of_log_p, loss - baseline, rtol=1e-6)
    assert not np.any(of_loss)
    assert not np.any(of_baseline)
    each = losses.score_function_loss(
        *map(jnp.asarray, (log_p, loss)), jnp.full(6, baseline)
    )
    np.testing.assert_array_equal(each, found)


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_score_function_loss_is_unbiased(baseline):
    # Every choice is drawn once, and weighed by its probability.
    logits, reward = jnp.asarray(normal(13, 5)), jnp.asarray(normal(14, 5))
    chance = jax.nn.softmax(logits)

    def surrogate(logits):
        values = losses.score_function_loss(
            jax.nn.log_softmax(logits), reward, jnp.asarray(baseline)
        )
        return jnp.sum(chance * values)

    wanted = jax.grad(lambda x: jnp.sum(jax.nn.softmax(x) * reward))(logits)
    np.testing.assert_allclose(
        jax.grad(surrogate)(logits), wanted, rtol=1e-4, atol=1e-6
    )


LOGITS = {
    "random": normal(10, 4, 7),
    "uniform": np.zeros((4, 7), np.float32),
    "saturated": np.where(normal(10, 4, 7) > 0, 1e4, -1e4).astype(np.float32),
    "two choices": normal(10, 4, 2),
}


@pytest.mark.parametrize("name", LOGITS)
def test_categorical_entropy_equals_the_loop(name):
    logits = LOGITS[name]
    entropy = losses.categorical_entropy(jnp.asarray(logits))
    np.testing.assert_allclose(entropy, entropy_loop(logits), rtol=1e-5, atol=1e-6)
    assert np.all((entropy >= 0) & (entropy <= math.log(logits.shape[1]) + 1e-6))
    assert_gradient(losses.categorical_entropy, entropy_loop, logits, normal(3, 4))


def test_the_entropy_of_a_single_choice_is_zero():
    entropy, gradient = jax.value_and_grad(
        lambda x: losses.categorical_entropy(x).sum()
    )(jnp.ones((2, 3, 1)))
    assert entropy == 0.0
    assert not np.any(gradient)
