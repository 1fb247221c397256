"""Shares of several devices, which sum to the losses of the global batch."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from loss_oracles import (
    normal,
)
from several_devices import first_devices
from ssah_oracles import balanced_loop, pair_loop

from ssah_jax import losses
from ssah_jax.losses.reduce import all_rows, all_sum, first_row
from ssah_jax.similarity import labels_overlap, not_self

AXIS = "batch"


# Devices. A model of one matrix stands for the network: what each device returns is
# its share of the loss, and shares and gradients are summed.


def world(devices, seed=0):
    """Parameters, images, labels and a mask, uneven over the devices."""
    rows = 3 * devices
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(5, 8)).astype(np.float32)
    x = rng.normal(size=(rows, 5)).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[np.sort(rng.integers(0, 4, rows))]
    mask = rng.random(rows) < 0.5
    mask[:3] = False  # One device has nothing to say.
    return tuple(map(jnp.asarray, (w, x, labels, mask)))


def pair_share(w, x, labels, mask, *, axis_name=None, fault=None):
    """Balanced loss of all pairs of distinct images: rows here, columns everywhere."""
    u = x @ w
    if fault == "local pairs":
        columns, others, first = u, labels, jnp.asarray(0)
    else:
        columns, others = all_rows(u, axis_name), all_rows(labels, axis_name)
        first = first_row(len(u), axis_name)
    if fault == "first row":
        first = jnp.asarray(0)
    if fault == "constant columns":
        columns = jax.lax.stop_gradient(columns)
    similar = labels_overlap(labels, others)
    where = not_self(first, len(u), len(columns)) & mask[:, None]
    values = losses.logistic_pair_loss(u, columns, similar)
    axis = None if fault == "local count" else axis_name
    return losses.balanced_pair_mean(values, similar, where, axis_name=axis)


def point_share(w, x, labels, mask, *, axis_name=None):
    centres = jnp.sign(jnp.asarray(normal(5, 4, 8)))
    values = losses.orthohash_loss(x @ w, labels, centres)
    return losses.masked_mean(values, mask, axis_name=axis_name)


def on_devices(share, devices, w, x, labels, mask):
    """Value, gradient of w and gradient of x, from the devices' shares."""

    def one(w, x, labels, mask):
        value, (of_w, of_x) = jax.value_and_grad(share, (0, 1))(w, x, labels, mask)
        return all_sum((value, of_w), AXIS), of_x

    def split(a):
        return a.reshape(devices, -1, *a.shape[1:])

    (value, of_w), of_x = jax.pmap(
        one,
        AXIS,
        in_axes=(None, 0, 0, 0),
        out_axes=((None, None), 0),
        devices=first_devices(devices),
    )(w, split(x), split(labels), split(mask))
    return np.asarray(value), np.asarray(of_w), np.asarray(of_x).reshape(x.shape)


def globally(share, w, x, labels, mask):
    both = jax.jit(jax.value_and_grad(share, (0, 1)))
    value, (of_w, of_x) = both(w, x, labels, mask)
    return np.asarray(value), np.asarray(of_w), np.asarray(of_x)


def largest_error(found, wanted):
    return [
        np.abs(a - b).max() / np.abs(b).max()
        for a, b in zip(found, wanted, strict=True)
    ]


@pytest.mark.parametrize("devices", [4, 8])
@pytest.mark.parametrize("share", [pair_share, point_share])
def test_shares_and_their_gradients_sum_to_the_global_ones(share, devices):
    inputs = world(devices)
    wanted = globally(share, *inputs)
    found = on_devices(partial(share, axis_name=AXIS), devices, *inputs)
    assert max(largest_error(found, wanted)) < 1e-5


def test_the_global_pair_loss_is_the_loop_over_pairs():
    w, x, labels, mask = map(np.asarray, world(4))
    similar = labels @ labels.T > 0.5
    where = ~np.eye(len(x), dtype=bool) & mask[:, None]
    u = x.astype(np.float64) @ w
    wanted = balanced_loop(pair_loop(u, u, similar, 8.0), similar, where)
    np.testing.assert_allclose(pair_share(*world(4)), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("fault", "in_value"),
    [
        ("constant columns", False),
        ("local pairs", True),
        ("first row", True),
        ("local count", True),
    ],
)
def test_a_wrong_way_over_devices_is_noticed(fault, in_value):
    # The usual mistakes: had they been made above, the test above would have failed.
    inputs = world(8)
    share = partial(pair_share, axis_name=AXIS, fault=fault)
    value, of_w, of_x = largest_error(
        on_devices(share, 8, *inputs), globally(pair_share, *inputs)
    )
    assert min(of_w, of_x) > 0.05
    assert (value > 0.005) == in_value


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("share", [pair_share, point_share])
def test_shares_under_shard_map(share, check):
    # Differentiated from without: the sum of the shares is an ordinary function.
    w, x, labels, mask = world(8)
    mesh = Mesh(np.asarray(first_devices(8)), (AXIS,))
    shares = jax.shard_map(
        lambda *inputs: share(*inputs, axis_name=AXIS)[None],
        mesh=mesh,
        in_specs=(P(), P(AXIS), P(AXIS), P(AXIS)),
        out_specs=P(AXIS),
        check_vma=check,
    )

    def total(*inputs):
        return jnp.sum(shares(*inputs))

    found = globally(total, w, x, labels, mask)
    assert max(largest_error(found, globally(share, w, x, labels, mask))) < 1e-5


def test_an_empty_mask_on_all_devices_is_zero():
    w, x, labels, mask = world(4)
    for share in (pair_share, point_share):
        value, of_w, of_x = on_devices(
            partial(share, axis_name=AXIS), 4, w, x, labels, jnp.zeros_like(mask)
        )
        assert value == 0.0
        assert not np.any(of_w)
        assert not np.any(of_x)


def test_collectives_without_an_axis_do_nothing():
    x = jnp.asarray(normal(0, 3, 2))
    np.testing.assert_array_equal(all_rows(x, None), x)
    assert all_sum({"a": 3}, None) == {"a": 3}
    assert first_row(3, None) == 0


def test_collectives_keep_the_order_of_the_devices():
    x = jnp.arange(8 * 2 * 3.0).reshape(8, 2, 3)
    rows, first, total = jax.pmap(
        lambda x: (all_rows(x, AXIS), first_row(len(x), AXIS), all_sum(x, AXIS)),
        AXIS,
        devices=first_devices(8),
    )(x)
    np.testing.assert_array_equal(first, 2 * np.arange(8))
    for device, one in itertools.product(range(8), rows):
        np.testing.assert_array_equal(one[first[device]], x[device, 0])
    for one in total:
        np.testing.assert_array_equal(one, np.asarray(x).sum(0))
