"""What every public loss promises, asked of all of them in one table.

To add a loss, add a line to `LOSSES`: how to call it with the arguments of its kind,
and which symmetries it does not have. Its equation is tested elsewhere, by an oracle.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ssah_jax import losses
from ssah_jax.losses.reduce import all_rows, masked_mean
from ssah_jax.similarity import labels_overlap

AXIS = "batch"
# Distinct primes, so that an array's shape says what it is.
B, M, K, C = 7, 11, 13, 5


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss as its kind calls it, always with `where` last.

    The kinds: "pair" and "anchor" take u `[B, K]`, v `[M, K]`, similar `[B, M]`, where
    `[B, M]` and return `[B, M]` and `[B]`; "point" takes u, labels `[B, C]`, centres
    `[C, K]`, ties `[K]`, where `[B]`, and "code" takes u, where `[B]`: both return
    `[B]`. "bit" takes the same and says something of the batch: `[K]` or `[K, K]`.

    Attributes:
        call: the loss with those arguments.
        kind: see above.
        flips: whether flipping the signs of some bits of all codes (and centres)
            changes nothing.
        permutes: whether the order of the bits changes nothing.
    """

    call: Callable[..., jax.Array]
    kind: str
    flips: bool = True
    permutes: bool = True


def of_pairs(function, kind="pair", **features):
    def call(u, v, similar, where=None):
        return function(u, v, similar, where=where)

    return Loss(call, kind, **features)


def of_points(function, ties=False, **features):
    def call(u, labels, centres, bits, where=None):
        extra = (bits,) if ties else ()
        return function(u, labels, centres, *extra, where=where)

    return Loss(call, "point", **features)


def of_codes(function, kind="code", **features):
    def call(u, where=None):
        return function(u, where=where)

    return Loss(call, kind, **features)


# Few draws, so that no array of draws is as long as one that must not arise.
SAMPLED = functools.partial(losses.dtsh_sampled_loss, jax.random.key(0), draws=3)

LOSSES = {
    "dsh_loss": of_pairs(losses.dsh_loss),
    "dpsh_loss": of_pairs(losses.dpsh_loss),
    "dhn_loss": of_pairs(losses.dhn_loss),
    "hashnet_loss": of_pairs(losses.hashnet_loss),
    "dch_loss": of_pairs(losses.dch_loss),
    "logistic_pair_loss": of_pairs(losses.logistic_pair_loss),
    "contrastive_loss": of_pairs(losses.contrastive_loss),
    "ssdph_loss": of_pairs(losses.ssdph_loss),
    "mihash_loss": of_pairs(losses.mihash_loss, "anchor"),
    "talr_loss": of_pairs(losses.talr_loss, "anchor"),
    "dtsh_loss": of_pairs(losses.dtsh_loss, "anchor"),
    "dtsh_sampled_loss": of_pairs(SAMPLED, "anchor"),
    "triplet_margin_loss": of_pairs(losses.triplet_margin_loss, "anchor"),
    "greedyhash_loss": of_points(losses.greedyhash_loss),
    "csq_loss": of_points(losses.csq_loss, ties=True),
    "dpn_loss": of_points(losses.dpn_loss),
    "orthohash_loss": of_points(losses.orthohash_loss),
    "absolute_quantisation": of_codes(losses.absolute_quantisation),
    "squared_quantisation": of_codes(losses.squared_quantisation),
    "log_cosh_quantisation": of_codes(losses.log_cosh_quantisation),
    "cubic_quantisation": of_codes(losses.cubic_quantisation),
    "cosine_quantisation": of_codes(losses.cosine_quantisation),
    "dch_quantisation": of_codes(losses.dch_quantisation),
    "code_balance": of_codes(losses.code_balance, flips=False),
    "bit_balance": of_codes(losses.bit_balance, "bit", permutes=False),
    "bit_independence": of_codes(losses.bit_independence, "bit", permutes=False),
}
# Not functions of codes, but of A-Net's outputs.
ADVERSARIAL = {"score_function_loss"}


def named(*kinds):
    return [name for name, loss in LOSSES.items() if loss.kind in kinds]


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def multi_hot(seed, rows):
    rng = np.random.default_rng(seed)
    labels = np.eye(C)[np.arange(rows) % C]
    return np.maximum(labels, rng.random((rows, C)) < 0.2).astype(np.float32)


def signs(seed, *shape):
    return np.where(normal(seed, *shape) >= 0, 1.0, -1.0).astype(np.float32)


def arguments(name, rows=B, columns=M, seed=0):
    """Arguments of a loss but for `where`, the codes first."""
    kind = LOSSES[name].kind
    u = 0.6 * normal(seed, rows, K)
    if kind in ("code", "bit"):
        return (u,)
    if kind == "point":
        labels = multi_hot(seed + 1, rows)
        return u, labels, signs(seed + 2, C, K), signs(seed + 3, K)
    v = 0.6 * normal(seed + 4, columns, K)
    labels, others = multi_hot(seed + 1, rows), multi_hot(seed + 5, columns)
    similar = labels @ others.T > 0
    return u, v, similar


def mask(name, rows=B, columns=M, seed=6):
    """A random mask; one row of pairs is masked wholly."""
    rng = np.random.default_rng(seed)
    if is_of_pairs(name):
        where = rng.random((rows, columns)) < 0.6
        where[1] = False
        return where
    return rng.random(rows) < 0.6


def is_of_pairs(name):
    return LOSSES[name].kind in ("pair", "anchor")


def codes_of(name):
    """Which arguments are codes."""
    return (0, 1) if is_of_pairs(name) else (0,)


def shape_of(name, *given):
    """Shape of the values for these arguments."""
    shapes = {"bit_balance": (K,), "bit_independence": (K, K)}
    rows = given[2].shape if LOSSES[name].kind == "pair" else given[0].shape[:1]
    return shapes.get(name, rows)


@functools.cache
def compiled(name):
    """Values, and the gradient of their weighted sum for the codes; one program."""

    def both(weights, where, *given):
        def total(*given):
            values = LOSSES[name].call(*given, where)
            return jnp.sum(values * weights), values

        grad = jax.grad(total, codes_of(name), has_aux=True)
        of, values = grad(*given)
        return values, of

    return jax.jit(both)


def both(name, *given, where=None):
    """Values, and the gradient for the codes of their sum with random weights."""
    if where is None:
        shape = given[2].shape if is_of_pairs(name) else given[0].shape[:1]
        where = np.ones(shape, bool)
    weights = normal(9, *shape_of(name, *given))
    return jax.tree.map(np.asarray, compiled(name)(weights, where, *given))


def value(name, *given, where=None):
    return both(name, *given, where=where)[0]


def gradient(name, *given, where=None):
    return both(name, *given, where=where)[1]


def close(found, wanted, rtol=2e-5):
    wanted = np.asarray(wanted)
    scale = max(np.abs(wanted).max(initial=0.0), 1e-3)
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * scale)


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


@pytest.mark.parametrize("name", LOSSES)
def test_jit_and_no_mask_change_nothing(name):
    given = arguments(name)
    eager = LOSSES[name].call(*map(jnp.asarray, given))
    assert eager.dtype == jnp.float32
    close(value(name, *given), eager)


@pytest.mark.parametrize("name", LOSSES)
def test_vmap_is_a_loop(name):
    batches = [(*arguments(name, seed=s), mask(name, seed=s)) for s in (0, 20, 40)]
    stacked = [jnp.asarray(np.stack(x)) for x in zip(*batches, strict=True)]
    found = jax.jit(jax.vmap(LOSSES[name].call))(*stacked)
    for one, (*given, where) in zip(found, batches, strict=True):
        close(one, value(name, *given, where=where))


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
        mesh=Mesh(np.asarray(jax.devices()[:4]), (AXIS,)),
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
