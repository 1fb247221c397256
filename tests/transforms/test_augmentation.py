"""Shifts, flips and crops."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import scipy.stats
from transform_cases import random_image

from ssah_jax import transforms

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
