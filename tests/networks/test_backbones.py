"""Backbones: types, frozen stages, statistics, sizes, and layers of their own."""

import zlib

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from narrow_backbones import NARROW, apply, images, leaves, shapes
from quick_cases import slow_but

from ssah_jax.networks.alexnet import SMALLEST, VGGF, local_response_norm
from ssah_jax.networks.backbones import (
    SMALLEST_IMAGE,
    SPECS,
    build_backbone,
    stage_of,
)
from ssah_jax.networks.efficientnet_lite import EfficientNetLite
from ssah_jax.networks.layers import adaptive_mean
from ssah_jax.networks.vit import resize_positions

SHORT_LITE = EfficientNetLite(((1, 8, 1, 1, 3), (2, 12, 2, 2, 5)), 4, 8)


def both_domains(network, side):
    """Variables of a backbone, drawn so that signals keep their size."""
    filled = {}
    for path, leaf in leaves(shapes(network, side)).items():
        rng = np.random.default_rng(zlib.crc32(path.encode()))
        x = rng.normal(size=leaf.shape)
        if path.endswith("kernel"):
            x *= np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif path.endswith(("scale", "var", "scale1", "scale2")):
            x = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            x *= 0.3
        filled[path] = jnp.asarray(x, jnp.float32)
    return flax.traverse_util.unflatten_dict(filled, sep="/")


# Training.


@pytest.mark.parametrize(
    "name", slow_but(sorted(set(NARROW) - {"resnet50", "vit_b16"}), "alexnet")
)
def test_bfloat16_keeps_float32_parameters_and_comes_close(name):
    network = SHORT_LITE if name == "efficientnet_lite0" else NARROW[name]
    rough = network.clone(dtype="bfloat16")
    side = SMALLEST_IMAGE[name] + (0 if "vit" in name else 9)
    made = shapes(rough, side)
    assert jax.tree.all(jax.tree.map(lambda x: x.dtype == jnp.float32, made))
    variables = both_domains(rough, side)
    x = images(side, 6)

    train = name == "resnet18"
    exact, stats = apply(network, variables, x, train=train)
    found, rough_stats = apply(rough, variables, x, train=train)
    assert found.dtype == jnp.float32
    difference = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 1e-6 < difference < 0.2
    for a, b in zip(*map(jax.tree.leaves, (stats, rough_stats)), strict=True):
        assert b.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=0.05 * np.abs(a).max())


def gradients_of(network, side):
    """Variables, and by path gradients and statistics after a training step."""
    variables, x = both_domains(network, side), images(side, 4)

    def loss(params):
        feature, moved = network.apply(
            variables | {"params": params},
            x,
            domain="clean",
            train=True,
            mutable=["batch_stats"],
        )
        weights = np.random.default_rng(0).normal(size=feature.shape)
        return jnp.sum(feature * weights), moved.get("batch_stats", {})

    gradients, stats = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    return leaves(variables), leaves(gradients), leaves(stats)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "all_of_them"),
    slow_but(
        [
            *((name, False) for name in sorted(set(NARROW) - {"vit_b16"})),
            ("resnet18", True),
            ("vit_s14", True),
        ],
        ("resnet18", False),
        ("vit_s14", True),
    ),
)
def test_frozen_stages_do_not_learn(name, all_of_them):
    network, side = NARROW[name], SMALLEST_IMAGE[name]
    groups = shapes(network, side)["params"]
    stages = sorted({stage_of(name, group) for group in groups})
    # The narrow Vision Transformers lack blocks, so numbers of stages have a gap.
    frozen = len(stages) - (0 if all_of_them else 2)
    before, gradients, stats = gradients_of(network.clone(frozen=frozen), side)
    frozen_stages, moving = set(stages[:frozen]), set()
    for path, gradient in gradients.items():
        stage = stage_of(name, path.split("/")[0])
        if stage in frozen_stages:
            assert not np.any(gradient), path
        elif np.any(gradient):
            moving.add(stage)
    assert moving == set(stages[frozen:])
    for path, after in stats.items():
        learns = stage_of(name, path.split("/")[0]) not in frozen_stages
        moved = not np.array_equal(before[f"batch_stats/{path}"], after)
        assert moved == (learns and "stats_clean" in path), path


def test_a_frozen_stage_normalises_by_running_statistics():
    network = NARROW["resnet18"].clone(frozen=5)
    variables = both_domains(network, 32)
    x = images(32, 4)
    training, _ = apply(network, variables, x, train=True)
    evaluation, _ = apply(network, variables, x, train=False)
    np.testing.assert_array_equal(training, evaluation)


def test_frozen_stages_of_small_conv_are_its_blocks():
    network = build_backbone("small_conv", widths=(4, 8), frozen=1)
    before, gradients, stats = gradients_of(network, 8)
    for path, gradient in gradients.items():
        assert np.any(gradient) == ("1/" in path), path
    for path, after in stats.items():
        moved = not np.array_equal(before[f"batch_stats/{path}"], after)
        assert moved == path.startswith("norm1/stats_clean"), path
    with pytest.raises(ValueError, match="accepted for small_conv are 0 to 2 stages"):
        build_backbone("small_conv", widths=(4, 8), frozen=3)


@pytest.mark.parametrize("frozen", [-1, 6])
def test_a_wrong_number_of_frozen_stages_is_refused(frozen):
    message = f"^frozen: found {frozen}, accepted for resnet50 are 0 to 5 stages$"
    with pytest.raises(ValueError, match=message):
        build_backbone("resnet50", frozen=frozen)


@pytest.mark.parametrize("network", [NARROW["resnet18"], SHORT_LITE])
def test_domains_have_statistics_of_their_own(network):
    variables, x = both_domains(network, 32), images(32)
    for owner, unused in (("clean", "generated"), ("generated", "clean")):
        feature, _ = apply(network, variables, x, domain=owner)
        without = {
            path: jnp.full_like(leaf, jnp.nan) if f"stats_{unused}" in path else leaf
            for path, leaf in leaves(variables).items()
        }
        without = flax.traverse_util.unflatten_dict(without, sep="/")
        again, _ = apply(network, without, x, domain=owner)
        np.testing.assert_array_equal(again, feature)
        assert np.all(np.isfinite(feature))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_options_of_norm_reach_every_layer(name):
    def made(**options):
        return shapes(build_backbone(name, **options), 32)

    assert "batch_stats" not in made(norm="group")
    shared = leaves(made(share_stats=True)["batch_stats"])
    assert all("stats_clean" in path for path in shared)
    assert build_backbone(name, axis_name="batch").axis_name == "batch"


@pytest.mark.parametrize("name", NARROW)
def test_the_smallest_image_and_below(name):
    network, side = NARROW[name], SMALLEST_IMAGE[name]
    x = jax.ShapeDtypeStruct((2, side, side + 2 * SPECS[name].multiple, 3), jnp.float32)

    def init(x):
        return network.init(jax.random.key(0), x, domain="clean", train=False)

    jax.eval_shape(init, x)
    for shape in ((2, side - 1, side, 3), (2, side, side - 1, 3)):
        with pytest.raises(ValueError, match=rf"found images of {shape[1]} x "):
            jax.eval_shape(init, jax.ShapeDtypeStruct(shape, jnp.float32))


# Layers.


@pytest.mark.parametrize("size", [(6, 6), (1, 1), (7, 5), (12, 6), (13, 2)])
def test_adaptive_mean_takes_means_of_bins(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    wanted = np.zeros((2, 6, 6, 3))
    for i in range(6):
        for j in range(6):
            rows = slice(i * size[0] // 6, -(-(i + 1) * size[0] // 6))
            columns = slice(j * size[1] // 6, -(-(j + 1) * size[1] // 6))
            wanted[:, i, j] = x[:, rows, columns].mean((1, 2))
    found = adaptive_mean(jnp.asarray(x), 6)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_local_response_norm_divides_by_its_neighbours():
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 7)).astype(np.float32)
    wanted = np.zeros_like(x)
    for c in range(7):
        near = x[..., max(0, c - 2) : c + 3]
        wanted[..., c] = x[..., c] / (2 + 0.5 * (near**2).sum(-1) / 5) ** 0.75
    found = local_response_norm(jnp.asarray(x), offset=2.0, alpha=0.5)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    gradient = jax.grad(lambda x: local_response_norm(x, alpha=0.5).sum())
    assert np.all(np.isfinite(gradient(jnp.asarray(x))))


def test_vgg_f_has_the_maps_of_its_paper():
    network = VGGF()
    x = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)

    def maps(x):
        _, variables = network.init_with_output(
            jax.random.key(0),
            x,
            domain="clean",
            train=False,
            capture_intermediates=True,
            mutable=True,
        )
        return variables

    variables = jax.eval_shape(maps, x)
    found = variables["intermediates"]
    sides = [found[f"conv{i}"]["__call__"][0].shape[1] for i in range(5)]
    assert sides == [54, 27, 13, 13, 13]
    kernels = [variables["params"][f"conv{i}"]["kernel"].shape for i in range(5)]
    assert kernels[:3] == [(11, 11, 3, 64), (5, 5, 64, 256), (3, 3, 256, 256)]
    assert variables["params"]["fc0"]["kernel"].shape == (256 * 36, 4096)
    assert SMALLEST_IMAGE["vgg_f"] == SMALLEST


def test_positions_of_the_same_grid_are_left_alone():
    rng = np.random.default_rng(0)
    place = jnp.asarray(rng.normal(size=(1, 26, 4)), jnp.float32)
    assert resize_positions(place, 5, 5, 5) is place
    other = resize_positions(place, 5, 3, 8)
    assert other.shape == (1, 25, 4)
    np.testing.assert_array_equal(other[:, 0], place[:, 0])
    # A constant stays one, and rows stay apart from columns.
    ramp = jnp.broadcast_to(jnp.arange(5.0).reshape(5, 1), (5, 5)).reshape(1, 25, 1)
    cells = resize_positions(jnp.concatenate([ramp[:, :1], ramp], 1), 5, 10, 3)
    cells = np.asarray(cells[:, 1:]).reshape(10, 3)
    np.testing.assert_allclose(cells, cells[:, :1] * np.ones((1, 3)), atol=1e-5)
    assert np.all(np.diff(cells[:, 0]) > 0)
