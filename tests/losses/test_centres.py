"""Class centres: Hadamard matrices, distances of the others, merged centres, ties."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quick_cases import slow_but

from ssah_jax import losses
from ssah_jax.losses.centres import (
    class_centres,
    init_ties,
    merged_centres,
    minimum_distance,
)
from ssah_jax.losses.hadamard import hadamard


def signs(seed, *shape):
    return np.where(np.random.default_rng(seed).random(shape) < 0.5, -1.0, 1.0).astype(
        np.float32
    )


def distance_loop(centres):
    least = centres.shape[1]
    for i, a in enumerate(centres):
        for b in centres[:i]:
            least = min(least, sum(x != y for x, y in zip(a, b, strict=True)))
    return least


def smallest_distance(centres):
    bits = centres.shape[1]
    distance = (bits - centres @ centres.T) / 2
    return distance[~np.eye(len(centres), dtype=bool)].min()


def best_of_twenty(seed, classes, bits):
    """CSQ's rule: of twenty sets of random balanced rows the best."""
    rng = np.random.default_rng(seed)
    row = np.where(np.arange(bits) < bits // 2, 1.0, -1.0).astype(np.float32)
    sets = (rng.permuted(np.tile(row, (classes, 1)), axis=1) for _ in range(20))
    return max(smallest_distance(s) for s in sets)


def check(centres, classes, bits):
    assert centres.shape == (classes, bits)
    assert centres.dtype == jnp.float32
    centres = np.asarray(centres)
    assert set(np.unique(centres)) <= {-1.0, 1.0}
    assert len(np.unique(centres, axis=0)) == classes
    return centres


# Hadamard matrices.


def test_hadamard_matrices_are_orthogonal_up_to_128():
    missing = set()
    for order in range(1, 129):
        matrix = hadamard(order)
        if matrix is None:
            missing.add(order)
            continue
        assert matrix.dtype == np.float32
        assert set(np.unique(matrix)) <= {-1.0, 1.0}
        np.testing.assert_array_equal(matrix @ matrix.T, order * np.eye(order))
    possible = {1, 2, *range(4, 129, 4)}
    assert missing & possible == {52, 92, 100, 116}
    assert missing >= set(range(1, 129)) - possible


@pytest.mark.parametrize("bits", [1, 8, 28])
@pytest.mark.parametrize("share", [0.5, 1.0, 2.0])
def test_class_centres_are_hadamard_rows_where_those_exist(key, bits, share):
    # cisip-FIRe's CSQ draws Bernoulli bits there, without a word.
    classes = max(2, int(share * bits))
    centres = check(class_centres(key, num_classes=classes, bits=bits), classes, bits)
    assert smallest_distance(centres) >= bits / 2
    products = np.abs(centres @ centres.T)
    if classes <= bits:
        # No negatives while there are rows: all inner products are exactly 0.
        np.testing.assert_array_equal(products, bits * np.eye(classes))
    else:
        assert set(np.unique(products)) <= {0.0, float(bits)}


def test_class_centres_of_powers_of_two_never_change(key):
    # Records were made with these: another order of draws would orphan them.
    centres = losses.class_centres(key, num_classes=10, bits=8)
    rows = np.packbits(np.asarray(centres) > 0, axis=1).ravel()
    assert rows.tolist() == [166, 243, 139, 192, 184, 222, 149, 237, 89, 12]
    assert losses.class_centres is class_centres


# Elsewhere.


@pytest.mark.parametrize(
    ("bits", "classes", "distance"),
    slow_but(
        [
            (12, 10, 6),
            (12, 100, 2),
            (16, 200, 4),
            (24, 100, 8),
            (32, 100, 10),
            (48, 10, 24),
            (48, 200, 16),
            (64, 1000, 22),
        ],
        (12, 10, 6),
        (24, 100, 8),
    ),
)
def test_class_centres_are_farther_apart_than_the_best_of_twenty(
    bits, classes, distance
):
    for seed in range(2):
        centres = check(
            class_centres(jax.random.key(seed), num_classes=classes, bits=bits),
            classes,
            bits,
        )
        found = smallest_distance(centres)
        assert found >= distance
        assert found >= best_of_twenty(seed, classes, bits)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [32, 64])
def test_class_centres_of_ten_thousand_classes(key, bits):
    # CSQ's generator needs hours for as many (its issue 25).
    centres = class_centres(key, num_classes=10_000, bits=bits)
    check(centres, 10_000, bits)
    assert minimum_distance(centres) >= {32: 6, 64: 18}[bits]
    assert not np.any(centres.sum(-1))


@pytest.mark.parametrize("bits", [11, 18, 19])
def test_class_centres_are_balanced(key, bits):
    centres = check(class_centres(key, num_classes=60, bits=bits), 60, bits)
    found = set(centres.sum(-1).tolist())
    # Of an odd number of bits, either sign is sometimes in excess.
    assert found == ({-1.0, 1.0} if bits % 2 else {0.0})


@pytest.mark.parametrize(
    ("bits", "classes", "distance"),
    [
        (3, 1, 3),
        (3, 2, 3),
        (10, 2, 10),
        (6, 20, 2),  # All balanced codes.
        (6, 21, 1),  # One more than there are.
        (4, 16, 1),  # All codes.
        (9, 512, 1),
    ],
)
def test_class_centres_of_few_bits(key, bits, classes, distance):
    centres = class_centres(key, num_classes=classes, bits=bits)
    check(centres, classes, bits)
    assert minimum_distance(centres) >= distance


@pytest.mark.parametrize(
    ("bits", "classes", "least"),
    [(1, 3, 2), (4, 17, 5), (5, 33, 6), (16, 65_537, 18), (17, 65_537, 18)],
)
def test_too_few_bits_for_the_classes_are_one_line(key, bits, classes, least):
    function = partial(class_centres, key, num_classes=classes)
    with pytest.raises(ValueError, match=r"^bits: ") as error:
        function(bits=bits)
    assert str(error.value) == (
        f"bits: found {bits}, accepted is at least {least} for {classes} classes"
    )
    shape = jax.eval_shape(partial(class_centres, num_classes=classes, bits=least), key)
    assert shape.shape == (classes, least)


@pytest.mark.parametrize(("bits", "classes"), [(12, 10), (11, 60), (19, 60)])
def test_class_centres_depend_on_the_key_alone(bits, classes):
    plain = partial(class_centres, num_classes=classes, bits=bits)
    first, second = plain(jax.random.key(0)), plain(jax.random.key(1))
    assert np.any(first != second)
    np.testing.assert_array_equal(first, plain(jax.random.key(0)))


def test_class_centres_may_be_traced(key):
    # The initial state is made under `jit` and `eval_shape`.
    for bits, classes in [(12, 10), (11, 60)]:
        plain = partial(class_centres, num_classes=classes, bits=bits)
        np.testing.assert_array_equal(jax.jit(plain)(key), plain(key))
        shape = jax.eval_shape(lambda f=plain: f(jax.random.key(0)))
        assert (shape.shape, shape.dtype) == ((classes, bits), jnp.float32)


def test_more_draws_are_farther_apart(key):
    few = class_centres(key, num_classes=200, bits=16, draws=1)
    many = class_centres(key, num_classes=200, bits=16, draws=64)
    check(few, 200, 16)
    assert minimum_distance(many) > minimum_distance(few)


# Distances.


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 1000))
def test_minimum_distance_equals_the_loop(classes, bits, seed):
    centres = signs(seed, classes, bits)
    found = minimum_distance(jnp.asarray(centres))
    assert found == distance_loop(centres)
    assert found.dtype == jnp.float32


@pytest.mark.parametrize("classes", [512, 513, 1100])
def test_minimum_distance_sees_every_block(classes):
    # One near pair far down, in the first and the last rows.
    centres = signs(0, classes, 256)
    centres[-1] = centres[1]
    centres[-1, :3] *= -1
    assert smallest_distance(centres) == 3
    assert minimum_distance(jnp.asarray(centres)) == 3


def test_minimum_distance_of_equal_and_of_single_centres():
    assert minimum_distance(jnp.ones((2, 8))) == 0
    assert minimum_distance(jnp.ones((1, 8))) == 8
    assert minimum_distance(jnp.asarray([[1.0, 1.0], [-1.0, -1.0]])) == 2


def sizes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (math.prod(v.aval.shape) for v in equation.outvars)
        for parameter in equation.params.values():
            if hasattr(parameter, "jaxpr"):
                yield from sizes(parameter.jaxpr)


def test_minimum_distance_needs_no_square_matrix():
    classes = 2000
    jaxpr = jax.make_jaxpr(minimum_distance)(jnp.ones((classes, 8)))
    found = max(sizes(jaxpr.jaxpr))
    assert 512 * classes <= found < classes**2 / 2


# Several labels.


def merged_loop(labels, centres, ties):
    out = np.zeros((len(labels), centres.shape[1]), np.float32)
    for i, row in enumerate(labels):
        own = [centres[c] for c in range(len(row)) if row[c]]
        for k in range(centres.shape[1]):
            total = sum(float(c[k]) for c in own)
            out[i, k] = ties[k] if total == 0 else math.copysign(1, total)
    return out


@pytest.mark.parametrize("classes", [1, 3, 6])
def test_merged_centres_equal_the_loop(classes):
    centres, ties = signs(1, classes, 16), signs(2, 16)
    labels = (np.random.default_rng(3).random((12, classes)) < 0.5).astype(np.float32)
    labels[0], labels[1] = 0, 1
    found = merged_centres(*map(jnp.asarray, (labels, centres, ties)))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, merged_loop(labels, centres, ties))


def test_merged_centres_of_none_and_of_one():
    centres, ties = signs(1, 3, 16), signs(2, 16)
    labels = np.concatenate([np.zeros((1, 3)), np.eye(3)]).astype(np.float32)
    found = merged_centres(*map(jnp.asarray, (labels, centres, ties)))
    np.testing.assert_array_equal(found, np.concatenate([ties[None, :], centres]))


def test_ties_are_filled_alike_each_time_and_stay_what_they_are():
    # CSQ rewrites its global vector of ties from {0, 1} to {-1, 1} as it goes.
    centres = np.stack([np.ones(16), -np.ones(16)]).astype(np.float32)
    inputs = (np.ones((2, 2), np.float32), centres, signs(2, 16))
    before = [x.copy() for x in inputs]
    arrays = tuple(map(jnp.asarray, inputs))
    first, second = merged_centres(*arrays), merged_centres(*arrays)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, np.tile(inputs[2], (2, 1)))
    for x, a, old in zip(inputs, arrays, before, strict=True):
        np.testing.assert_array_equal(x, old)
        np.testing.assert_array_equal(a, old)


def test_init_ties_are_random_signs(key):
    ties = init_ties(key, bits=64)
    assert ties.shape == (64,)
    assert ties.dtype == jnp.float32
    assert set(np.unique(ties)) == {-1.0, 1.0}
    assert 16 <= np.sum(ties > 0) <= 48
    np.testing.assert_array_equal(ties, init_ties(key, bits=64))
    assert np.any(ties != init_ties(jax.random.key(1), bits=64))
