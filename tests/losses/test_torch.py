"""Losses against PyTorch: values and gradients made by benchmarks/torch_losses.py.

The golden values are stored, so these tests run without PyTorch; where it is
importable, they are made anew and compared with those stored.
"""

import json

import jax
import jax.numpy as jnp
import make_losses
import numpy as np
import pytest

from ssah_jax import losses

GOLDEN = json.loads(make_losses.FILE.read_text())
PAIRS, POINTS = make_losses.pair_cases(), make_losses.pointwise_cases()

# Every loss at its preset.
PAIRWISE = {
    "dsh": losses.dsh_loss,
    "dpsh": losses.dpsh_loss,
    "dhn": losses.dhn_loss,
    "hashnet": losses.hashnet_loss,
    "dch": losses.dch_loss,
    "logistic_pair": losses.logistic_pair_loss,
}
RANKING = {
    "mihash": losses.mihash_loss,
    "talr": losses.talr_loss,
    "dtsh": losses.dtsh_loss,
}
POINTWISE = {
    "greedyhash": losses.greedyhash_loss,
    "csq": losses.csq_loss,
    "dpn": losses.dpn_loss,
    "orthohash": losses.orthohash_loss,
}


def pairwise(method, u, v, similar, where):
    values = PAIRWISE[method](u, v, similar, where=where)
    if method in ("hashnet", "dch"):
        values = values * losses.pair_weights(similar, where=where)
    return losses.masked_mean(values, where)


def ranking(method, u, v, similar, where):
    ranked = jnp.any(similar & where, 1)
    if method != "talr":
        ranked &= jnp.any(~similar & where, 1)
    return losses.masked_mean(RANKING[method](u, v, similar, where=where), ranked)


def pointwise(method, u, labels, centres, ties, where):
    extra = (ties,) if method == "csq" else ()
    values = POINTWISE[method](u, labels, centres, *extra, where=where)
    return losses.masked_mean(values, where & jnp.any(labels > 0, 1))


def assert_golden(golden, value, gradients):
    wanted, *of = golden
    np.testing.assert_allclose(value, wanted, rtol=2e-6, atol=1e-6)
    assert len(of) == len(gradients)
    for found, gradient in zip(gradients, of, strict=True):
        gradient = np.asarray(gradient)
        assert np.abs(gradient).max() > 1e-4
        np.testing.assert_allclose(
            found, gradient, rtol=2e-5, atol=2e-6 * np.abs(gradient).max()
        )


def float32(*arrays):
    return [jnp.asarray(x, bool if x.dtype == bool else jnp.float32) for x in arrays]


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("method", [*PAIRWISE, *RANKING])
def test_losses_of_pairs_equal_those_of_pytorch(method, name):
    u, v, similar, where = float32(*PAIRS[name])
    loss = pairwise if method in PAIRWISE else ranking
    both = jax.jit(jax.value_and_grad(loss, (1, 2)), static_argnums=0)
    value, gradients = both(method, u, v, similar, where)
    assert_golden(GOLDEN[f"pairs: {name}"][method], value, gradients)


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("method", POINTWISE)
def test_pointwise_losses_equal_those_of_pytorch(method, name):
    u, labels, centres, ties, where = float32(*POINTS[name])
    by = (1, 3) if method == "greedyhash" else (1,)
    both = jax.jit(jax.value_and_grad(pointwise, by), static_argnums=0)
    value, gradients = both(method, u, labels, centres, ties, where)
    assert_golden(GOLDEN[f"points: {name}"][method], value, gradients)


def test_the_cases_are_what_they_are_called():
    for name, (_, _, similar, where) in PAIRS.items():
        ranked = np.any(similar & where, 1) & np.any(~similar & where, 1)
        assert ranked.sum() >= 2, name
    assert not PAIRS["masked"][3][1].any()
    assert len(PAIRS["bank"][0]) < len(PAIRS["bank"][1])
    for name in ("several labels", "masked"):
        _, labels, centres, _, _ = POINTS[name]
        assert (labels.sum(1) > 1).any()
        # CSQ's ties decide some bits.
        assert ((labels @ centres == 0) & (labels.sum(1, keepdims=True) > 0)).any()
    assert (POINTS["masked"][1].sum(1) == 0).any()


def test_every_golden_value_has_a_test():
    tested = {f"pairs: {name}": {*PAIRWISE, *RANKING} for name in PAIRS}
    tested |= {f"points: {name}": {*POINTWISE} for name in POINTS}
    assert {case: set(methods) for case, methods in GOLDEN.items()} == tested


def test_pytorch_still_gives_the_golden_values():
    pytest.importorskip("torch")
    found = make_losses.values()
    assert found.keys() == GOLDEN.keys()
    for case, methods in found.items():
        assert methods.keys() == GOLDEN[case].keys()
        for method, (value, *gradients) in methods.items():
            wanted, *of = GOLDEN[case][method]
            np.testing.assert_allclose(value, wanted, rtol=1e-9, err_msg=method)
            for a, b in zip(gradients, of, strict=True):
                np.testing.assert_allclose(a, b, atol=2e-9, err_msg=method)
