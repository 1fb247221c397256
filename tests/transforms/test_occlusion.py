"""Windows that hide a part of an image."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transform_cases import (
    MASKS,
    SCALES,
    SOFT,
    draw_deformation,
    one_hot,
    random_image,
    random_logits,
)

from ssah_jax import transforms

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
