"""DTSH: presets, memory, and the sampled triplets."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from loss_oracles import LABELS, assert_gradient, codes, normal
from ranking_oracles import MASKS, dtsh_loop, mask, on_device, overlap

from ssah_jax.losses.ranking import (
    dtsh_loss,
    dtsh_sampled_loss,
    valid_anchors,
)

# DTSH.


def test_dtsh_presets():
    u, v, similar = normal(0, 4, 8), normal(1, 9, 8), mask("random", 4, 9)
    for options, margin, scale in (
        ({}, 5.0, 1.0),
        ({"margin": 4.0, "scale": 0.5}, 4.0, 0.5),
    ):
        wanted = dtsh_loop(u, v, similar, mask("all", 4, 9), margin, scale)
        np.testing.assert_allclose(
            on_device(dtsh_loss, similar, **options)(u, v), wanted, rtol=1e-5
        )


@pytest.mark.parametrize("name", ["grad", "value"])
def test_dtsh_keeps_no_triplets(name):
    # [B, M, M] would be 64 times [B, M].
    rows, columns = 3, 64
    v, similar = jnp.zeros((columns, 2)), jnp.asarray(mask("random", rows, columns))
    function = lambda u: dtsh_loss(u, v, similar).sum()  # noqa: E731
    function = jax.grad(function) if name == "grad" else function
    largest = max(sizes(jax.make_jaxpr(function)(jnp.zeros((rows, 2))).jaxpr))
    assert largest <= 4 * rows * columns


def sizes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (out.aval.size for out in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from sizes(inner)


def test_dtsh_sampled_loss_is_unbiased():
    u, v = normal(0, 5, 4), normal(1, 9, 4)
    similar = np.random.default_rng(2).random((5, 9)) < 0.4
    similar[3], similar[4] = True, False
    where = mask("random", 5, 9)
    exact = on_device(dtsh_loss, similar, where, margin=1.0)(u, v)
    args = [jnp.asarray(x) for x in (u, v, similar)]
    draw = jax.jit(
        jax.vmap(
            lambda key: dtsh_sampled_loss(
                key, *args, draws=3, margin=1.0, where=jnp.asarray(where)
            )
        )
    )
    drawn = np.asarray(draw(jax.random.split(jax.random.key(5), 4000)))
    error = drawn.std(axis=0) / math.sqrt(len(drawn))
    assert np.all(drawn.std(axis=0)[:3] > 0.1)
    assert np.all(np.abs(drawn.mean(axis=0) - exact) <= 4 * error)
    assert not drawn[:, 3:].any()


def test_dtsh_sampled_loss_draws_every_column_of_its_kind_alike():
    # Products are the columns' numbers: a draw shows in the loss which it was.
    number = np.array([[3.0], [50.0], [7.0], [20.0], [90.0], [1.0], [5.0]], np.float32)
    similar = np.array([[True, False, True, True, False, False, True]])
    where = np.array([[True, True, True, True, True, True, False]])
    draw = jax.jit(
        jax.vmap(
            lambda key: dtsh_sampled_loss(
                key,
                jnp.ones((1, 1)),
                jnp.asarray(number),
                jnp.asarray(similar),
                draws=1,
                margin=1000.0,
                where=jnp.asarray(where),
            )[0]
        )
    )
    # margin - p + n, and softplus of that is the same.
    found = 1000 - np.asarray(draw(jax.random.split(jax.random.key(1), 9000)))
    wanted = [p - n for p in (3, 7, 20) for n in (50, 90, 1)]
    values, counts = np.unique(found.round().astype(int), return_counts=True)
    assert sorted(wanted) == values.tolist()
    assert np.all(np.abs(counts - 1000) < 5 * math.sqrt(1000))


def test_dtsh_sampled_loss_of_one_triplet_is_exact(key):
    u, v = normal(0, 1, 4), normal(1, 2, 4)
    similar = np.array([[False, True]])
    rest = jnp.asarray(v), jnp.asarray(similar)
    f = jax.jit(lambda u: dtsh_sampled_loss(key, u, *rest))
    assert_gradient(
        f, lambda u: dtsh_loop(u, v, similar, mask("all", 1, 2), 5.0, 1.0), u, 1.0
    )


def test_dtsh_sampled_loss_has_no_nan(key):
    u = codes("saturated")
    f = jax.jit(
        jax.value_and_grad(
            lambda u, similar, where: dtsh_sampled_loss(
                key, u, u, similar, draws=2, where=where
            ).sum()
        )
    )
    for kind, which in itertools.product(LABELS, MASKS):
        value, gradient = f(u, overlap(kind, 6), mask(which, 6))
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_dtsh_sampled_loss_names_bad_draws(key):
    u = jnp.ones((2, 4))
    with pytest.raises(ValueError, match=r"^draws: found 0, accepted is at least 1$"):
        dtsh_sampled_loss(key, u, u, jnp.eye(2, dtype=bool), draws=0)


# Anchors.


def test_valid_anchors():
    similar = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 0], [1, 0, 1]], bool)
    where = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1], [0, 1, 0]], bool)
    check = partial(valid_anchors, jnp.asarray(similar))
    assert check().tolist() == [True, False, False, True]
    assert check(dissimilar=False).tolist() == [True, True, False, True]
    assert check(where=jnp.asarray(where)).tolist() == [True, False, False, False]
    assert check(where=jnp.asarray(where), dissimilar=False).tolist() == [
        True,
        True,
        False,
        False,
    ]
