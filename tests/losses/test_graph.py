"""SSDH: its graph of near and far pairs, its contrastive and its triplet loss."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_oracles import CODES, LABELS, assert_gradient, codes, normal, step_for

from ssah_jax.losses import graph

# Compiled, for they are called often; eagerly they are in test_common.
graph_pairs = jax.jit(graph.graph_pairs, static_argnames=("neighbours", "far"))
contrastive_loss = jax.jit(graph.contrastive_loss, static_argnames="margin")
triplet_margin_loss = jax.jit(graph.triplet_margin_loss, static_argnames="margin")

# Oracles, one loop each.


def square_loop(u, v):
    out = np.zeros((len(u), len(v)))
    for i, j in np.ndindex(*out.shape):
        for a, b in zip(u[i], v[j], strict=True):
            out[i, j] += (float(a) - float(b)) ** 2
    return out


def contrastive_loop(u, v, similar, margin=2.5):
    square = square_loop(u, v)
    out = np.zeros_like(square)
    for i, j in np.ndindex(*out.shape):
        s, hinge = float(similar[i, j]), max(0.0, margin - math.sqrt(square[i, j]))
        out[i, j] = s * square[i, j] + (1 - s) * hinge**2
    return out


def triplet_loop(u, v, similar, margin=1.0, where=None):
    square, out = square_loop(u, v), []
    where = np.ones(square.shape, bool) if where is None else where
    for i, row in enumerate(square):
        hinges = [
            max(0.0, margin + row[p] - row[n])
            for p in range(len(row))
            for n in range(len(row))
            if where[i, p] and where[i, n] and similar[i, p] and not similar[i, n]
        ]
        out.append(sum(hinges) / len(hinges) if hinges else 0.0)
    return np.array(out)


def graph_loop(u, v, where, neighbours, far):
    square = square_loop(u, v)
    similar, sure = np.zeros(square.shape, bool), np.zeros(square.shape, bool)
    for i, row in enumerate(square):
        order = sorted((d, j) for j, d in enumerate(row) if where[i, j])
        begin, end = (round(share * len(order)) for share in far)
        for rank, (_, j) in enumerate(order):
            similar[i, j] = rank < neighbours
            sure[i, j] = similar[i, j] or begin <= rank < end
    return similar, sure


# The graph.


@pytest.mark.parametrize(
    ("neighbours", "far"),
    [(0, (0.25, 1.0)), (3, (0.5, 0.75)), (9, (0.3, 0.9)), (20, (0.5, 0.5))],
)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), share=st.sampled_from([0.0, 0.5, 1.0]))
def test_graph_pairs_equal_the_loop(neighbours, far, seed, share):
    rng = np.random.default_rng(seed)
    # Codes of whole numbers have equal distances, and exact ones.
    u, v = (rng.integers(0, 3, (n, 4)).astype(np.float32) for n in (5, 16))
    where = rng.random((5, 16)) < share
    found = graph_pairs(
        *map(jnp.asarray, (u, v)),
        neighbours=neighbours,
        far=far,
        where=jnp.asarray(where),
    )
    wanted = graph_loop(u, v, where, neighbours, far)
    np.testing.assert_array_equal(found, wanted)


def test_graph_pairs_have_the_ranks_of_the_source():
    # A batch of 128 on a line, seen from its end.
    u = jnp.arange(128.0)[:, None]
    similar, sure = graph_pairs(u[:1], u)
    np.testing.assert_array_equal(np.flatnonzero(similar[0]), range(8))
    np.testing.assert_array_equal(
        np.flatnonzero(sure[0]), [*range(8), 120, 121, 122, 123]
    )
    # Without the row itself: one more neighbour, the same far ones.
    similar, sure = graph_pairs(u[:1], u, where=jnp.arange(128)[None] != 0)
    np.testing.assert_array_equal(np.flatnonzero(similar[0]), range(1, 9))
    np.testing.assert_array_equal(
        np.flatnonzero(sure[0]), [*range(1, 9), 120, 121, 122, 123]
    )


def test_graph_pairs_of_equal_codes_are_ranked_by_column():
    zeros = jnp.zeros((16, 8))
    similar, sure = graph_pairs(zeros, zeros, neighbours=3, far=(0.5, 0.75))
    np.testing.assert_array_equal(similar, np.arange(16)[None] + 0 * np.eye(16) < 3)
    np.testing.assert_array_equal(sure[0], [*3 * [1], *5 * [0], *4 * [1], *4 * [0]])


def test_graph_pairs_are_constants_of_the_gradient():
    u = jnp.asarray(normal(0, 16, 4))

    def loss(u):
        similar, sure = graph_pairs(u, u, neighbours=2, far=(0.5, 0.75))
        return contrastive_loss(u, u, similar, where=sure).sum()

    similar, sure = graph_pairs(u, u, neighbours=2, far=(0.5, 0.75))
    wanted = jax.grad(lambda u: contrastive_loss(u, u, similar, where=sure).sum())(u)
    np.testing.assert_array_equal(jax.grad(loss)(u), wanted)


# The pairs.


@pytest.mark.parametrize("name", CODES)
def test_contrastive_loss_equals_the_loop(name):
    u, v = codes(name), normal(1, 5, 8)
    similar = np.random.default_rng(2).random((len(u), 5)).round(1).astype(np.float32)
    function = partial(
        contrastive_loss, v=jnp.asarray(v), similar=jnp.asarray(similar), margin=4.0
    )
    loss = function(jnp.asarray(u))
    assert loss.dtype == jnp.float32
    oracle = partial(contrastive_loop, v=v, similar=similar, margin=4.0)
    np.testing.assert_allclose(loss, oracle(u), rtol=1e-5, atol=1e-5)
    assert_gradient(function, oracle, u, normal(3, len(u), 5), step_for(name))
    if name == "random":
        assert np.any((similar < 1) & (square_loop(u, v) > 16))
        assert np.any((similar < 1) & (square_loop(u, v) < 16))


def test_contrastive_margin_is_of_the_distance_not_of_its_square():
    # The authors' code subtracts the root: codes 2 apart are inside a margin of 2.5.
    u, v = jnp.zeros((1, 4)), jnp.ones((1, 4))
    assert contrastive_loss(u, v, jnp.zeros((1, 1), bool))[0, 0] == 0.25
    assert contrastive_loss(u, v, jnp.ones((1, 1), bool))[0, 0] == 4


def test_contrastive_loss_at_its_kinks_has_no_gradient():
    u = jnp.asarray([[3.0, 4.0], [0.0, 0.0]])

    def gradient(margin):
        away = jnp.zeros((2, 1), bool)
        return jax.grad(
            lambda u: contrastive_loss(u, jnp.zeros((1, 2)), away, margin=margin).sum()
        )(u)

    # At the hinge (5 apart), and at equal codes, which have no direction to part in.
    np.testing.assert_array_equal(gradient(5.0), np.zeros((2, 2)))
    np.testing.assert_allclose(gradient(6.0)[0], [-2 * 0.6, -2 * 0.8], rtol=1e-5)


# The triplets.


TRIPLETS = [
    (name, kind)
    for name in CODES
    for kind in ("one label", "several labels", "no similar pair", "all similar")
]


@pytest.mark.parametrize(("name", "kind"), TRIPLETS)
def test_triplet_margin_loss_equals_the_loop(name, kind):
    u, v = codes(name), normal(1, 6, 8)
    labels = LABELS[kind]
    similar = (labels @ labels.T > 0.5)[: len(u)]
    function = partial(
        triplet_margin_loss, v=jnp.asarray(v), similar=jnp.asarray(similar), margin=3.0
    )
    loss = function(jnp.asarray(u))
    assert loss.dtype == jnp.float32
    oracle = partial(triplet_loop, v=v, similar=similar, margin=3.0)
    wanted = oracle(u)
    # Of distances near |u|^2, only differences count.
    atol = 1e-6 * max(1.0, square_loop(u, v).max())
    np.testing.assert_allclose(loss, wanted, rtol=1e-5, atol=atol)
    gradient = jax.grad(lambda u: function(u).sum())(jnp.asarray(u))
    assert np.isfinite(gradient).all()
    if kind in ("no similar pair", "all similar"):
        mixed = similar.any(1) & ~similar.all(1)
        assert not np.any(loss[~mixed])
        assert not np.any(gradient[~mixed])


@pytest.mark.parametrize("name", ["random", "one row", "duplicate rows", "zero rows"])
def test_triplet_margin_loss_gradients(name):
    u, v = codes(name), normal(1, 7, 8)
    rng = np.random.default_rng(2)
    similar, where = rng.random((2, len(u), 7)) < 0.5
    where |= rng.random((len(u), 1)) < 0.5
    options = {"margin": 3.0, "where": where}
    function = partial(
        triplet_margin_loss,
        similar=jnp.asarray(similar),
        margin=3.0,
        where=jnp.asarray(where),
    )
    weights = normal(3, len(u))
    assert_gradient(
        lambda u: function(u, jnp.asarray(v)),
        lambda u: triplet_loop(u, v, similar, **options),
        u,
        weights,
    )
    assert_gradient(
        lambda v: function(jnp.asarray(u), v),
        lambda v: triplet_loop(u, v, similar, **options),
        v,
        weights,
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([0.5, 1.0, 2.0]))
def test_triplet_margin_loss_of_equal_distances(seed, margin):
    rng = np.random.default_rng(seed)
    # Whole numbers: many triplets lie exactly on the hinge.
    u, v = (rng.integers(0, 3, (n, 4)).astype(np.float32) for n in (5, 12))
    similar, where = rng.random((2, 5, 12)) < rng.random((2, 5, 1))
    loss = triplet_margin_loss(
        *map(jnp.asarray, (u, v, similar)), margin=margin, where=jnp.asarray(where)
    )
    wanted = triplet_loop(u, v, similar, margin, where)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5, atol=1e-6)


def test_triplet_margin_loss_at_the_hinge_has_no_gradient():
    u, v = jnp.zeros((1, 1)), jnp.asarray([[1.0], [2.0], [3.0]])
    similar = jnp.asarray([[True, False, False]])

    def gradient(margin):
        return jax.grad(lambda v: triplet_margin_loss(u, v, similar, margin=margin)[0])(
            v
        )[:, 0]

    # 1 + margin against 4 and 9: on the hinge of the nearer, and past it.
    np.testing.assert_array_equal(gradient(3.0), [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(gradient(4.0), [1.0, -2.0, 0.0])


def test_triplet_margin_loss_of_many_columns_is_still_exact():
    rng = np.random.default_rng(0)
    u, v = (rng.random((n, 16)).astype(np.float32) for n in (3, 3000))
    similar = rng.random((3, 3000)) < 0.1
    loss = triplet_margin_loss(*map(jnp.asarray, (u, v, similar)))
    square = ((u[:, None].astype(np.float64) - v) ** 2).sum(-1)
    for found, row, s in zip(loss, square, similar, strict=True):
        wanted = np.maximum(1 + row[s][:, None] - row[~s], 0).mean()
        np.testing.assert_allclose(found, wanted, rtol=2e-6)
