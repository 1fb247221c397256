"""Losses of pairs against loops in NumPy: values, gradients, kinks, balance.

See `loss_oracles` for what they are compared with. `similar` comes from one label or
several, and columns are other codes than rows.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import (
    CODES,
    LABELS,
    SMOOTH,
    assert_gradient,
    codes,
    cosine_loop,
    normal,
    on_device,
    step_for,
)
from quick_cases import slow_but

from ssah_jax.losses.distance import dch_loss, dsh_loss
from ssah_jax.losses.pairwise import (
    dhn_loss,
    dpsh_loss,
    hashnet_loss,
)
from ssah_jax.losses.reduce import masked_mean
from ssah_jax.similarity import cosine

# Oracles, one loop each.


def likelihood_loop(u, v, similar, alpha, limit=math.inf):
    out = np.zeros((len(u), len(v)))
    for i, j in np.ndindex(*out.shape):
        inner = sum(float(a) * float(b) for a, b in zip(u[i], v[j], strict=True))
        logit = alpha * min(max(inner, -limit), limit)
        s = float(similar[i, j])
        # -s log sigmoid(t) - (1 - s) log sigmoid(-t).
        out[i, j] = s * np.logaddexp(0, -logit) + (1 - s) * np.logaddexp(0, logit)
    return out


def dsh_loop(u, v, similar, margin):
    out = np.zeros((len(u), len(v)))
    for i, j in np.ndindex(*out.shape):
        d = sum((float(a) - float(b)) ** 2 for a, b in zip(u[i], v[j], strict=True))
        s = float(similar[i, j])
        out[i, j] = s * d / 2 + (1 - s) / 2 * max(margin - d, 0.0)
    return out


def dch_loop(u, v, similar, gamma, limit):
    nearness = cosine_loop(u, v)
    out = np.zeros(nearness.shape)
    for i, j in np.ndindex(*out.shape):
        d = len(u[i]) / 2 * (1 - min(nearness[i, j], limit))
        s = float(similar[i, j])
        out[i, j] = s * math.log(d / gamma) + math.log(1 + gamma / d)
    return out


# By name: the loss and its loop, for codes of 8 bits.
LOSSES = {
    "dsh": (dsh_loss, partial(dsh_loop, margin=16.0)),
    "dsh, margin": (partial(dsh_loss, margin=5.0), partial(dsh_loop, margin=5.0)),
    "dpsh": (dpsh_loss, partial(likelihood_loop, alpha=0.5)),
    "dhn": (dhn_loss, partial(likelihood_loop, alpha=0.5)),
    "dhn, limit": (
        partial(dhn_loss, alpha=0.7, limit=3.0),
        partial(likelihood_loop, alpha=0.7, limit=3.0),
    ),
    "hashnet": (hashnet_loss, partial(likelihood_loop, alpha=10 / 8)),
    "hashnet, alpha": (
        partial(hashnet_loss, alpha=0.1),
        partial(likelihood_loop, alpha=0.1),
    ),
    "dch": (dch_loss, partial(dch_loop, gamma=20.0, limit=0.99)),
    "dch, gamma": (
        partial(dch_loss, gamma=3.0, limit=0.6),
        partial(dch_loop, gamma=3.0, limit=0.6),
    ),
}


KINDS = [
    "one label",
    "several labels",
    "no similar pair",
    "all similar",
    "probability",
]


def columns(name):
    """Codes to compare with: two equal ones, an opposite one and two others."""
    u = codes(name)
    return np.concatenate([u[:1], u[-1:], -u[:1], normal(1, 2, u.shape[1])])


def pairs(name, kind):
    u, v = codes(name), columns(name)
    shape = len(u), len(v)
    similar = {
        "no similar pair": np.zeros(shape, bool),
        "all similar": np.ones(shape, bool),
        "probability": np.random.default_rng(2).random(shape).astype(np.float32),
    }
    if kind in similar:
        return u, v, similar[kind]
    labels = LABELS[kind]
    return u, v, labels[: len(u)] @ labels[1 : 1 + len(v)].T > 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_equals_the_loop(loss, name, kind):
    function, loop = LOSSES[loss]
    u, v, similar = pairs(name, kind)
    found = function(*on_device(u, v, similar))
    assert found.dtype == jnp.float32
    wanted = loop(u, v, similar)
    scale = max(1.0, np.abs(wanted).max())
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6 * scale)
    assert np.all(found >= 0)


@pytest.mark.parametrize(
    ("name", "kind"),
    slow_but(
        [*((name, "several labels") for name in SMOOTH), ("random", "probability")],
        ("random", "several labels"),
        ("saturated", "several labels"),
    ),
)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_that_of_the_loop(loss, name, kind):
    function, loop = LOSSES[loss]
    u, v, similar = pairs(name, kind)
    weights = normal(3, *similar.shape)
    s = jnp.asarray(similar)
    # A long row times a short one moves past a limit, and a short one turns, in a
    # step that is small beside long rows.
    step = step_for(name)
    assert_gradient(
        lambda u: function(u, jnp.asarray(v), s),
        lambda u: loop(u, v, similar),
        u,
        weights,
        min(step, 1e-5) if loss == "dhn, limit" else step,
    )
    assert_gradient(
        lambda v: function(jnp.asarray(u), v, s),
        lambda v: loop(u, v, similar),
        v,
        weights,
        1e-3 if step == 1.0 and "dch" in loss else min(step, 1e-4),
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_codes_with_themselves_have_the_sum_of_both_gradients(loss):
    function, loop = LOSSES[loss]
    u = normal(0, 4, 8)
    similar = np.random.default_rng(2).random((4, 4)) < 0.4
    assert_gradient(
        lambda u: function(u, u, jnp.asarray(similar)),
        lambda u: loop(u, u, similar),
        u,
        normal(3, 4, 4),
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_masked_pairs_are_those_left_out(loss):
    function, _ = LOSSES[loss]
    u, v, similar = pairs("random", "several labels")
    rows, kept = [0, 2, 3], [1, 4]
    where = np.zeros(similar.shape, bool)
    where[np.ix_(rows, kept)] = True
    u[1], v[0] = 1e4, -1e4
    found = np.asarray(function(*on_device(u, v, similar), where=jnp.asarray(where)))
    wanted = function(*on_device(u[rows], v[kept], similar[np.ix_(rows, kept)]))
    np.testing.assert_allclose(found[np.ix_(rows, kept)], wanted, rtol=1e-6)
    assert not found[~where].any()


@pytest.mark.parametrize("loss", LOSSES)
def test_zero_bank_rows_do_not_count(loss):
    # DeepHash-pytorch fills a bank with zeros, and takes them for dissimilar codes.
    function, _ = LOSSES[loss]
    u, v, similar = on_device(*pairs("random", "several labels"))
    bank = jnp.concatenate([v, jnp.zeros((7, 8))])
    known = jnp.concatenate([similar, jnp.zeros((6, 7), bool)], axis=1)
    where = jnp.broadcast_to(jnp.arange(12) < 5, known.shape)

    def mean(u, v, similar, where=None):
        return masked_mean(function(u, v, similar, where=where), where)

    wanted, wanted_gradient = jax.value_and_grad(mean)(u, v, similar)
    found, gradient = jax.value_and_grad(mean)(u, bank, known, where)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-5, atol=1e-7)
    without = jax.grad(mean)(u, bank, known)
    assert not np.allclose(without, wanted_gradient, rtol=1e-2)


# DSH.


def test_dsh_at_the_hinge_has_no_gradient():
    u, away = jnp.zeros((1, 2)), jnp.zeros((1, 1), bool)
    gradient = jax.grad(lambda v: dsh_loss(u, v, away).sum())  # The margin is 4.
    np.testing.assert_array_equal(gradient(jnp.asarray([[2.0, 0.0]])), 0.0)
    np.testing.assert_array_equal(gradient(jnp.asarray([[2.5, 0.0]])), 0.0)
    inside = gradient(jnp.asarray([[1.5, 0.0]]))
    np.testing.assert_allclose(inside, [[-1.5, 0.0]], rtol=1e-6)


def test_dsh_distance_errs_by_no_more_than_documented():
    # Long codes that are near each other: the worst for |u|^2 + |v|^2 - 2 u . v.
    u = 1e3 * normal(0, 40, 48)
    v = u + 1e-2 * normal(1, 40, 48)
    similar = jnp.ones((40, 40), bool)
    distance = 2 * np.asarray(dsh_loss(*on_device(u, v), similar), np.float64)
    exact = 2 * dsh_loop(u, v, np.ones((40, 40)), 0.0)
    long_u, long_v = (np.linalg.norm(x.astype(np.float64), axis=1) for x in (u, v))
    bound = (48 + 3) * 6e-8 * (long_u[:, None] + long_v[None]) ** 2
    assert np.all(np.abs(distance - exact) <= bound)
    # The floor was needed, and the gradient is right there too.
    assert np.all(distance >= 0)
    floored = np.flatnonzero(np.diag(distance) == 0)
    assert len(floored)

    def diagonal(u):
        return jnp.trace(dsh_loss(u, jnp.asarray(v), similar))

    gradient = np.asarray(jax.grad(diagonal)(jnp.asarray(u)))
    wanted = u.astype(np.float64) - v
    spacing = np.spacing(np.abs(u).max(axis=1, keepdims=True))
    assert np.all(np.abs(gradient - wanted)[floored] <= 2 * spacing[floored])
    assert np.abs(wanted[floored]).max() > 0


def test_dsh_margin_is_two_for_each_bit():
    u, away = jnp.ones((1, 6)), jnp.zeros((1, 1), bool)
    # Codes that differ in half their bits are exactly as far as they should be.
    half = jnp.asarray([[1.0, 1.0, 1.0, -1.0, -1.0, -1.0]])
    assert dsh_loss(u, half, away) == 0.0
    assert dsh_loss(u, u, away) == 6.0
    assert dsh_loss(u, half, away, margin=14.0) == 1.0


# Likelihoods.


def test_dhn_limit_takes_the_gradient_at_and_beyond_it():
    u, similar = jnp.asarray([[1.0, 0.0]]), jnp.asarray([[True, True, True, True]])
    v = jnp.asarray([[3.0, 1.0], [-3.0, 1.0], [-4.0, 1.0], [-2.5, 1.0]])
    gradient = jax.jacobian(lambda u: dhn_loss(u, v, similar, limit=3.0)[0])(u)[:, 0]
    np.testing.assert_array_equal(gradient[:3], 0.0)
    # d/dt of softplus(t) - t is -sigmoid(-t), at t = -1.25.
    wanted = -0.5 * np.asarray(v[3]) / (1 + math.exp(-1.25))
    np.testing.assert_allclose(gradient[3], wanted, rtol=1e-6)


def test_dhn_without_a_limit_still_teaches_a_pair_that_is_badly_wrong():
    u, v = jnp.asarray([[40.0, 0.0]]), jnp.asarray([[-1.0, 0.0]])
    similar = jnp.ones((1, 1), bool)
    gradient = jax.grad(lambda u, **options: dhn_loss(u, v, similar, **options).sum())
    np.testing.assert_allclose(gradient(u), [[0.5, 0.0]], rtol=1e-6)
    np.testing.assert_array_equal(gradient(u, limit=15.0), 0.0)


@pytest.mark.parametrize("loss", ["dpsh", "dhn", "hashnet"])
@pytest.mark.parametrize("size", [10.0, 1e4, 1e15])
def test_the_likelihood_of_long_codes_does_not_overflow(loss, size):
    # DeepHash-pytorch's HashNet takes log(1 + exp(-x)), which does.
    function, _ = LOSSES[loss]
    u = jnp.asarray([[size] * 8])
    for v, similar, right in [(u, True, True), (u, False, False), (-u, False, True)]:
        value, gradient = jax.value_and_grad(
            lambda u, v=v, s=similar: function(u, v, jnp.asarray([[s]])).sum()
        )(u)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        # Also that both terms have the same scale: a pair that is right costs nothing.
        assert (value < 1e-10) == right
        assert np.all(np.abs(gradient) < 1e-10) == right


@pytest.mark.parametrize("loss", ["dpsh", "dhn", "hashnet", "dch"])
def test_a_probability_is_met_by_the_logit_that_has_it(loss):
    # Cross-entropy is least where sigmoid(t) = s (or gamma / (gamma + d) = s).
    function, _ = LOSSES[loss]
    # Unit vectors whose product is 0.6; not the first axis, which looks like 0/1 bits.
    v = jnp.asarray([[0.8, -0.6] + [0.0] * 6])
    u = jnp.asarray([[0.96, 0.28] + [0.0] * 6])
    scale = {"dpsh": 0.5, "dhn": 0.5, "hashnet": 1.25, "dch": None}[loss]
    chance = 20 / (20 + 4 * 0.4) if scale is None else 1 / (1 + math.exp(-0.6 * scale))
    gradient = jax.grad(lambda s: function(u, v, s).sum())  # For codes: by a vjp.
    assert np.isfinite(gradient(jnp.asarray([[chance]]))).all()
    for_codes = jax.grad(lambda u: function(u, v, jnp.asarray([[chance]])).sum())(u)
    np.testing.assert_allclose(for_codes, 0.0, atol=3e-7)


# DCH.


@pytest.mark.parametrize("name", CODES)
def test_dch_stays_in_the_range_it_documents(name):
    u, v, similar = pairs(name, "several labels")
    found = np.asarray(dch_loss(*on_device(u, v, similar)))
    least = 4 * 0.01
    low = np.where(similar, math.log1p(least / 20), math.log1p(20 / 8))
    high = np.where(similar, math.log1p(8 / 20), math.log1p(20 / least))
    assert np.all(found >= low * (1 - 1e-4))
    assert np.all(found <= high * (1 + 1e-4))
    assert np.all(found > 0)


@pytest.mark.parametrize("similar", [True, False])
@pytest.mark.parametrize("name", SMOOTH)
def test_dch_of_a_code_with_itself_is_a_constant(name, similar):
    u = jnp.asarray(codes(name))
    same = jnp.full((len(u), len(u)), similar)
    found, gradient = jax.value_and_grad(lambda u: jnp.trace(dch_loss(u, u, same)))(u)
    each = math.log1p(0.04 / 20) if similar else math.log1p(20 / 0.04)
    np.testing.assert_allclose(found, len(u) * each, rtol=1e-4)
    np.testing.assert_array_equal(gradient, 0.0)


def test_dch_at_the_limit_has_no_gradient():
    u, v = jnp.asarray([[1.0, 1, 1, 1]]), jnp.asarray([[1.0, 1, 1, -1]])
    assert cosine(u, v) == 0.5
    for similar in (True, False):
        s = jnp.asarray([[similar]])
        gradient = jax.grad(lambda u, limit, s=s: dch_loss(u, v, s, limit=limit).sum())
        np.testing.assert_array_equal(gradient(u, 0.5), 0.0)
        np.testing.assert_array_equal(gradient(u, 0.4), 0.0)
        assert np.abs(gradient(u, 0.6)).max() > 1e-3


def test_dch_does_not_depend_on_the_length_of_codes():
    u, v, similar = on_device(*pairs("random", "one label"))
    wanted = dch_loss(u, v, similar)
    np.testing.assert_allclose(dch_loss(7 * u, 1e-2 * v, similar), wanted, rtol=1e-4)
