"""Deformations that are drawn: frequencies, probabilities, gradients."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_cases import draw_deformation, one_hot, random_logits

from ssah_jax import transforms
from ssah_jax.types import Deformation

gumbel = jax.jit(transforms.straight_through_gumbel, static_argnames="axis")


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


# --- Straight-through Gumbel ---------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "sum_axes"),
    [(-1, (2,)), (0, (0,)), ((-2, -1), (1, 2)), ((2, 0), (0, 2))],
)
def test_gumbel_is_exactly_one_hot(key, axis, sum_axes):
    logits = normal(1, 5, 3, 4)
    draws = [
        np.asarray(gumbel(key, logits, temperature=temperature, axis=axis))
        for temperature in (0.1, 1.0, 3.0)
    ]
    for draw in draws:
        assert set(np.unique(draw)) == {0.0, 1.0}
        assert (draw.sum(sum_axes) == 1).all()
        # The temperature is the relaxation's, not the sample's.
        np.testing.assert_array_equal(draw, draws[0])


def test_gumbel_frequencies_follow_softmax(key):
    logits = jnp.asarray([[0.0, 1.0, -1.0], [2.0, 0.5, -jnp.inf]])
    draw = partial(gumbel, logits=logits, temperature=0.5, axis=(0, 1))
    draws = jax.jit(jax.vmap(lambda k: draw(k)))(jax.random.split(key, 4000))
    count = np.asarray(draws).sum(0).ravel()
    share = scipy.special.softmax(np.asarray(logits, np.float64).ravel())
    assert count[-1] == 0
    assert scipy.stats.chisquare(count[:-1], 4000 * share[:-1]).pvalue > 1e-3


def test_gumbel_axes_not_drawn_over_are_independent(key):
    draw = gumbel(key, jnp.asarray(np.zeros((300, 2), np.float32)))
    assert 110 < np.asarray(draw)[:, 0].sum() < 190


@pytest.mark.parametrize("axis", [-1, 0, (-2, -1)])
def test_gumbel_gradient_is_that_of_the_relaxation(key, axis):
    logits, weight = normal(1, 2, 3, 4), normal(2, 2, 3, 4)

    def hard(logits, temperature):
        draw = gumbel(key, logits, temperature=temperature, axis=axis)
        return jnp.sum(weight * draw)

    def soft(logits, temperature):
        noise = jax.random.gumbel(key, logits.shape)
        scaled = (logits + noise) / temperature
        exp = jnp.exp(scaled - scaled.max(axis, keepdims=True))
        return jnp.sum(weight * exp / exp.sum(axis, keepdims=True))

    for_hard, for_soft = jax.jit(jax.grad(hard)), jax.jit(jax.grad(soft))
    for temperature in (0.3, 1.0, 2.0):
        want = np.asarray(for_soft(logits, temperature))
        assert np.abs(want).max() > 1e-3
        got = for_hard(logits, temperature)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=3e-6)


# --- Drawing a deformation -----------------------------------------------------------


def test_draw_deformation_fields(key):
    drawn = draw_deformation(key, random_logits(0), max_angle=0.4)
    assert drawn.scale.shape == (3,)
    assert drawn.position.shape == (3, 4, 4)
    assert drawn.angle.shape == (4,)
    assert set(np.unique(drawn.scale)) == set(np.unique(drawn.position)) == {0, 1}
    assert float(drawn.scale.sum()) == 1
    assert (np.asarray(drawn.position).sum((1, 2)) == 1).all()
    # Four blocks draw four angles.
    assert len(np.unique(drawn.angle)) == 4


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    max_angle=st.floats(0, 7),
    bins=st.sampled_from([1, 2, 7]),
)
def test_angles_stay_within_the_bound(seed, max_angle, bins):
    logits = random_logits(seed, blocks=9, bins=bins)
    drawn = draw_deformation(jax.random.key(seed), logits, max_angle=max_angle)
    assert float(jnp.abs(drawn.angle).max()) <= np.float32(max_angle)


@pytest.mark.parametrize("bins", [1, 3, 6])
def test_angle_bins_tile_the_range(key, bins):
    max_angle = 0.6
    width = 2 * max_angle / bins
    # Block n can draw only bin n: 600 draws fill it evenly from edge to edge.
    logits = random_logits(0, blocks=bins, bins=bins).replace(
        angle=jnp.where(jnp.eye(bins, dtype=bool), 0.0, -jnp.inf)
    )
    angles = jax.jit(
        jax.vmap(lambda k: draw_deformation(k, logits, max_angle=max_angle).angle)
    )(jax.random.split(key, 600))
    for n, drawn in enumerate(np.asarray(angles).T):
        start = -max_angle + n * width
        test = scipy.stats.kstest(drawn, "uniform", args=(start, width))
        assert test.pvalue > 1e-4
        assert drawn.min() >= start - 1e-6
        assert drawn.max() <= start + width + 1e-6


def test_angle_gradient_prefers_bins_of_larger_angle(key):
    def angle(values):
        logits = random_logits(0).replace(angle=values)
        return draw_deformation(key, logits, max_angle=1.0).angle

    jacobian = jax.jit(jax.jacobian(angle))(jnp.zeros((4, 5)))
    for a, b in itertools.product(range(4), repeat=2):
        if a == b:
            # Bins are disjoint and ordered, so the outer ones pull each its own way.
            assert jacobian[a, a, 0] < 0 < jacobian[a, a, -1]
            assert abs(float(jacobian[a, a].sum())) < 1e-6
        else:
            assert not np.any(jacobian[a, b])


def log_probability_oracle(logits, scale, cell, bins):
    """Sum of the log-probabilities of choices given by their indices."""
    position = np.asarray(logits.position)[scale]
    total = scipy.special.log_softmax(logits.scale)[scale]
    total += (position - scipy.special.logsumexp(position))[cell]
    for block, index in enumerate(bins):
        total += scipy.special.log_softmax(np.asarray(logits.angle)[block])[index]
    return total


def choices(num_scales, grid, blocks, bins, max_angle):
    """Every deformation that can be drawn, with its indices; no angle is 0."""
    cells = list(itertools.product(range(grid), repeat=2))
    for scale in range(num_scales):
        for cell in cells:
            for index in itertools.product(range(bins), repeat=blocks):
                angle = max_angle * ((2 * np.asarray(index) + 1.2) / bins - 1)
                deformation = Deformation(
                    scale=one_hot(num_scales, scale),
                    # The same cell at all scales; only that of `scale` matters.
                    position=jnp.stack([one_hot((grid, grid), cell)] * num_scales),
                    angle=jnp.asarray(angle, jnp.float32),
                )
                yield deformation, (scale, cell, index)


def test_log_probability_of_every_choice():
    logits = random_logits(3, num_scales=2, grid=2, blocks=1, bins=3)
    function = jax.jit(partial(transforms.deformation_log_probability, max_angle=0.7))
    total = 0.0
    for deformation, indices in choices(2, 2, 1, 3, 0.7):
        found = float(function(logits, deformation))
        assert found == pytest.approx(
            log_probability_oracle(logits, *indices), abs=1e-5
        )
        total += np.exp(found)
    assert total == pytest.approx(1.0, abs=1e-5)


def test_log_probability_of_what_was_drawn(key):
    logits = random_logits(6)
    drawn = draw_deformation(key, logits, max_angle=0.4)
    scale = int(np.argmax(drawn.scale))
    cell = np.unravel_index(int(np.argmax(drawn.position[scale])), (4, 4))
    bins = [int((angle / 0.4 + 1) / 2 * 5) for angle in np.asarray(drawn.angle)]
    log_p = jax.jit(partial(transforms.deformation_log_probability, max_angle=0.4))
    found = log_p(logits, drawn)
    expected = log_probability_oracle(logits, scale, cell, bins)
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_without_rotation_the_angle_has_no_part_in_the_probability(key):
    logits = random_logits(6, bins=1)
    drawn = draw_deformation(key, logits, max_angle=0.0)
    function = partial(transforms.deformation_log_probability, max_angle=0.0)
    gradient = jax.jit(jax.grad(function))(logits, drawn)
    assert np.all(np.isfinite(gradient.scale)) and np.any(gradient.scale)
    np.testing.assert_array_equal(gradient.angle, 0.0)


def test_log_probability_gives_the_gradient_of_an_expected_loss():
    logits = random_logits(8, num_scales=2, grid=2, blocks=1, bins=3)
    every = [deformation for deformation, _ in choices(2, 2, 1, 3, 0.7)]
    loss = np.random.default_rng(0).random(len(every))

    def log_p(logits, deformation):
        return transforms.deformation_log_probability(
            logits, deformation, max_angle=0.7
        )

    def expected_loss(logits):
        terms = [
            value * jnp.exp(log_p(logits, deformation))
            for value, deformation in zip(loss, every, strict=True)
        ]
        return jnp.sum(jnp.stack(terms))

    exact = jax.tree.leaves(jax.jit(jax.grad(expected_loss))(logits))
    estimate = [np.zeros(leaf.shape) for leaf in exact]
    gradient = jax.jit(jax.value_and_grad(log_p))
    for value, deformation in zip(loss, every, strict=True):
        log, grad = gradient(logits, deformation)
        # Any baseline leaves the expectation as it is.
        weight = np.exp(float(log)) * (value - 0.4)
        for total, leaf in zip(estimate, jax.tree.leaves(grad), strict=True):
            total += weight * np.asarray(leaf)
    for found, wanted in zip(estimate, exact, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_sample_is_occluded_or_turned(key):
    logits = random_logits(6)
    draw, coin = jax.random.split(key)
    drawn = draw_deformation(draw, logits, max_angle=0.4)
    keys = jax.random.split(coin, 400)
    keep = jax.jit(jax.vmap(transforms.window_or_rotation, in_axes=(0, None)))
    kept = keep(keys, drawn)
    occluded = np.asarray(kept.scale.sum(axis=1)) > 0
    turned = np.any(np.asarray(kept.angle) != 0, axis=1)
    assert np.array_equal(occluded, ~turned)
    # Within four standard deviations of a fair coin.
    assert abs(occluded.mean() - 0.5) < 0.1
    np.testing.assert_array_equal(kept.scale[occluded][0], drawn.scale)
    np.testing.assert_array_equal(kept.angle[turned][0], drawn.angle)
    np.testing.assert_array_equal(kept.position[0], drawn.position)


@pytest.mark.parametrize("turn", [False, True])
def test_what_is_left_out_has_no_part_in_the_probability(key, turn):
    logits = random_logits(6)
    drawn = draw_deformation(key, logits, max_angle=0.4)
    parts = {"scale": jnp.zeros(3)} if turn else {"angle": jnp.zeros(4)}
    assert drawn.scale.shape == (3,) and drawn.angle.shape == (4,)
    kept = drawn.replace(**parts)
    function = partial(transforms.deformation_log_probability, max_angle=0.4)
    slope = jax.jit(jax.grad(function))
    gradient, whole = slope(logits, kept), slope(logits, drawn)
    for name in ("scale", "position", "angle"):
        counts = (name == "angle") == turn
        wanted = getattr(whole, name) if counts else 0.0
        np.testing.assert_allclose(getattr(gradient, name), wanted, atol=1e-7)


def test_an_image_without_window_or_rotation_is_the_image(key):
    image = jax.random.uniform(key, (12, 12, 3))
    nothing = Deformation(
        scale=jnp.zeros(2), position=jnp.ones((2, 3, 3)) / 9, angle=jnp.zeros(1)
    )
    deform = jax.jit(partial(transforms.deform, scales=(0.3, 0.5), fill=0.0))
    found = deform(image, nothing)
    np.testing.assert_allclose(found, image, atol=1e-6)
