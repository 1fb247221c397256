"""HashNet's weights of pairs and its growing slope."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from loss_oracles import (
    normal,
    on_device,
)
from several_devices import first_devices

from ssah_jax.losses.pairwise import (
    balanced_pair_mean,
    hashnet_beta,
    pair_weights,
)
from ssah_jax.losses.reduce import masked_mean

AXIS = "batch"


# HashNet's continuation.


@pytest.mark.parametrize(
    ("step", "wanted"), [(0, 1), (199, 1), (200, 2), (399, 2), (400, 3), (10_000, 51)]
)
def test_hashnet_beta_is_refreshed_every_200_steps(step, wanted):
    # cisip-FIRe's never was (CISiPLab/cisip-FIRe#6), and HashNet's own is an attribute
    # of the network that a restart forgets; this one is a function of the step alone.
    for beta in (
        hashnet_beta(step),
        hashnet_beta(jnp.asarray(step)),
        jax.jit(hashnet_beta)(jnp.asarray(step)),
    ):
        assert beta.dtype == jnp.float32
        np.testing.assert_allclose(beta, math.sqrt(wanted), rtol=1e-6)


def test_hashnet_beta_by_epochs_as_in_deephash_pytorch():
    steps_per_epoch = 39
    every = 20 * steps_per_epoch
    beta = jax.vmap(lambda step: hashnet_beta(step, rate=1 / every, every=every))
    epochs = np.arange(150)
    for step in (0, steps_per_epoch - 1):
        found = beta(jnp.asarray(epochs * steps_per_epoch + step))
        np.testing.assert_allclose(found, np.sqrt(1.0 + epochs // 20), rtol=1e-6)


def test_hashnet_beta_without_growth_is_one():
    assert hashnet_beta(12_345, rate=0.0) == 1.0


# Balance.


def weighted_mean(values, similar, where=None, **options):
    return masked_mean(pair_weights(similar, where=where, **options) * values, where)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
def test_pair_weights_give_the_sum_of_both_means(seed, similar_share, kept_share):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(5, 7)).astype(np.float32)
    similar = rng.random((5, 7)) < similar_share
    where = rng.random((5, 7)) < kept_share
    wanted = 0.0
    for kind in (similar, ~similar):
        chosen = [float(x) for x in values[where & kind]]
        wanted += sum(chosen) / len(chosen) if chosen else 0.0
    values, similar, where = on_device(values, similar, where)
    found = weighted_mean(values, similar, where)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        found, 2 * balanced_pair_mean(values, similar, where), rtol=1e-5, atol=1e-6
    )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.1, 10])
)
def test_pair_weights_with_positive_give_the_mean_of_the_authors_code(
    seed, similar_share, kept_share, c
):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(5, 7)).astype(np.float32)
    similar = rng.random((5, 7)) < similar_share
    where = rng.random((5, 7)) < kept_share
    total = weight = 0.0
    for i, j in zip(*np.nonzero(where), strict=True):
        of_pair = c if similar[i, j] else 1.0
        total += of_pair * float(values[i, j])
        weight += of_pair
    found = weighted_mean(*on_device(values, similar, where), positive=float(c))
    wanted = total / weight if weight else 0.0
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_pair_weights_by_hand():
    similar = jnp.asarray([[True] + 9 * [False]])
    np.testing.assert_allclose(pair_weights(similar), [[10] + 9 * [10 / 9]])
    np.testing.assert_allclose(
        pair_weights(similar, positive=11.0), [[5.5] + 9 * [0.5]]
    )
    # Pairs that do not count have no weight and are not counted.
    few = jnp.arange(10)[None] < 3
    np.testing.assert_allclose(
        pair_weights(similar, where=few), [[3, 1.5, 1.5] + 7 * [0]]
    )


@pytest.mark.parametrize("positive", [None, 0.01, 10.0])
@pytest.mark.parametrize("kind", [True, False])
def test_pair_weights_are_one_where_all_pairs_are_of_a_kind(kind, positive):
    similar = jnp.full((3, 4), kind)
    np.testing.assert_allclose(pair_weights(similar, positive=positive), 1.0, rtol=1e-6)
    nothing = jnp.zeros((3, 4), bool)
    weights = pair_weights(similar, positive=positive, where=nothing)
    np.testing.assert_array_equal(weights, 0.0)


@pytest.mark.parametrize("positive", [None, 10.0])
def test_pair_weights_count_the_pairs_of_all_devices(positive):
    rng = np.random.default_rng(0)
    # Each device has another share of similar pairs; the first has none.
    similar = rng.random((8, 5)) < np.repeat([0.0, 0.2, 0.5, 0.9], 2)[:, None]
    where = rng.random((8, 5)) < 0.7
    values, similar, where = on_device(normal(1, 8, 5), similar, where)

    def share(values, similar, where):
        weights = pair_weights(similar, positive=positive, where=where, axis_name=AXIS)
        mean = masked_mean(weights * values, where, axis_name=AXIS)
        return weights, mean[None]

    weights, shares = jax.jit(
        jax.shard_map(
            share,
            mesh=Mesh(np.asarray(first_devices(4)), (AXIS,)),
            in_specs=P(AXIS),
            out_specs=P(AXIS),
            check_vma=False,
        )
    )(values, similar, where)
    wanted = pair_weights(similar, positive=positive, where=where)
    np.testing.assert_allclose(weights, wanted, rtol=1e-6)
    np.testing.assert_allclose(
        shares.sum(),
        weighted_mean(values, similar, where, positive=positive),
        rtol=1e-5,
    )
