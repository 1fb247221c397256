"""What trains A-Net: threshold pursuit, the score function, the entropy floor."""

import math
from functools import partial

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
        out.append(-sum(math.exp(x) * x for x in log_p) / math.log(len(row)))
    return np.array(out)


# What A-Net minimises.


def test_threshold_pursuit_turns_with_the_gap_of_the_mean():
    hardness = normal(3, 5) / 10

    def oracle(reached):
        gap = max(-1.0, min(1.0, (reached - 0.3) / 0.3))
        return np.array([gap * h for h in hardness])

    def values(h, reached):
        return losses.threshold_pursuit(h, jnp.asarray(0.3), jnp.asarray(reached))

    for reached in (0.0, 0.2, 0.3, 0.45, 0.9):
        found = values(jnp.asarray(hardness), reached)
        np.testing.assert_allclose(found, oracle(reached), rtol=1e-5, atol=1e-8)
        gradient = jax.grad(lambda *x: values(*x).sum())(jnp.asarray(hardness), reached)
        expected = np.full(5, np.clip(reached / 0.3 - 1, -1, 1))
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


def test_threshold_pursuit_descends_on_the_squared_gap():
    threshold, hardness = 0.3, np.array([-0.1, 0.1, 0.29, 0.31, 0.9], np.float32)

    def objective(h):
        pursuit = losses.threshold_pursuit(h, jnp.asarray(threshold), jnp.mean(h))
        return jnp.mean(pursuit)

    def oracle(h):
        return np.array([(np.mean(h) - threshold) ** 2 / (2 * threshold)])

    assert_gradient(objective, oracle, hardness, 1.0)


def test_threshold_pursuit_finds_a_mean_among_the_easy_and_the_very_hard():
    # Hardness 0.05 or 0.5, nothing between: the mean meets a threshold of 0.2 if a
    # third of all draws are hard. By each draw's own distance to it, none would be.
    levels, threshold = jnp.asarray([0.05, 0.5]), jnp.asarray(0.2)

    def objective(logits):
        chance = jax.nn.softmax(logits)
        reached = jnp.sum(chance * levels)
        return jnp.sum(chance * losses.threshold_pursuit(levels, threshold, reached))

    descend = jax.jit(lambda logits: logits - 10.0 * jax.grad(objective)(logits))
    logits = jnp.zeros(2)
    for _ in range(2000):
        logits = descend(logits)
    assert abs(float(jnp.sum(jax.nn.softmax(logits) * levels)) - 0.2) < 1e-3


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
def test_normalised_entropy_equals_the_loop(name):
    logits = LOGITS[name]
    entropy = losses.normalised_entropy(jnp.asarray(logits))
    np.testing.assert_allclose(entropy, entropy_loop(logits), rtol=1e-5, atol=1e-6)
    assert np.all((entropy >= 0) & (entropy <= 1 + 1e-6))
    assert_gradient(losses.normalised_entropy, entropy_loop, logits, normal(3, 4))


def test_normalised_entropy_of_a_single_choice_is_one():
    np.testing.assert_array_equal(
        losses.normalised_entropy(jnp.ones((2, 3, 1))), np.ones((2, 3))
    )
    gradient = jax.grad(lambda x: losses.normalised_entropy(x).sum())(jnp.ones((2, 1)))
    assert not np.any(gradient)


def test_entropy_floor_is_the_squared_shortfall():
    logits = 2 * LOGITS["random"]
    entropy = entropy_loop(logits)
    floor = float(np.median(entropy))

    def oracle(x):
        return np.array([max(floor - e, 0.0) ** 2 for e in entropy_loop(x)])

    function = partial(losses.entropy_floor, floor=floor)
    np.testing.assert_allclose(function(jnp.asarray(logits)), oracle(logits), 1e-4)
    assert (oracle(logits) > 0).any()
    assert (oracle(logits) == 0).any()
    assert_gradient(function, oracle, logits, np.ones(4))
    gradient = jax.grad(lambda x: function(x).sum())(jnp.asarray(logits))
    assert not np.any(gradient[entropy > floor])
    assert np.all(np.any(gradient[entropy < floor], axis=1))


def test_entropy_floor_on_its_boundary_has_no_gradient():
    # Two of four equal choices: half of the largest entropy. And a uniform one.
    half = jnp.asarray([[0.0, 0.0, -1e4, -1e4]])
    assert losses.entropy_floor(half, floor=0.5) == 0.0
    for logits, floor in ((half, 0.5), (jnp.zeros((1, 4)), 1.0)):
        gradient = jax.grad(lambda x, f=floor: losses.entropy_floor(x, floor=f).sum())(
            logits
        )
        np.testing.assert_allclose(gradient, 0.0, atol=1e-7)
    collapsed = jnp.asarray([[1e4, -1e4, -1e4, -1e4]])
    np.testing.assert_allclose(losses.entropy_floor(collapsed, floor=0.5), 0.25)
