"""Rotation and sampling against SciPy, finite differences and properties."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import scipy.stats
from transform_cases import (
    SCALES,
    SOFT,
    draw_deformation,
    one_hot,
    random_image,
    random_logits,
)

from ssah_jax import transforms
from ssah_jax.types import Deformation

SCIPY_MODES = {"zeros": "grid-constant", "edge": "nearest"}


# Compiled once a shape: op by op, most of the time of these tests would be dispatch.
affine_grid = jax.jit(transforms.affine_grid, static_argnames=("height", "width"))


bilinear_sample = jax.jit(transforms.bilinear_sample, static_argnames="border")


deform = jax.jit(transforms.deform, static_argnames=("scales", "border"))


rotate = jax.jit(transforms.rotate, static_argnames="border")


rotate_blocks = jax.jit(transforms.rotate_blocks, static_argnames="border")


def smooth_image(side=24):
    y, x = np.mgrid[:side, :side] / side
    first = 0.5 + 0.3 * np.sin(2.0 * y + 3.0 * x)
    second = 0.5 + 0.3 * np.cos(3.0 * y - 1.0 * x)
    return jnp.asarray(np.stack([first, second], -1), jnp.float32)


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
