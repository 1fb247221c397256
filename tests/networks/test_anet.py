"""A-Net: a uniform start, a gradient for every parameter, a sense of place."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from network_cases import images, moved, normal

from ssah_jax.networks import ANet

# A-Net.


def anet(**options):
    return ANet(num_scales=3, grid=5, num_blocks=4, num_bins=7, width=4, **options)


@pytest.mark.parametrize(
    "shape",
    [(2, 8, 8, 1), (2, 28, 28, 1), (1, 64, 64, 3), (3, 224, 100, 3), (2, 3, 40, 1)],
)
def test_a_net_starts_uniform_on_images_of_any_size(shape):
    net, x = anet(), images(0, *shape)
    logits, variables = net.init_with_output(jax.random.key(0), x)
    batch = shape[0]
    assert logits.scale.shape == (batch, 3)
    assert logits.position.shape == (batch, 3, 5, 5)
    assert logits.angle.shape == (batch, 4, 7)
    for leaf in jax.tree.leaves(logits):
        assert not np.any(leaf)
    # Parameters do not depend on the image's size: one A-Net serves them all.
    small = jax.eval_shape(net.init, jax.random.key(0), x[:, :8, :8])
    assert jax.tree.map(jnp.shape, small) == jax.tree.map(jnp.shape, variables)


def logit_loss(net, variables, x):
    """Something that every logit matters to, unequally."""
    leaves = jax.tree.leaves(net.apply(variables, x))
    return sum(
        jnp.sum(jax.nn.log_softmax(leaf.reshape(len(leaf), -1)) * weights)
        for leaf, weights in (
            (leaf, normal(7 + i, len(leaf), leaf.size // len(leaf)))
            for i, leaf in enumerate(leaves)
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("side", [8, 28])
def test_the_gradient_reaches_every_parameter_of_a_net(side):
    net, x = anet(), images(0, 6, side, side, 1)
    variables = net.init(jax.random.key(0), x)
    optimiser = optax.sgd(0.1)
    gradient = jax.jit(jax.grad(lambda v: logit_loss(net, v, x)))
    updates, _ = optimiser.update(gradient(variables), optimiser.init(variables))
    # The last layers start at zero: the trunk learns from the second step on.
    for path, leaf in jax.tree_util.tree_leaves_with_path(
        gradient(optax.apply_updates(variables, updates))
    ):
        assert np.any(leaf), jax.tree_util.keystr(path)


@pytest.mark.slow
def test_a_net_tells_images_apart_and_treats_each_by_itself():
    net, x = anet(), images(0, 4, 28, 28, 1)
    variables = moved(net.init(jax.random.key(0), x))
    together = net.apply(variables, x)
    for i in range(4):
        alone = net.apply(variables, x[i : i + 1])
        for a, b in zip(*map(jax.tree.leaves, (alone, together)), strict=True):
            np.testing.assert_allclose(a[0], b[i], rtol=1e-4, atol=1e-5)
    for leaf in jax.tree.leaves(together):
        assert np.abs(leaf - leaf[:1]).max() > 1e-4


def test_each_scale_has_a_place_of_its_own():
    net, x = anet(), images(0, 2, 8, 8, 1)
    variables = net.init(jax.random.key(0), x)
    place = normal(1, 3, 5, 5)
    logits = net.apply({"params": variables["params"] | {"place": place}}, x)
    for one in logits.position:
        np.testing.assert_array_equal(one, place)


@pytest.mark.slow
def test_position_logits_follow_the_image():
    # A bright spot that moves by a cell's width moves what the cells see.
    net = ANet(num_scales=1, grid=4, num_blocks=1, num_bins=3, width=4)
    spots = np.zeros((2, 16, 16, 1), np.float32)
    spots[0, 2:6, 2:6] = spots[1, 2:6, 10:14] = 1.0
    variables = moved(net.init(jax.random.key(0), jnp.asarray(spots)))
    # Without places, context and convolution's borders only what is here counts.
    params = variables["params"]
    params = params | {
        "place": jnp.zeros_like(params["place"]),
        "context": jax.tree.map(jnp.zeros_like, params["context"]),
    }
    blank = net.apply({"params": params}, jnp.zeros((1, 16, 16, 1))).position
    change = np.abs(net.apply({"params": params}, jnp.asarray(spots)).position - blank)
    left, right = change[0, 0], change[1, 0]
    assert left[:, :2].sum() > left[:, 2:].sum()
    assert right[:, 2:].sum() > right[:, :2].sum()
