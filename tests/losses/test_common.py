"""What every public loss promises, asked of all of them in one table."""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from loss_table import (
    LOSSES,
    B,
    C,
    K,
    M,
    arguments,
    both,
    close,
    is_of_pairs,
    multi_hot,
    shape_of,
    signs,
)
from several_devices import first_devices

from ssah_jax import losses
from ssah_jax.losses.reduce import all_rows, masked_mean
from ssah_jax.similarity import labels_overlap

AXIS = "batch"


# Not functions of codes, but of A-Net's outputs.
ADVERSARIAL = {"score_function_loss"}


def named(*kinds):
    return [name for name, loss in LOSSES.items() if loss.kind in kinds]


def mask(name, rows=B, columns=M, seed=6):
    """A random mask; one row of pairs is masked wholly."""
    rng = np.random.default_rng(seed)
    if is_of_pairs(name):
        where = rng.random((rows, columns)) < 0.6
        where[1] = False
        return where
    return rng.random(rows) < 0.6


def value(name, *given, where=None):
    return both(name, *given, where=where)[0]


# The table.


def test_every_public_loss_is_in_the_table():
    public = {
        name for name in losses.__all__ if re.search("_(loss|quantisation)$", name)
    }
    assert public - ADVERSARIAL <= LOSSES.keys()
    assert LOSSES.keys() <= set(losses.__all__)


@pytest.mark.parametrize("name", LOSSES)
def test_docstring_has_a_source_a_cost_and_the_presets(name):
    function = getattr(losses, name)
    text = inspect.getdoc(function)
    assert re.search(r"https?://", text)
    assert "Cost: O(" in text
    # Whose the options' defaults are, or what weight those give it.
    assert re.search(r"preset|weight|authors' code|DeepHash-pytorch", text)
    assert text.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", LOSSES)
def test_options_are_keywords_and_where_is_the_mask(name):
    parameters = inspect.signature(getattr(losses, name)).parameters
    for option in parameters.values():
        assert (option.default is not option.empty) == (
            option.kind is option.KEYWORD_ONLY
        )
    assert parameters["where"].default is None


@pytest.mark.parametrize("name", LOSSES)
def test_shape_and_type(name):
    given = arguments(name)
    values, of = both(name, *given)
    assert values.shape == shape_of(name, *given)
    assert values.dtype == np.float32
    # A loss of nothing would pass most of what follows.
    assert np.abs(values).max() > 1e-3
    for one in of:
        assert np.abs(one).max() > 1e-3


# Symmetries.


@pytest.mark.parametrize("name", named("pair", "anchor", "point", "code"))
def test_rows_in_another_order_have_their_own_values(name):
    if name == "dtsh_sampled_loss":
        pytest.skip("other rows, other draws")
    order = np.random.default_rng(7).permutation(B)
    u, *rest = arguments(name)
    if is_of_pairs(name):
        moved = u[order], rest[0], rest[1][order]
    elif LOSSES[name].kind == "point":
        moved = u[order], rest[0][order], *rest[1:]
    else:
        moved = (u[order],)
    where = mask(name)
    close(
        value(name, *moved, where=where[order]),
        value(name, u, *rest, where=where)[order],
    )


@pytest.mark.parametrize("name", named("bit"))
def test_the_order_of_rows_does_not_matter(name):
    order = np.random.default_rng(7).permutation(B)
    (u,), where = arguments(name), mask(name)
    close(value(name, u[order], where=where[order]), value(name, u, where=where))


@pytest.mark.parametrize("name", named("pair", "anchor"))
def test_columns_in_another_order(name):
    if name == "dtsh_sampled_loss":
        pytest.skip("other columns, other draws")
    order = np.random.default_rng(7).permutation(M)
    u, v, similar = arguments(name)
    where = mask(name)
    found = value(name, u, v[order], similar[:, order], where=where[:, order])
    wanted = value(name, u, v, similar, where=where)
    close(found, wanted[:, order] if LOSSES[name].kind == "pair" else wanted)


@pytest.mark.parametrize("name", named("point"))
def test_classes_in_another_order(name):
    order = np.random.default_rng(7).permutation(C)
    u, labels, centres, ties = arguments(name)
    found = value(name, u, labels[:, order], centres[order], ties)
    close(found, value(name, u, labels, centres, ties))


def bitwise(name, change):
    """The arguments, with `change` made to the bits of whatever has bits."""
    u, *rest = arguments(name)
    if is_of_pairs(name):
        return change(u), change(rest[0]), rest[1]
    if LOSSES[name].kind == "point":
        labels, centres, ties = rest
        return change(u), labels, change(centres), change(ties)
    return (change(u),)


@pytest.mark.parametrize("name", LOSSES)
def test_bits_in_another_order(name):
    order = np.random.default_rng(8).permutation(K)
    found = value(name, *bitwise(name, lambda x: x[..., order]))
    wanted = np.asarray(value(name, *arguments(name)))
    if LOSSES[name].permutes:
        close(found, wanted)
    elif LOSSES[name].permutes is None:
        close(found.sum(), wanted.sum())
    else:
        # One value for each bit, or for each two bits: moved with them.
        with pytest.raises(AssertionError):
            close(found, wanted)
        close(found, wanted[np.ix_(*[order] * wanted.ndim)])


@pytest.mark.parametrize("name", LOSSES)
def test_bits_with_other_signs(name):
    # No bit's sign means anything, if all codes agree on it.
    flip = signs(10, K)
    assert 0 < (flip < 0).sum() < K
    found = value(name, *bitwise(name, lambda x: x * flip))
    wanted = value(name, *arguments(name))
    if LOSSES[name].flips:
        close(found, wanted)
    else:
        with pytest.raises(AssertionError):
            close(found, wanted)


# Masks.


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_where_is_the_same_as_leaving_out(name):
    if name == "dtsh_sampled_loss":
        pytest.skip("fewer columns, other draws")
    rows, columns = np.arange(B) % 3 != 1, np.arange(M) % 4 != 2
    u, *rest = arguments(name)
    if is_of_pairs(name):
        where = rows[:, None] & columns
        v, similar = rest
        left = u[rows], v[columns], similar[rows][:, columns]
    else:
        where = rows
        left = (u[rows], *(x[rows] for x in rest[:1]), *rest[1:])
    found, of = both(name, u, *rest, where=where)
    wanted = value(name, *left)
    if LOSSES[name].kind == "bit":
        close(found, wanted)
    else:
        close(found[where if found.ndim == 2 else rows], wanted.ravel())
        # Elsewhere exactly nothing.
        assert not np.any(found[~(where if found.ndim == 2 else rows)])
    assert not np.any(of[0][~rows])
    if is_of_pairs(name):
        assert not np.any(of[1][~columns])


@pytest.mark.parametrize("name", named("pair", "anchor"))
def test_each_row_has_its_own_mask(name):
    given, where = arguments(name), mask(name)
    found = value(name, *given, where=where)
    for row in (0, 1, B - 1):
        alone = np.broadcast_to(where[row], where.shape)
        close(found[row], value(name, *given, where=alone)[row])


@pytest.mark.parametrize("extreme", [0.0, 1e4, -1e4, 1e15])
@pytest.mark.parametrize("name", LOSSES)
def test_what_is_masked_has_no_influence_and_no_gradient(name, extreme):
    where = mask(name)
    given = list(arguments(name))
    pairs = is_of_pairs(name)
    if pairs:  # Two columns that no row sees, beside the row that sees none.
        where[:, [2, 5]] = False
    rows = np.flatnonzero(~(where.any(1) if pairs else where))
    assert len(rows)
    calm, of_calm = both(name, *given, where=where)
    given[0] = given[0].copy()
    given[0][rows] = extreme
    if pairs:
        given[1] = given[1].copy()
        given[1][[2, 5]] = extreme
    found, of = both(name, *given, where=where)
    np.testing.assert_array_equal(found, calm)
    assert not np.any(of[0][rows])
    for a, b in zip(of, of_calm, strict=True):
        close(a, b)
    if pairs:
        assert not np.any(of[1][np.array([2, 5])])


@pytest.mark.parametrize("name", LOSSES)
def test_an_empty_mask(name):
    given = [
        np.full_like(x, 1e4) if i == 0 else x for i, x in enumerate(arguments(name))
    ]
    where = np.zeros_like(mask(name))
    values, of = both(name, *given, where=where)
    assert not np.any(values)
    assert not any(map(np.any, of))


# Transformations.


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_jit_and_no_mask_change_nothing(name):
    given = arguments(name)
    eager = LOSSES[name].call(*map(jnp.asarray, given))
    assert eager.dtype == jnp.float32
    close(value(name, *given), eager)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_vmap_is_a_loop(name):
    batches = [(*arguments(name, seed=s), mask(name, seed=s)) for s in (0, 20, 40)]
    stacked = [jnp.asarray(np.stack(x)) for x in zip(*batches, strict=True)]
    found = jax.jit(jax.vmap(LOSSES[name].call))(*stacked)
    for one, (*given, where) in zip(found, batches, strict=True):
        close(one, value(name, *given, where=where))


# Devices.


def share(name, u, *rest, axis_name=None):
    """This device's share of the mean, and its values."""
    kind = LOSSES[name].kind
    if kind in ("pair", "anchor"):
        (labels,) = rest
        v, others = all_rows(u, axis_name), all_rows(labels, axis_name)
        values = LOSSES[name].call(u, v, labels_overlap(labels, others))
    else:
        values = LOSSES[name].call(u, *rest)
    return masked_mean(values, axis_name=axis_name), values


@pytest.mark.slow
@pytest.mark.parametrize("name", named("pair", "anchor", "point", "code"))
def test_rows_of_four_devices_against_columns_of_all(name):
    if name == "dtsh_sampled_loss":
        pytest.skip("each device draws for its rows")
    u, *rest = arguments(name, rows=8)
    specs = [P(AXIS)]
    if is_of_pairs(name):
        rest = [multi_hot(13, 8)]
    if rest:  # Labels are split, centres and ties are not.
        specs += [P(AXIS), *[P()] * (len(rest) - 1)]
    given = list(map(jnp.asarray, (u, *rest)))
    mapped = jax.shard_map(
        lambda *given: jax.tree.map(
            lambda x: x[None] if x.ndim == 0 else x,
            share(name, *given, axis_name=AXIS),
        ),
        mesh=Mesh(np.asarray(first_devices(4)), (AXIS,)),
        in_specs=tuple(specs),
        out_specs=P(AXIS),
        check_vma=False,
    )

    def total(*given):
        shares, values = mapped(*given)
        return jnp.sum(shares), values

    (found, values), of = jax.jit(jax.value_and_grad(total, has_aux=True))(*given)
    alone = jax.value_and_grad(functools.partial(share, name), has_aux=True)
    (mean, one), of_one = jax.jit(alone)(*given)
    close(found, mean)
    close(values, one)
    close(of, of_one)
