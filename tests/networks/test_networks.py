"""H-Net and its layers: shapes, devices, gradients."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_cases import images, init, normal

from ssah_jax.networks import BACKBONES, NORMS, SMALLEST_IMAGE, HNet
from ssah_jax.networks.backbones import build_backbone
from ssah_jax.networks.layers import depthwise_conv, max_pool2

# H-Net.


def trained(net, domain="clean"):
    """From variables and images to outputs and moved statistics, as one program."""
    return jax.jit(
        partial(net.apply, domain=domain, train=True, mutable=["batch_stats"])
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("side", "width"), [(8, 4 * 128), (28, 9 * 128), (64, 128), (33, 16 * 128)]
)
def test_small_conv_serves_any_small_image(side, width, channels, norm):
    net = HNet(bits=12, norm=norm)
    x = jax.ShapeDtypeStruct((5, side, side, channels), jnp.float32)
    variables = jax.eval_shape(lambda x: init(net, x), x)
    for train in (False, True):
        outputs, _ = jax.eval_shape(
            lambda v, x, t=train: net.apply(v, x, train=t, mutable=["batch_stats"]),
            variables,
            x,
        )
        assert outputs.code.shape == (5, 12)
        assert outputs.feature.shape == (5, width)
        assert outputs.code.dtype == outputs.feature.dtype == jnp.float32
    kernel = variables["params"]["SmallConv_0"]["conv0"]["kernel"]
    assert kernel.shape == (3, 3, channels, 32)


def test_small_conv_serves_oblong_images():
    net = HNet(bits=12)
    x = jax.ShapeDtypeStruct((2, 8, 40, 1), jnp.float32)
    outputs, _ = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x), x)
    assert outputs.code.shape == (2, 12)


@pytest.mark.parametrize("side", [63, 64, 127, 224])
def test_alexnet(side):
    net = HNet(bits=48, backbone="alexnet")
    x = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: init(net, x), x)
    outputs = jax.eval_shape(net.apply, variables, x)
    assert outputs.code.shape == (2, 48)
    assert outputs.feature.shape == (2, 4096)
    if side == 224:
        # "One weird trick": 57.0 million up to the feature, six by six positions.
        backbone = variables["params"]["AlexNet_0"]
        assert backbone["fc0"]["kernel"].shape == (256 * 6 * 6, 4096)
        assert sum(x.size for x in jax.tree.leaves(backbone)) == 57_003_840


def test_the_smallest_image_is_the_smallest():
    assert set(SMALLEST_IMAGE) == set(BACKBONES)
    side = SMALLEST_IMAGE["alexnet"] - 1
    net = HNet(bits=48, backbone="alexnet")
    with pytest.raises(ValueError, match="alexnet: found images of 62 x 62 pixels"):
        jax.eval_shape(
            lambda x: init(net, x),
            jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32),
        )


def test_an_unknown_backbone_is_refused_in_one_line():
    with pytest.raises(
        ValueError, match=r"^backbone: found 'vgg', accepted are small_"
    ):
        build_backbone(
            "vgg", widths=(8,), norm="none", share_stats=False, axis_name=None
        )


def test_images_are_standardised_by_channel():
    x = images(0, 4, 8, 8, 3)
    mean, std = (0.2, 0.5, 0.7), (0.1, 0.2, 0.3)
    net = HNet(bits=6, mean=mean, std=std, widths=(4,))
    plain = HNet(bits=6, mean=(0.0,), std=(1.0,), widths=(4,))
    variables = init(net, x)
    by_hand = np.stack([(x[..., c] - mean[c]) / std[c] for c in range(3)], axis=-1)
    np.testing.assert_allclose(
        jax.jit(net.apply)(variables, x).code,
        jax.jit(plain.apply)(variables, jnp.asarray(by_hand)).code,
        rtol=1e-4,
        atol=1e-5,
    )


def test_batch_norm_centres_every_bit_and_the_hash_layer_has_no_bias():
    x = images(0, 32, 8, 8, 1)
    net = HNet(bits=6, widths=(4,))
    variables = init(net, x)
    code = trained(net)(variables, x)[0].code
    np.testing.assert_allclose(code.mean(0), np.zeros(6), atol=1e-5)
    np.testing.assert_allclose(code.std(0), np.ones(6), rtol=1e-2)
    assert set(variables["params"]["hash"]) == {"kernel"}
    assert "centre" not in variables["params"]
    other = init(HNet(bits=6, widths=(4,), norm="group"), x)
    assert set(other["params"]["hash"]) == {"kernel", "bias"}
    assert "batch_stats" not in other


def test_both_domains_makes_all_variables_and_shares_all_parameters():
    x = images(0, 4, 8, 8, 1)
    net = HNet(bits=6, widths=(4, 8))
    both, clean = init(net, x), net.init(jax.random.key(0), x)
    shapes = jax.tree.map(jnp.shape, both["params"])
    assert shapes == jax.tree.map(jnp.shape, clean["params"])
    flat = jax.tree_util.tree_flatten_with_path(both["batch_stats"])[0]
    names = {str(getattr(path[-2], "key", "")) for path, _ in flat}
    assert names == {"stats_clean", "stats_generated"}
    assert len(flat) == 2 * 2 * 3  # Two domains, mean and variance, three layers.
    shared = init(HNet(bits=6, widths=(4, 8), share_stats=True), x)
    assert len(jax.tree.leaves(shared["batch_stats"])) == 2 * 3


def test_h_net_evaluates_by_clean_statistics():
    x = images(0, 8, 8, 8, 1)
    net = HNet(bits=6, widths=(4,))
    variables = init(net, x)
    evaluated = jax.jit(net.apply)
    plain = evaluated(variables, x).code
    for domain, changes in (("generated", False), ("clean", True)):
        _, moved = trained(net, domain)(variables, x)
        code = evaluated(variables | moved, x).code
        assert (np.abs(code - plain).max() > 1e-3) == changes


def test_training_codes_do_not_depend_on_the_domain_but_for_the_statistics():
    x = images(0, 8, 8, 8, 1)
    net = HNet(bits=6, widths=(4,))
    variables = init(net, x)
    codes = [trained(net, d)(variables, x)[0].code for d in ("clean", "generated")]
    np.testing.assert_array_equal(*codes)


# Pooling.


@pytest.mark.parametrize(
    "shape", [(2, 4, 4, 3), (2, 5, 7, 3), (1, 2, 9, 1), (1, 28, 28, 2)]
)
def test_max_pool2_equals_the_window_reduction(shape):
    x = normal(0, *shape)
    np.testing.assert_array_equal(max_pool2(x), nn.max_pool(x, (2, 2), (2, 2)))
    weights = normal(1, *max_pool2(x).shape)

    def slope(pool):
        return jax.jit(jax.grad(lambda x: jnp.sum(pool(x) * weights)))(x)

    wanted = slope(lambda x: nn.max_pool(x, (2, 2), (2, 2)))
    np.testing.assert_array_equal(slope(max_pool2), wanted)


def test_max_pool2_shares_the_gradient_among_equals():
    gradient = jax.grad(lambda x: max_pool2(x).sum())(jnp.zeros((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient, np.full((1, 2, 2, 1), 0.25))


@pytest.mark.parametrize(
    ("shape", "side", "stride"),
    [
        ((7, 10), 3, 1),
        ((8, 8), 3, 2),
        ((8, 8), 5, 1),
        ((7, 10), 5, 2),
        ((3, 1), 5, 2),
    ],
)
def test_depthwise_convolution_equals_xlas(shape, side, stride):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (2, *shape, 6))
    kernel = jax.random.normal(keys[1], (side, side, 1, 6))
    options = {
        "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
        "feature_group_count": 6,
    }

    def total(form, x, kernel):
        found = form(x, kernel, (stride, stride), "SAME", **options)
        return (found**3).sum(), found

    mine, other = (
        jax.jit(jax.value_and_grad(partial(total, form), (0, 1), has_aux=True))(
            x, kernel
        )
        for form in (depthwise_conv, jax.lax.conv_general_dilated)
    )
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max(), rtol=1e-4)
