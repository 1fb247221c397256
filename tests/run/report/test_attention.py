"""Attention of bits and the plane of codes, beside loops."""

import numpy as np
import pytest

from ssah_jax.run.report.attention import (
    flips_by_place,
    flips_by_window,
    principal_plane,
    window_masks,
)

SCALES, GRID = (0.3, 0.6), 3


def starts(side: int, scale: float) -> list[tuple[int, int]]:
    size = max(1, round(scale * side))
    return [
        (start := round((side - size) * cell / (GRID - 1)), start + size)
        for cell in range(GRID)
    ]


def test_flips_are_those_of_a_loop_over_windows():
    rng = np.random.default_rng(0)
    image, fill = rng.integers(0, 256, (2, 7, 10, 3)).astype(np.uint8)
    weights = rng.normal(size=(7 * 10 * 3, 5))

    def encode(images):
        assert images.dtype == np.uint8
        return (images.reshape(len(images), -1) / 255.0 - 0.5) @ weights

    found = flips_by_window(image, encode, fill=fill, scales=SCALES, grid=GRID)
    places = flips_by_place(found, window_masks(7, 10, scales=SCALES, grid=GRID))
    clean = encode(image[None])[0] >= 0
    total, windows = np.zeros((7, 10)), np.zeros((7, 10))
    for s, scale in enumerate(SCALES):
        for i, (top, bottom) in enumerate(starts(7, scale)):
            for j, (left, right) in enumerate(starts(10, scale)):
                hidden = image.copy()
                hidden[top:bottom, left:right] = fill[top:bottom, left:right]
                flips = (encode(hidden[None])[0] >= 0) != clean
                np.testing.assert_array_equal(found[s, i, j], flips)
                total[top:bottom, left:right] += flips.sum()
                windows[top:bottom, left:right] += 1
    assert found.any() and not found.all() and windows.all()
    np.testing.assert_allclose(places, total / windows)


def test_a_place_that_no_window_reaches_is_not_a_number():
    masks = window_masks(5, 5, scales=(0.2,), grid=1)
    places = flips_by_place(np.ones((1, 1, 1, 4), bool), masks)
    assert places[2, 2] == 4 and np.isnan(places).sum() == 24


@pytest.mark.parametrize("bits", [1, 2, 9])
def test_plane_has_the_most_variance(bits):
    codes = np.random.default_rng(1).normal(size=(50, bits)) * np.arange(1, bits + 1)
    axes, shares = principal_plane(codes)
    centred = codes - codes.mean(axis=0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    for axis in range(min(2, bits)):
        assert abs(axes[:, axis] @ rows[axis]) == pytest.approx(1)
        assert axes[np.abs(axes[:, axis]).argmax(), axis] > 0
        expected = singular[axis] ** 2 / (singular**2).sum()
        assert shares[axis] == pytest.approx(expected)
    if bits == 1:
        assert not axes[:, 1].any() and shares[1] == 0
    assert not principal_plane(np.ones((4, bits)))[1].any()
