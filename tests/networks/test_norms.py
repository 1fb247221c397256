"""Norms: statistics of two domains, of groups, of all devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_cases import images, init, normal
from several_devices import first_devices

from ssah_jax.losses.reduce import masked_mean
from ssah_jax.networks import HNet
from ssah_jax.networks.layers import Norm

AXIS = "batch"


# Normalisation.


def norm_variables(norm, x):
    """Variables of both domains, with a scale and a bias that are not 1 and 0."""
    clean = norm.init(jax.random.key(0), x, domain="clean", train=False)
    generated = norm.init(jax.random.key(0), x, domain="generated", train=False)
    params = {k: v + normal(3, *v.shape) for k, v in clean["params"].items()}
    return {
        "params": params,
        "batch_stats": clean["batch_stats"] | generated["batch_stats"],
    }


def train_norm(norm, variables, x, domain):
    y, moved = norm.apply(
        variables, x, domain=domain, train=True, mutable=["batch_stats"]
    )
    return y, moved["batch_stats"]


@pytest.mark.parametrize("domain", ["clean", "generated"])
@pytest.mark.parametrize("share", [False, True])
def test_training_moves_the_statistics_of_its_domain_only(domain, share):
    norm, x = Norm(share_stats=share), 2 * normal(0, 6, 3, 3, 4) + 1
    variables = norm_variables(norm, x)
    before = variables["batch_stats"]
    owner = "stats_clean" if share else f"stats_{domain}"
    assert set(before) == ({owner} if share else {"stats_clean", "stats_generated"})
    y, after = train_norm(norm, variables, x, domain)
    flat = np.asarray(x).reshape(-1, 4)
    np.testing.assert_allclose(after[owner]["mean"], 0.1 * flat.mean(0), rtol=1e-4)
    np.testing.assert_allclose(after[owner]["var"], 0.9 + 0.1 * flat.var(0), rtol=1e-4)
    for name in set(before) - {owner}:
        for field in ("mean", "var"):
            np.testing.assert_array_equal(before[name][field], after[name][field])
    # In training the batch itself normalises, scale and bias are of both domains.
    params = {k: np.asarray(v) for k, v in variables["params"].items()}
    wanted = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    wanted = wanted * params["scale"] + params["bias"]
    np.testing.assert_allclose(y.reshape(-1, 4), wanted, rtol=1e-4, atol=1e-5)


def test_evaluation_uses_the_statistics_of_its_domain_and_moves_none():
    norm, x = Norm(), normal(0, 6, 3, 3, 4)
    variables = norm_variables(norm, x)
    _, stats = train_norm(norm, variables, 5 * x + 7, "generated")
    variables = variables | {"batch_stats": stats}
    clean, moved = norm.apply(
        variables, x, domain="clean", train=False, mutable=["batch_stats"]
    )
    assert jax.tree.all(jax.tree.map(jnp.array_equal, moved["batch_stats"], stats))
    params = variables["params"]
    wanted = x / np.sqrt(1 + 1e-5) * params["scale"].reshape(1, 1, 1, 4)
    np.testing.assert_allclose(clean, wanted + params["bias"].reshape(1, 1, 1, 4), 1e-4)
    generated = norm.apply(variables, x, domain="generated", train=False)
    assert np.abs(generated - clean).max() > 0.1


@pytest.mark.parametrize(("width", "groups"), [(4, 1), (16, 2), (28, 2), (13, 1)])
def test_group_norm_takes_moments_of_groups_of_channels(width, groups):
    norm, x = Norm("group"), 3 * normal(0, 2, 3, 3, width) + 1
    variables = norm.init(jax.random.key(0), x, domain="clean", train=True)
    assert set(variables) == {"params"}
    found = norm.apply(variables, x, domain="generated", train=True)
    split = np.asarray(x).reshape(2, 9, groups, width // groups)
    mean, variance = split.mean((1, 3), keepdims=True), split.var((1, 3), keepdims=True)
    wanted = ((split - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_no_norm_is_the_identity():
    norm, x = Norm("none"), normal(0, 2, 3, 3, 4)
    y, variables = norm.init_with_output(
        jax.random.key(0), x, domain="clean", train=True
    )
    np.testing.assert_array_equal(y, x)
    assert not jax.tree.leaves(variables)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [4, 8])
def test_batch_norm_over_devices_equals_one_device(devices):
    x, weights = images(0, 24, 8, 8, 1), normal(1, 24, 6)
    options = {"bits": 6, "widths": (4, 8)}
    variables = init(HNet(**options), x)

    def share(params, x, weights, axis_name):
        net = HNet(**options, axis_name=axis_name)
        outputs, moved = net.apply(
            variables | {"params": params},
            x,
            domain="generated",
            train=True,
            mutable=["batch_stats"],
        )
        values = jnp.sum(jnp.tanh(outputs.code) * weights, axis=-1)
        loss = masked_mean(values, axis_name=axis_name)
        return loss, (moved["batch_stats"], outputs.code)

    gradient = jax.value_and_grad(share, has_aux=True)

    def one(params, x, weights):
        (loss, (stats, code)), of_params = gradient(params, x, weights, AXIS)
        return jax.lax.psum((loss, of_params), AXIS), stats, code

    def split(a):
        return a.reshape(devices, -1, *a.shape[1:])

    params = variables["params"]
    (wanted_loss, (wanted_stats, wanted_code)), wanted = jax.jit(
        gradient, static_argnums=3
    )(params, x, weights, None)
    (loss, of_params), stats, code = jax.pmap(
        one, AXIS, in_axes=(None, 0, 0), devices=first_devices(devices)
    )(params, split(x), split(weights))
    np.testing.assert_allclose(loss, np.full(devices, wanted_loss), rtol=1e-5)
    np.testing.assert_allclose(code.reshape(24, 6), wanted_code, rtol=1e-5, atol=1e-5)
    for found, target in ((stats, wanted_stats), (of_params, wanted)):
        for a, b in zip(*map(jax.tree.leaves, (found, target)), strict=True):
            scale = np.abs(b).max()
            np.testing.assert_allclose(
                a, np.broadcast_to(b, a.shape), atol=1e-5 * scale + 1e-7
            )
