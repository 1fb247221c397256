"""What holds for all transforms: a case, documentation, vmap, jit."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transform_cases import ANGLES, LOGITS, MASKS, SCALES, SOFT, random_image

from ssah_jax import transforms

# --- The contract: API, vmap and jit, one spec for every function -------------------

GRID = jnp.asarray(
    np.random.default_rng(1).uniform(-3, 11, (2, 5, 4, 2)).astype(np.float32)
)


KEYS = jax.random.split(jax.random.key(3), 2)


IMAGES = jnp.asarray(np.stack([random_image(0), random_image(1)]))


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
    "window_or_rotation": (transforms.window_or_rotation, (KEYS, SOFT)),
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


@pytest.mark.slow
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
