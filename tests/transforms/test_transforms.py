"""Transforms against loop oracles, SciPy, finite differences and properties."""

import inspect
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

from ssah_jax import transforms
from ssah_jax.types import Deformation, DeformationLogits

SCALES = (0.25, 0.5, 0.75)
SCIPY_MODES = {"zeros": "grid-constant", "edge": "nearest"}

# Compiled once a shape: op by op, most of the time of these tests would be dispatch.
affine_grid = jax.jit(transforms.affine_grid, static_argnames=("height", "width"))
bilinear_sample = jax.jit(transforms.bilinear_sample, static_argnames="border")
deform = jax.jit(transforms.deform, static_argnames=("scales", "border"))
draw_deformation = jax.jit(transforms.draw_deformation)
gumbel = jax.jit(transforms.straight_through_gumbel, static_argnames="axis")
rotate = jax.jit(transforms.rotate, static_argnames="border")
rotate_blocks = jax.jit(transforms.rotate_blocks, static_argnames="border")


def random_image(seed, height=9, width=7, channels=2):
    pixels = np.random.default_rng(seed).random((height, width, channels))
    return jnp.asarray(pixels, jnp.float32)


def smooth_image(side=24):
    y, x = np.mgrid[:side, :side] / side
    first = 0.5 + 0.3 * np.sin(2.0 * y + 3.0 * x)
    second = 0.5 + 0.3 * np.cos(3.0 * y - 1.0 * x)
    return jnp.asarray(np.stack([first, second], -1), jnp.float32)


def random_logits(seed, num_scales=3, grid=4, blocks=4, bins=5):
    draw = np.random.default_rng(seed).standard_normal
    return DeformationLogits(
        scale=jnp.asarray(draw(num_scales), jnp.float32),
        position=jnp.asarray(draw((num_scales, grid, grid)), jnp.float32),
        angle=jnp.asarray(draw((blocks, bins)), jnp.float32),
    )


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def one_hot(shape, index, value=1.0):
    out = np.zeros(shape, np.float32)
    out[index] = value
    return jnp.asarray(out)


# --- The contract: API, vmap and jit, one spec for every function -------------------

GRID = jnp.asarray(
    np.random.default_rng(1).uniform(-3, 11, (2, 5, 4, 2)).astype(np.float32)
)
KEYS = jax.random.split(jax.random.key(3), 2)
IMAGES = jnp.asarray(np.stack([random_image(0), random_image(1)]))
MASKS = jnp.asarray(np.random.default_rng(2).random((2, 9, 7)), jnp.float32)
ANGLES = jnp.asarray([[0.3, -0.2, 1.0, 0.0], [0.1, 0.2, -0.3, 2.0]])
LOGITS = jax.tree.map(
    lambda *leaf: jnp.asarray(np.stack(leaf)), random_logits(4), random_logits(5)
)
SOFT = Deformation(
    scale=jnp.asarray(scipy.special.softmax(LOGITS.scale, axis=-1)),
    position=jnp.asarray(scipy.special.softmax(LOGITS.position, axis=(-2, -1))),
    angle=ANGLES,
)
MEANS = jnp.asarray([[0.2, 0.3], [0.4, 0.5]])

CASES = {
    "affine_grid": (
        partial(transforms.affine_grid, height=4, width=5),
        (jnp.asarray(np.arange(12.0, dtype=np.float32).reshape(2, 2, 3)),),
    ),
    "bilinear_sample": (transforms.bilinear_sample, (IMAGES, GRID)),
    "deform": (partial(transforms.deform, scales=SCALES, fill=0.5), (IMAGES, SOFT)),
    "deformation_log_probability": (
        partial(transforms.deformation_log_probability, max_angle=3.0),
        (LOGITS, SOFT),
    ),
    "draw_deformation": (
        partial(transforms.draw_deformation, max_angle=0.5),
        (KEYS, LOGITS),
    ),
    "fill_value": (
        lambda key, mean: transforms.fill_value(
            key, kind="noise", height=3, width=4, mean=mean
        ),
        (KEYS, MEANS),
    ),
    "occlude": (
        lambda image, mask, fill: transforms.occlude(image, mask, fill=fill),
        (IMAGES, MASKS, MEANS),
    ),
    "occlusion_mask": (
        partial(transforms.occlusion_mask, scales=SCALES, height=9, width=7),
        (SOFT.scale, SOFT.position),
    ),
    "centre_crop": (partial(transforms.centre_crop, size=4), (IMAGES,)),
    "crop": (
        partial(transforms.crop, size=3),
        (IMAGES, jnp.asarray([[0, 1], [2, 0]])),
    ),
    "random_crop": (partial(transforms.random_crop, size=3), (KEYS, IMAGES)),
    "random_flip": (transforms.random_flip, (KEYS, IMAGES)),
    "random_shift": (partial(transforms.random_shift, max_shift=3), (KEYS, IMAGES)),
    "rotate": (transforms.rotate, (IMAGES, ANGLES[:, 0])),
    "rotate_blocks": (transforms.rotate_blocks, (IMAGES, ANGLES)),
    "rotation_matrix": (transforms.rotation_matrix, (ANGLES[:, 0],)),
    "shift": (
        partial(transforms.shift, max_shift=2),
        (IMAGES, jnp.asarray([[1, -2], [0, 2]])),
    ),
    "straight_through_gumbel": (
        transforms.straight_through_gumbel,
        (KEYS, LOGITS.scale),
    ),
    "window_profiles": (
        lambda _: transforms.window_profiles(9, scales=SCALES, grid=3),
        (ANGLES,),
    ),
}


def test_every_public_function_has_a_case():
    assert sorted(CASES) == sorted(transforms.__all__) == transforms.__all__


@pytest.mark.parametrize("name", transforms.__all__)
def test_api(name):
    function = getattr(transforms, name)
    parameters = inspect.signature(function).parameters
    if "key" in parameters:
        assert next(iter(parameters)) == "key"
    for parameter in parameters.values():
        if parameter.default is not parameter.empty:
            assert parameter.kind is parameter.KEYWORD_ONLY, parameter
    assert "Args:" in inspect.getdoc(function)
    assert "Returns:" in inspect.getdoc(function)


def assert_leaves_close(left, right):
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(CASES))
def test_vmap_equals_loop(name):
    function, batch = CASES[name]
    batched = jax.jit(jax.vmap(function))(*batch)
    compiled = jax.jit(function)
    for b in range(2):
        row = jax.tree.map(lambda leaf, b=b: leaf[b], batch)
        of_row = [leaf[b] for leaf in jax.tree.leaves(batched)]
        assert_leaves_close(of_row, compiled(*row))


@pytest.mark.slow  # All together: each operation is compiled on its own.
@pytest.mark.parametrize("name", sorted(CASES))
def test_jit_equals_eager(name):
    function, batch = CASES[name]
    row = jax.tree.map(lambda leaf: leaf[0], batch)
    assert_leaves_close(jax.jit(function)(*row), function(*row))


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
    """Every deformation that can be drawn, with its indices; angles in mid-bin."""
    cells = list(itertools.product(range(grid), repeat=2))
    for scale in range(num_scales):
        for cell in cells:
            for index in itertools.product(range(bins), repeat=blocks):
                angle = max_angle * ((2 * np.asarray(index) + 1) / bins - 1)
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
    found = transforms.deformation_log_probability(logits, drawn, max_angle=0.4)
    expected = log_probability_oracle(logits, scale, cell, bins)
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_without_rotation_the_angle_has_no_part_in_the_probability(key):
    logits = random_logits(6, bins=1)
    drawn = draw_deformation(key, logits, max_angle=0.0)
    function = partial(transforms.deformation_log_probability, max_angle=0.0)
    gradient = jax.grad(function)(logits, drawn)
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

    exact = jax.tree.leaves(jax.grad(expected_loss)(logits))
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


# --- Occlusion -----------------------------------------------------------------------


def window_oracle(side, scale, grid, cell):
    size = max(1, round(scale * side))
    start = round((side - size) * (cell / (grid - 1) if grid > 1 else 0.5))
    return [1.0 if start <= p < start + size else 0.0 for p in range(side)]


@pytest.mark.parametrize("side", [1, 7, 28])
@pytest.mark.parametrize("grid", [1, 2, 5])
def test_window_profiles(side, grid):
    scales = (0.01, 0.3, 0.5, 1.0)
    got = np.asarray(transforms.window_profiles(side, scales=scales, grid=grid))
    assert got.shape == (4, grid, side)
    for (s, scale), g in itertools.product(enumerate(scales), range(grid)):
        np.testing.assert_array_equal(got[s, g], window_oracle(side, scale, grid, g))
        assert got[s, g].sum() == max(1, round(scale * side))
    if grid > 1:
        # The first window touches one end of the side, the last the other.
        assert (got[:, 0, 0] == 1).all()
        assert (got[:, -1, -1] == 1).all()


@pytest.mark.parametrize(
    ("side", "scales", "grid", "word"),
    [
        (0, (0.5,), 2, "side: found 0"),
        (8, (0.5,), 0, "grid: found 0"),
        (8, (0.5, 1.5), 2, "scales: found"),
        (8, (0.0,), 2, "scales: found"),
        (8, (), 2, "scales: found"),
    ],
)
def test_window_profiles_errors(side, scales, grid, word):
    with pytest.raises(ValueError, match=word):
        transforms.window_profiles(side, scales=scales, grid=grid)


@pytest.mark.parametrize("height, width", [(9, 6), (5, 11)])
@pytest.mark.parametrize("grid", [1, 3])
def test_mask_of_one_hot_choices_is_one_window(height, width, grid):
    mask_of = jax.jit(
        partial(transforms.occlusion_mask, scales=SCALES, height=height, width=width)
    )
    for s, i, j in itertools.product(range(3), range(grid), range(grid)):
        position = one_hot((3, grid, grid), (s, i, j))
        # What the other scales chose must not show.
        position += one_hot((3, grid, grid), ((s + 1) % 3, grid - 1, 0))
        mask = np.asarray(mask_of(one_hot(3, s), position))
        row = window_oracle(height, SCALES[s], grid, i)
        col = window_oracle(width, SCALES[s], grid, j)
        want = [[row[h] * col[w] for w in range(width)] for h in range(height)]
        np.testing.assert_array_equal(mask, want)
        area = max(1, round(SCALES[s] * height)) * max(1, round(SCALES[s] * width))
        assert mask.sum() == area


def test_mask_of_soft_choices_is_the_weighted_sum():
    scale, position = SOFT.scale[0], SOFT.position[0]
    got = transforms.occlusion_mask(scale, position, scales=SCALES, height=8, width=5)
    want = np.zeros((8, 5))
    for s, i, j in itertools.product(range(3), range(4), range(4)):
        row = np.asarray(window_oracle(8, SCALES[s], 4, i))
        col = np.asarray(window_oracle(5, SCALES[s], 4, j))
        want += float(scale[s]) * float(position[s, i, j]) * np.outer(row, col)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_mask_gradient_reaches_the_logits(key):
    weight = random_image(7, 8, 8, 1)[..., 0]

    def hidden(logits):
        drawn = draw_deformation(key, logits, max_angle=0.0)
        mask = transforms.occlusion_mask(
            drawn.scale, drawn.position, scales=SCALES, height=8, width=8
        )
        return jnp.sum(weight * mask), drawn.scale

    gradient, scale = jax.jit(jax.grad(hidden, has_aux=True))(random_logits(0))
    assert np.all(np.asarray(gradient.scale) != 0)
    chosen = int(jnp.argmax(scale))
    for s in range(3):
        assert np.any(np.asarray(gradient.position[s])) == (s == chosen)


def test_mask_needs_as_many_scales_as_choices():
    with pytest.raises(ValueError, match="found 2 values, accepted are 3"):
        transforms.occlusion_mask(
            SOFT.scale[0], SOFT.position[0], scales=(0.2, 0.4), height=8, width=8
        )


@pytest.mark.parametrize(
    "fill", [0.25, jnp.float32(0.25), jnp.asarray([0.1, 0.9]), random_image(8)]
)
def test_occlude(fill):
    image, mask = random_image(0), MASKS[0].at[0, 0].set(1).at[0, 1].set(0)
    got = np.asarray(transforms.occlude(image, mask, fill=fill))
    for h, w, c in np.ndindex(got.shape):
        value = float(np.broadcast_to(fill, got.shape)[h, w, c])
        hidden = float(mask[h, w])
        want = float(image[h, w, c]) * (1 - hidden) + value * hidden
        assert got[h, w, c] == pytest.approx(want, abs=1e-6)
    np.testing.assert_array_equal(got[0, 0], np.broadcast_to(fill, got.shape)[0, 0])
    np.testing.assert_array_equal(got[0, 1], image[0, 1])


def test_fill_values(key):
    mean = jnp.asarray([0.2, 0.4, 0.6])
    fill = partial(transforms.fill_value, key, height=20, width=30, mean=mean)
    zero, flat, noise = (
        np.asarray(fill(kind=kind)) for kind in ("zero", "mean", "noise")
    )
    assert zero.shape == flat.shape == noise.shape == (20, 30, 3)
    assert not zero.any()
    np.testing.assert_array_equal(flat, np.broadcast_to(mean, flat.shape))
    assert 0 <= noise.min() < 0.01
    assert 0.99 < noise.max() < 1
    assert abs(noise.mean() - 0.5) < 0.03
    assert len(np.unique(noise)) > 0.99 * noise.size
    with pytest.raises(ValueError, match="'gray', accepted are zero, mean, noise"):
        fill(kind="gray")


# --- The sampler ---------------------------------------------------------------------


@pytest.mark.parametrize("border", ["zeros", "edge"])
@pytest.mark.parametrize(
    "height, width, channels", [(6, 6, 1), (5, 9, 3), (1, 7, 1), (4, 1, 2), (1, 1, 1)]
)
def test_sampler_equals_scipy(border, height, width, channels):
    rng = np.random.default_rng(0)
    image = random_image(0, height, width, channels)
    size = np.array([height, width])
    halves = np.stack(np.mgrid[-4 : 2 * height + 5, -4 : 2 * width + 5], -1) / 2
    parts = {
        "interior": rng.uniform(0, size - 1, (8, 9, 2)),
        "around": rng.uniform(-1.5, size + 0.5, (20, 9, 2)),
        "far": rng.uniform(-50, 50, (8, 9, 2)),
        "huge": rng.choice([-1e6, 1e6], (2, 9, 2)),
        "on and half way between pixels": halves,
    }
    rows = [part.reshape(1, -1, 2) for part in parts.values()]
    grid = np.concatenate(rows, axis=1).astype(np.float32)
    got = bilinear_sample(image, jnp.asarray(grid), border=border)
    want = [
        scipy.ndimage.map_coordinates(
            np.asarray(image[..., c], np.float64),
            np.moveaxis(grid, -1, 0).astype(np.float64),
            order=1,
            mode=SCIPY_MODES[border],
            cval=0.0,
        )
        for c in range(channels)
    ]
    ends = np.cumsum([row.shape[1] for row in rows])[:-1]
    split = partial(np.split, indices_or_sections=ends, axis=1)
    for name, left, right in zip(
        parts, split(np.asarray(got)), split(np.stack(want, -1)), strict=True
    ):
        np.testing.assert_allclose(left, right, atol=2e-6, err_msg=name)


def test_sampler_half_a_pixel_outside():
    image = jnp.full((2, 2, 1), 0.8)
    grid = jnp.asarray([[[-0.5, 0.0], [0.0, 1.5], [-0.5, -0.5], [-1.0, 0.0]]])
    zeros = bilinear_sample(image, grid, border="zeros")[0, :, 0]
    edge = bilinear_sample(image, grid, border="edge")[0, :, 0]
    np.testing.assert_allclose(zeros, [0.4, 0.4, 0.2, 0.0], atol=1e-7)
    np.testing.assert_allclose(edge, [0.8] * 4, rtol=1e-6)


def test_sampler_words():
    grid = jnp.zeros((1, 1, 2))
    with pytest.raises(ValueError, match="border: found 'wrap', accepted are zeros, e"):
        bilinear_sample(random_image(0), grid, border="wrap")


@pytest.mark.parametrize("border", ["zeros", "edge"])
def test_sampler_gradients_equal_central_differences(border):
    image = random_image(0, 6, 5)
    rng = np.random.default_rng(2)
    # A tenth of a pixel away from every kink, inside and outside the image.
    whole = np.stack([rng.integers(-3, 7, (6, 6)), rng.integers(-3, 6, (6, 6))], -1)
    grid = jnp.asarray(whole + rng.uniform(0.1, 0.9, whole.shape), jnp.float32)
    weight = jnp.asarray(rng.standard_normal((6, 6, 2)), jnp.float32)

    @jax.jit
    def loss(image, grid):
        return jnp.sum(weight * bilinear_sample(image, grid, border=border))

    for_image, for_grid = jax.jit(jax.grad(loss, argnums=(0, 1)))(image, grid)
    image, grid = np.asarray(image), np.asarray(grid)
    for_image, for_grid = np.asarray(for_image), np.asarray(for_grid)
    slopes = jax.jit(
        lambda image, grid, d_image, d_grid: (
            loss(image + d_image, grid + d_grid) - loss(image - d_image, grid - d_grid)
        )
    )
    still = jnp.asarray(np.zeros_like(image)), jnp.asarray(np.zeros_like(grid))
    at = jnp.asarray(image), jnp.asarray(grid)
    # Piecewise linear in both: a wide step has no error but rounding.
    for index in np.ndindex(grid.shape):
        slope = slopes(*at, still[0], one_hot(grid.shape, index, 0.05)) / 0.1
        assert float(for_grid[index]) == pytest.approx(float(slope), abs=2e-4)
    for index in np.ndindex(image.shape):
        slope = slopes(*at, one_hot(image.shape, index), still[1]) / 2
        assert float(for_image[index]) == pytest.approx(float(slope), abs=2e-5)


IDENTITY = jnp.asarray(np.eye(2, 3, dtype=np.float32))
STILL = jnp.asarray(np.zeros(4, np.float32))


@pytest.mark.parametrize("border", ["zeros", "edge"])
def test_gradient_at_the_identity_is_the_right_difference(border):
    image = random_image(0)
    height, width, _ = image.shape
    weight = random_image(1)
    pixels = affine_grid(IDENTITY, height=height, width=width)
    sample = partial(bilinear_sample, image, border=border)
    np.testing.assert_array_equal(sample(pixels), image)

    # The next row or column less this one: all of a pixel's slope toward it.
    mode = {"zeros": "constant", "edge": "edge"}[border]
    after = np.pad(np.asarray(image), ((0, 1), (0, 1), (0, 0)), mode=mode)
    down = ((after[1:, :-1] - after[:-1, :-1]) * np.asarray(weight)).sum(-1)
    right = ((after[:-1, 1:] - after[:-1, :-1]) * np.asarray(weight)).sum(-1)

    def along_grid(grid):
        return jnp.sum(weight * sample(grid))

    def along_matrix(matrix):
        return along_grid(affine_grid(matrix, height=height, width=width))

    def along_angle(angle):
        return jnp.sum(weight * rotate(image, angle, border=border))

    def along_angles(angles):
        return jnp.sum(weight * rotate_blocks(image, angles, border=border))

    for_grid, for_matrix, for_angle, for_angles = jax.jit(
        lambda *at: (
            jax.grad(along_grid)(at[0]),
            jax.grad(along_matrix)(at[1]),
            jax.grad(along_angle)(at[2]),
            jax.grad(along_angles)(at[3]),
        )
    )(pixels, IDENTITY, 0.0, STILL)
    np.testing.assert_allclose(for_grid, np.stack([down, right], -1), atol=1e-6)

    row, col = np.mgrid[:height, :width]
    row, col = row - (height - 1) / 2, col - (width - 1) / 2
    want = [[(slope * base).sum() for base in (row, col, 1)] for slope in (down, right)]
    assert np.abs(want).min() > 1e-2
    np.testing.assert_allclose(for_matrix, want, rtol=1e-4)

    # d(source)/d(angle) at 0 is (column, -row).
    want = (down * col - right * row).sum()
    assert abs(want) > 1e-2
    assert float(for_angle) == pytest.approx(want, rel=1e-4)
    assert np.abs(np.asarray(for_angles)).min() > 1e-2


def test_gradient_of_angle_equals_central_difference():
    image, weight = smooth_image(8), random_image(1, 8, 8)

    @jax.jit
    def loss(angle):
        return jnp.sum(weight * rotate(image, angle, border="edge"))

    gradient = jax.jit(jax.grad(loss))
    # Whatever kinks lie between the two angles are mild: the image is smooth.
    for angle in (0.3, -1.1):
        slope = float(loss(angle + 1e-3) - loss(angle - 1e-3)) / 2e-3
        assert float(gradient(angle)) == pytest.approx(slope, rel=2e-2)


# --- Rotation ------------------------------------------------------------------------


def test_positive_angle_turns_counter_clockwise():
    image = jnp.asarray([[1, 2, 3], [4, 5, 6], [7, 8, 9]], jnp.float32)[..., None] / 10
    turned = rotate(image, np.pi / 2)
    np.testing.assert_allclose(
        turned[..., 0] * 10, [[3, 6, 9], [2, 5, 8], [1, 4, 7]], atol=1e-5
    )
    for turns, side in itertools.product((-1, 1, 2), (4, 5)):
        image = random_image(turns + 5, side, side)
        turned = rotate(image, turns * np.pi / 2)
        np.testing.assert_allclose(turned, np.rot90(image, turns), atol=1e-5)


def test_rotation_keeps_pixels_square_where_the_image_is_not():
    image = np.zeros((5, 9, 1), np.float32)
    image[2, 4:7] = 1  # From the centre two pixels to the right.
    turned = rotate(jnp.asarray(image), np.pi / 2)
    want = np.zeros((5, 9, 1), np.float32)
    want[0:3, 4] = 1  # From the centre two pixels up.
    np.testing.assert_allclose(turned, want, atol=1e-5)


def test_rotating_back_restores_the_interior():
    image = smooth_image(24)
    for angle in (0.2, -0.5, 1.3):
        back = rotate(rotate(image, angle), -angle)
        np.testing.assert_allclose(back[6:-6, 6:-6], image[6:-6, 6:-6], atol=5e-3)
        assert float(jnp.abs(rotate(image, angle) - image).max()) > 0.05


def test_grid_is_in_pixels_about_the_centre():
    matrix = jnp.asarray([[1.0, 0.5, 2.0], [0.25, -1.0, -3.0]])
    grid = affine_grid(matrix, height=3, width=4)
    for h, w in itertools.product(range(3), range(4)):
        r, c = h - 1.0, w - 1.5
        want = [r + 0.5 * c + 2 + 1.0, 0.25 * r - c - 3 + 1.5]
        np.testing.assert_allclose(grid[h, w], want, rtol=1e-6)


@pytest.mark.parametrize("border", ["zeros", "edge"])
def test_one_block_is_the_whole_image(border):
    image, angle = random_image(0), jnp.float32(0.7)
    np.testing.assert_array_equal(
        rotate_blocks(image, angle[None], border=border),
        rotate(image, angle, border=border),
    )


@pytest.mark.parametrize(
    ("height", "width", "blocks", "row_cuts", "col_cuts"),
    [
        (8, 8, 2, [0, 4, 8], [0, 4, 8]),
        (7, 5, 2, [0, 4, 7], [0, 3, 5]),
        (8, 7, 3, [0, 3, 6, 8], [0, 3, 5, 7]),
    ],
)
@pytest.mark.parametrize("border", ["zeros", "edge"])
def test_blocks_turn_independently(height, width, blocks, row_cuts, col_cuts, border):
    image = random_image(0, height, width)
    angles = np.linspace(-1.2, 0.9, blocks**2)
    got = rotate_blocks(image, jnp.asarray(angles, jnp.float32), border=border)
    for h, w in itertools.product(range(height), range(width)):
        i = max(i for i in range(blocks) if row_cuts[i] <= h)
        j = max(j for j in range(blocks) if col_cuts[j] <= w)
        angle = angles[i * blocks + j]
        mid_h = (row_cuts[i] + row_cuts[i + 1] - 1) / 2
        mid_w = (col_cuts[j] + col_cuts[j + 1] - 1) / 2
        # Turn the output pixel clockwise, in x to the right and y upward.
        x, y = w - mid_w, mid_h - h
        source_x = x * np.cos(angle) + y * np.sin(angle)
        source_y = -x * np.sin(angle) + y * np.cos(angle)
        for c in range(2):
            want = scipy.ndimage.map_coordinates(
                np.asarray(image[..., c], np.float64),
                [[mid_h - source_y], [mid_w + source_x]],
                order=1,
                mode=SCIPY_MODES[border],
            )
            assert float(got[h, w, c]) == pytest.approx(want[0], abs=1e-5)


def test_no_hole_opens_between_blocks():
    white = jnp.ones((12, 12, 1))
    turned = rotate_blocks(white, jnp.full(4, 0.6))
    np.testing.assert_allclose(turned[3:9, 3:9], 1.0, rtol=1e-6)


@pytest.mark.parametrize("count", [0, 2, 3, 8])
def test_blocks_must_be_a_perfect_square(count):
    with pytest.raises(ValueError, match=f"A = {count} blocks"):
        rotate_blocks(random_image(0), jnp.zeros(count))


def test_blocks_must_have_pixels():
    with pytest.raises(ValueError, match="A = 16 blocks for an image of 3 x 9"):
        rotate_blocks(random_image(0, 3, 9), jnp.zeros(16))


# --- Deforming -----------------------------------------------------------------------


def test_identity_deformation():
    image = random_image(0)
    nothing = Deformation(
        scale=jnp.zeros(3), position=SOFT.position[0], angle=jnp.zeros(4)
    )
    for border in ("zeros", "edge"):
        got = deform(image, nothing, scales=SCALES, fill=1.0, border=border)
        np.testing.assert_array_equal(got, image)


def test_deform_occludes_and_then_rotates():
    image = jnp.full((9, 9, 1), 0.5)
    # A window of 3 x 3 in the top left corner, a quarter turn: it ends bottom left.
    deformation = Deformation(
        scale=one_hot(2, 0),
        position=one_hot((2, 3, 3), (slice(None), 0, 0)),
        angle=jnp.asarray([np.pi / 2], jnp.float32),
    )
    got = deform(image, deformation, scales=(1 / 3, 0.6), fill=1.0)
    want = np.full((9, 9, 1), 0.5)
    want[6:, :3] = 1.0
    np.testing.assert_allclose(got, want, atol=1e-5)
    # The border comes in after the fill: dark with zeros, not with edge.
    eighth = deformation.replace(angle=jnp.asarray([np.pi / 4], jnp.float32))
    turn = partial(deform, image, eighth, scales=(1 / 3, 0.6), fill=1.0)
    assert float(turn(border="zeros").min()) == 0
    assert float(turn(border="edge").min()) >= 0.5


def test_deform_has_a_gradient_for_every_logit_from_the_identity(key):
    weight = random_image(1)

    def loss(logits, max_angle):
        drawn = draw_deformation(key, logits, max_angle=max_angle)
        out = deform(random_image(0), drawn, scales=SCALES, fill=0.0)
        return jnp.sum(weight * out)

    gradient = jax.jit(jax.grad(loss))(random_logits(0), 0.5)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
        assert np.any(leaf)
    assert np.all(np.any(np.asarray(gradient.angle), axis=-1))


# --- Weak augmentations --------------------------------------------------------------


@pytest.mark.parametrize("offset", [(0, 0), (2, -1), (-2, 2), (1, 0)])
def test_shift_repeats_the_edge(offset):
    image = random_image(0, 4, 5)
    got = transforms.shift(image, jnp.asarray(offset), max_shift=2)
    for h, w in itertools.product(range(4), range(5)):
        source = min(max(h - offset[0], 0), 3), min(max(w - offset[1], 0), 4)
        np.testing.assert_array_equal(got[h, w], image[source])


def test_an_offset_beyond_the_bound_is_taken_as_the_bound():
    image = random_image(0)
    for beyond, bound in (((5, -7), (2, -2)), ((-3, 3), (-2, 2))):
        got = transforms.shift(image, jnp.asarray(beyond), max_shift=2)
        want = transforms.shift(image, jnp.asarray(bound), max_shift=2)
        np.testing.assert_array_equal(got, want)


def test_random_shift_draws_every_offset_evenly(key):
    image = jnp.arange(49.0).reshape(7, 7, 1) / 49
    shifted = jax.vmap(lambda k: transforms.random_shift(k, image, max_shift=2))(
        jax.random.split(key, 1000)
    )
    centre = np.round(np.asarray(shifted[:, 3, 3, 0]) * 49).astype(int)
    count = np.bincount(centre, minlength=49).reshape(7, 7)
    assert count[1:6, 1:6].sum() == 1000
    assert scipy.stats.chisquare(count[1:6, 1:6].ravel()).pvalue > 1e-3


def test_random_shift_of_zero_is_the_identity(key):
    image = random_image(0)
    got = transforms.random_shift(key, image, max_shift=0)
    np.testing.assert_array_equal(got, image)


def test_shift_cannot_be_negative(key):
    for move in (
        partial(transforms.random_shift, key, random_image(0)),
        partial(transforms.shift, random_image(0), jnp.zeros(2, jnp.int32)),
    ):
        with pytest.raises(ValueError, match="max_shift: found -1"):
            move(max_shift=-1)


def test_random_flip_mirrors_half_of_the_time(key):
    image = random_image(0)
    out = np.asarray(
        jax.vmap(lambda k: transforms.random_flip(k, image))(jax.random.split(key, 400))
    )
    same = (out == np.asarray(image)).all((1, 2, 3))
    flipped = (out == np.asarray(image)[:, ::-1]).all((1, 2, 3))
    assert (same ^ flipped).all()
    assert 160 < same.sum() < 240


def test_crop_is_a_slice_that_stays_inside():
    image = random_image(0)
    height, width, _ = image.shape
    for corner, start in (((1, 2), (1, 2)), ((-1, 99), None)):
        top, left = start or (0, width - 3)
        got = transforms.crop(image, jnp.asarray(corner), size=3)
        np.testing.assert_array_equal(got, image[top : top + 3, left : left + 3])
    np.testing.assert_array_equal(
        transforms.crop(image, jnp.zeros(2, jnp.int32), size=min(height, width)),
        image[: min(height, width), : min(height, width)],
    )


@pytest.mark.parametrize(("side", "start"), [(6, 1), (7, 1), (8, 2), (4, 0)])
def test_centre_crop_is_the_middle(side, start):
    image = jnp.arange(side * side, dtype=jnp.float32).reshape(side, side, 1)
    got = transforms.centre_crop(image, size=4)
    np.testing.assert_array_equal(got, image[start : start + 4, start : start + 4])


def test_random_crop_draws_every_corner_evenly(key):
    image = jnp.arange(30, dtype=jnp.float32).reshape(5, 6, 1)
    cut = jax.vmap(lambda k: transforms.random_crop(k, image, size=4))(
        jax.random.split(key, 3000)
    )
    corners = np.asarray(cut[:, 0, 0, 0]).astype(int)
    wanted = [row * 6 + column for row in range(2) for column in range(3)]
    counts = np.array([(corners == corner).sum() for corner in wanted])
    assert counts.sum() == 3000
    # Chi-square with five degrees of freedom: 20.5 is passed once in a thousand.
    assert ((counts - 500) ** 2 / 500).sum() < 20.5


def test_a_crop_fits_into_the_image(key):
    image = random_image(0)
    for cut in (
        partial(transforms.random_crop, key, image),
        partial(transforms.crop, image, jnp.zeros(2, jnp.int32)),
        partial(transforms.centre_crop, image),
    ):
        for size in (0, 99):
            with pytest.raises(ValueError, match=f"size: found {size}, accepted is 1"):
                cut(size=size)
