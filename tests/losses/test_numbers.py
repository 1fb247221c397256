"""Losses at hard inputs, in bfloat16, and what memory they take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_table import (
    LOSSES,
    B,
    C,
    K,
    M,
    arguments,
    both,
    close,
    codes_of,
    normal,
    signs,
)


def hard_inputs(name):
    """What goes wrong in training, for the kind of this loss."""
    kind = LOSSES[name].kind
    u, *rest = arguments(name)
    edge = signs(11, B, K)
    inputs = {
        "saturated": (1e4 * edge, *rest),
        "zero": (np.zeros_like(u), *rest),
        "binary": (edge, *rest),
        "duplicate": (np.repeat(u[:1], B, 0), *rest),
    }
    if kind in ("pair", "anchor"):
        v, similar = rest
        none, all_ = np.zeros_like(similar), np.ones_like(similar)
        self = np.resize(u, v.shape)
        inputs |= {
            "all saturated": (1e4 * edge, 1e4 * signs(12, M, K), similar),
            "all zero": (np.zeros_like(u), np.zeros_like(v), similar),
            "all binary": (edge, signs(12, M, K), similar),
            "itself": (u, self, similar),
            "itself, saturated": (1e4 * np.sign(u), 1e4 * np.sign(self), similar),
            "opposite": (1e4 * np.sign(u), -1e4 * np.sign(self), similar),
            "no similar pair": (u, v, none),
            "all similar": (u, v, all_),
            "none similar, saturated": (1e4 * edge, 1e4 * signs(12, M, K), none),
            "one pair": (u[:1], v[:1], similar[:1, :1]),
        }
    else:
        inputs["one row"] = (u[:1], *(x[:1] for x in rest[:1]), *rest[1:])
    if kind == "point":
        inputs["no label"] = (u, np.zeros_like(rest[0]), *rest[1:])
        inputs["all labels"] = (1e4 * edge, np.ones_like(rest[0]), *rest[1:])
    return inputs


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_finite(name):
    for case, given in hard_inputs(name).items():
        values, of = both(name, *given)
        assert np.isfinite(values).all(), case
        assert all(np.isfinite(x).all() for x in of), case


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_codes_are_reduced_in_float32(name):
    given = list(map(jnp.asarray, arguments(name)))
    rounded = list(given)
    for index in codes_of(name):
        given[index] = given[index].astype(jnp.bfloat16)
        rounded[index] = given[index].astype(jnp.float32)
    (found, of), (wanted, of_rounded) = both(name, *given), both(name, *rounded)
    assert found.dtype == np.float32
    close(found, wanted, rtol=1e-6)
    for a, b in zip(of, of_rounded, strict=True):
        assert a.dtype == jnp.bfloat16
        close(a.astype(np.float32), b, rtol=1e-2)


# Memory.


def arrays(jaxpr):
    """Every array a program makes, with those of programs inside it."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            if hasattr(variable.aval, "shape"):
                yield variable.aval
        for inner in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from arrays(inner)


def largest_array(function, *given):
    jaxpr = jax.make_jaxpr(function)(*map(jnp.asarray, given)).jaxpr
    return max(arrays(jaxpr), key=lambda x: x.size)


@pytest.mark.parametrize("name", LOSSES)
def test_no_array_has_three_of_the_sizes(name):
    given = arguments(name)
    found = largest_array(
        jax.value_and_grad(lambda *x: jnp.sum(LOSSES[name].call(*x)), codes_of(name)),
        *given,
    )
    # Not even the least product of three of its sizes, of which B M M (every triplet)
    # and B C K (every difference from a centre) are what an equation invites.
    least = {"pair": B * M * M, "anchor": B * M * M, "point": B * C * K}
    assert found.size < least.get(LOSSES[name].kind, B * K * K), found


def test_a_large_array_inside_a_loop_is_found():
    def looped(u, v):
        return jax.lax.map(lambda row: jnp.sum(row[None] * v, -1), u)

    def large(u, v):
        return jnp.sum(u[:, None] * v[None], -1)

    u, v = jnp.asarray(normal(0, B, K)), jnp.asarray(normal(1, M, K))
    assert largest_array(looped, u, v).shape == (M, K)
    for function in (jax.jit(large), jax.checkpoint(large), jax.grad(looped_sum)):
        assert largest_array(function, u, v).shape == (B, M, K)


def looped_sum(u, v):
    """A loop whose gradient keeps what each turn made."""
    rows = jax.lax.map(lambda row: jnp.sum(jnp.exp(row[None] * v), -1), u)
    return jnp.sum(rows)
