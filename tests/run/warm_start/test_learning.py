"""Pretrained backbones in a run: what learns at what rate, what stays frozen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights_cases import SHAPE, SMALL, leaves, make_batch, make_config, make_state

from ssah_jax.config import Config
from ssah_jax.method import optim, steps


def after_steps(config: Config, state, number=2):
    """The state after some steps, and the last one's metrics."""
    step = jax.jit(functools.partial(steps.train_step, config=config))
    for _ in range(number):
        state, metrics = step(state, make_batch())
    return state, metrics


# What learns, and how fast.


def first_updates(config: Config, params, gradient):
    """Parameters' changes in a first step, and the optimiser's state after it."""
    optimiser = optim.hnet_optimiser(config)
    init = jax.jit(optimiser.init)(params)
    # Operation by operation: two programs may differ in the last bit.
    updates, state = optimiser.update(gradient, init, params)
    return leaves(updates), state


def random_like(tree, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), tree
    )


def random_params(config: Config):
    shapes = jax.eval_shape(
        lambda key: steps.hnet_variables(key, config=config, image_shape=SHAPE),
        jax.random.key(0),
    )
    return random_like(shapes["params"])


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["small_conv", "resnet18"])
def test_the_backbone_has_a_rate_of_its_own(backbone):
    hnet = {"backbone": backbone}
    params = random_params(make_config(hnet=hnet))
    gradient = random_like(params, 1)
    whole, state = first_updates(make_config(hnet=hnet), params, gradient)
    assert state[1][0].mu.keys() == params.keys()
    rate = np.float32(0.07)
    slow, _ = first_updates(
        make_config(hnet=hnet, optim={"backbone_rate": 0.07}), params, gradient
    )
    none, _ = first_updates(
        make_config(hnet=hnet, optim={"backbone_rate": 0.0}), params, gradient
    )
    assert {name.partition("/")[0] for name in whole} == {
        "hash",
        {"resnet18": "ResNet_0", "small_conv": "SmallConv_0"}[backbone],
    }
    for name, update in whole.items():
        assert np.all(update != 0)
        head = name.startswith("hash")
        np.testing.assert_array_equal(slow[name], update if head else rate * update)
        np.testing.assert_array_equal(none[name], update if head else 0 * update)


@pytest.mark.slow
def test_frozen_stages_have_neither_updates_nor_moments():
    # Beside a rate of the backbone's own.
    config = make_config(hnet={"frozen": 2}, optim={"backbone_rate": 0.5})
    params = random_params(config)
    gradient = random_like(params, 1)
    updates, state = first_updates(config, params, gradient)
    for name, update in updates.items():
        frozen = name.startswith(("ResNet_0/stem", "ResNet_0/stage1"))
        assert np.all(update == 0) if frozen else np.all(update != 0), name
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    learning = [name for name in updates if "stem" not in name and "stage1" not in name]
    assert len(moments) == 2 * len(learning)


@pytest.mark.slow
def test_frozen_blocks_stay_exactly_as_they_were():
    config = make_config(hnet=SMALL | {"frozen": 1})
    before = make_state(config)
    # Numbers that an average of two equal ones moves by rounding.
    params = random_like(before.hnet)
    before = before.replace(hnet=params, teacher=jax.tree.map(jnp.copy, params))
    after, _ = after_steps(config, before)
    for field in ("hnet", "teacher", "batch_stats", "teacher_stats"):
        old, new = leaves(getattr(before, field)), leaves(getattr(after, field))
        for name in old:
            same = name.startswith(("SmallConv_0/conv0", "SmallConv_0/norm0"))
            assert np.array_equal(old[name], new[name]) == same, (field, name)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [2, -1])
def test_frozen_stages_stay_exactly_as_they_were(weights, frozen):
    config = make_config(weights, hnet={"frozen": frozen})
    before = make_state(config)
    after, _ = after_steps(config, before)
    stages = [*"01234"] if frozen == -1 else ["0", "1"]
    for field in ("hnet", "teacher", "batch_stats", "teacher_stats"):
        old, new = leaves(getattr(before, field)), leaves(getattr(after, field))
        assert old.keys() == new.keys()
        for name in old:
            group = name.removeprefix("ResNet_0/").replace("stem", "stage0")
            same = name.startswith("ResNet_0") and group[5] in stages
            assert np.array_equal(old[name], new[name]) == same, (field, name)


@pytest.mark.slow
def test_bfloat16_computes_in_half_the_bits_and_keeps_float32():
    config = make_config(hnet=SMALL | {"dtype": "bfloat16"})
    before = make_state(config)
    after, metrics = after_steps(config, before, 1)
    for tree in (after.hnet, after.batch_stats, after.teacher, after.hnet_opt):
        for leaf in jax.tree.leaves(tree):
            assert leaf.dtype in (jnp.float32, jnp.int32)
    assert all(np.isfinite(value) for value in metrics.values())
    for name, value in leaves(before.hnet).items():
        assert not np.array_equal(leaves(after.hnet)[name], value), name
    images = jnp.asarray(make_batch().image)
    half, whole = (
        jax.jit(functools.partial(steps.encode_step, config=c))(
            before.hnet, before.batch_stats, images
        )
        for c in (config, make_config(hnet=SMALL))
    )
    assert half.dtype == whole.dtype == jnp.float32
    error = np.abs(half - whole).max()
    assert 1e-4 < error < 0.1 * np.abs(whole).max()
