"""Histograms of Hamming distance without a scatter: 32 database items to a word.

A histogram by `bincount` handles one key at a time, and a scatter-add likewise. Here
the distances of 32 items are turned by a quarter: word `p` holds bit `p` of each of
them. Then "is at distance d" is a chain of ANDs for 32 items at once, and its
population count is what the histogram wants; no key is ever written out. Such
"vertical" counters are folklore of bit-parallel counting; see Klarqvist, Mula and
Lemire, "Efficient Computation of Positional Population Counts Using SIMD
Instructions", 2019, https://arxiv.org/abs/1911.02696, for the opposite direction.

Measured on one core with AVX-512, 59,000 codes of 64 bits, 10 classes, microseconds a
query: 18 here (9 for XOR and population count alone), against 100 for keys from the
device counted by NumPy's `bincount`, and 200 to 440 for these counters where XLA is
left to fuse the stages and to reduce. All are integers, so every backend and every
split of the database gives the same.

Letters: `W` words of a code, `V` words of a label, `lanes` words of 32 items each,
`I` = 32 items of a lane, `blocks` of the database, `kinds` of item that are counted,
`radii` = K + 1, the distances 0..K.
"""

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int32, UInt32

# Sums are taken over slices of lanes first, a few vector registers wide: XLA's own
# reduction does not use the vector unit.
_SLICE = 64
# Two counts share a word, 16 bits each, while a block is summed: 63,488 items.
_MOST_SLICES = 31
# Queries whose intermediates (about 250 KB each at 64 bits) lie in the cache at once.
_GROUP = 4
# From here on words are a loop of XLA's, not of Python's: the program stays small.
_UNROLLED = 8

_popcount = lax.population_count


class Lanes(NamedTuple):
    """A database, 32 items to a lane and at most 63,488 to a block.

    Attributes:
        code: words of the codes, `[blocks, W, I, lanes]`.
        label: words of the labels, `[blocks, V, I, lanes]`.
        valid: bit i of a lane is 1 where its item i exists, `[blocks, lanes]`.
    """

    code: UInt32[np.ndarray | Array, "blocks W I lanes"]
    label: UInt32[np.ndarray | Array, "blocks V I lanes"]
    valid: UInt32[np.ndarray | Array, "blocks lanes"]


def lanes(
    code: UInt32[np.ndarray, "N W"],
    label: UInt32[np.ndarray, "N V"],
    *,
    block: int = 65536,
    shards: int = 1,
    rows: int | None = None,
) -> Lanes:
    """Arranges packed rows as the program reads them.

    Args:
        code: packed codes, `[N, W]`; N may be 0.
        label: packed labels, `[N, V]`.
        block: most items of a block, >= 1; beyond 63,488 it is that.
        shards: the number of blocks becomes a multiple of it.
        rows: items to lay out for, >= N, where other processes have more; None for N.

    Returns:
        The lanes; items that do not exist are zeros and not valid.
    """
    rows = max(1, len(code) if rows is None else rows)
    step = 32 * _SLICE
    most = min(max(1, block // step), _MOST_SLICES)
    steps = -(-rows // step)
    blocks = shards * -(-steps // (most * shards))
    width = _SLICE * -(-steps // blocks)

    def arranged(words: np.ndarray) -> np.ndarray:
        filled = np.zeros((blocks * 32 * width, words.shape[1]), np.uint32)
        filled[: len(words)] = words
        cut = filled.reshape(blocks, 32, width, words.shape[1])
        return np.ascontiguousarray(cut.transpose(0, 3, 1, 2))

    exists = (np.arange(blocks * 32 * width) < len(code)).reshape(blocks, 32, width)
    place = np.arange(32, dtype=np.uint32)[None, :, None]
    # Different bits, so their sum is their union.
    valid = (exists.astype(np.uint32) << place).sum(axis=1, dtype=np.uint32)
    return Lanes(arranged(code), arranged(label), valid)


def count_lanes(
    query_code: UInt32[Array, "Q W"],
    query_label: UInt32[Array, "Q V"],
    database: Lanes,
    apart: Bool[Array, ""] | None,
    *,
    bits: int,
    by_number: bool,
    grades: int,
) -> Int32[Array, "Q kinds radii"]:
    """Items at each distance: all of them, and those of each kind of relevance.

    Args:
        query_code: packed codes, `[Q, W]`; fastest where Q is a multiple of 4.
        query_label: packed labels, `[Q, V]`.
        database: the items.
        apart: True (as an array) on a CPU, where XLA would fuse the stages and
            compute each one anew for every word of the next: a branch that it cannot
            foresee keeps them apart. None elsewhere.
        bits: K.
        by_number: whether labels are numbers, to be compared, not intersected.
        grades: 0 counts relevant items (at least one shared label) in one row; G >= 1
            counts those that share 1, 2, .. G labels, and G must be the most that
            can be shared.

    Returns:
        `[Q, kinds, radii]`: row 0 all items, then relevant ones (kinds = 2), or those
        of grade 1..G (kinds = 1 + G).
    """
    group = math.gcd(_GROUP, len(query_code))
    kinds = 1 + max(1, grades)

    def of_block(total: jax.Array, block: Lanes) -> tuple[jax.Array, None]:
        def of_group(query: tuple[jax.Array, jax.Array]) -> jax.Array:
            return _of_block(
                *query, block, apart, bits=bits, by_number=by_number, grades=grades
            )

        groups = (
            query_code.reshape(-1, group, query_code.shape[1]),
            query_label.reshape(-1, group, query_label.shape[1]),
        )
        return total + lax.map(of_group, groups).reshape(total.shape), None

    zero = jnp.zeros((len(query_code), kinds, bits + 1), jnp.int32)
    # The sum depends on the shard as the database does, and must say so from the start.
    zero += (database.valid[0, 0] & 0).astype(jnp.int32)
    return lax.scan(of_block, zero, database)[0]


def _of_block(
    query_code: jax.Array,
    query_label: jax.Array,
    block: Lanes,
    apart: jax.Array | None,
    *,
    bits: int,
    by_number: bool,
    grades: int,
) -> jax.Array:
    """`count_lanes` of a few queries and one block of the database."""
    stage = partial(_stage, apart)
    code, label, valid = map(jnp.asarray, block)
    place, mark = bits.bit_length(), max(1, grades.bit_length())
    grade_of = partial(_grade, by_number=by_number, counted=grades > 1)
    if place + mark <= 8:
        # A byte holds both.
        arrays = query_code, query_label, code, label
        fields = stage(
            partial(_fields, partial(_marked, grade_of, shift=mark), width=8), *arrays
        )
        planes = stage(partial(_planes, bits=place + mark, width=8), fields)
        grade, planes = planes[:mark], planes[mark:]
    else:
        wide = 8 if place <= 8 else 16
        fields = stage(partial(_fields, _distance, width=wide), query_code, code)
        planes = stage(partial(_planes, bits=place, width=wide), fields)
        wide = 8 if mark <= 8 else 16
        fields = stage(partial(_fields, grade_of, width=wide), query_label, label)
        grade = stage(partial(_planes, bits=mark, width=wide), fields)
    low = place // 2
    near = stage(partial(_one_of, values=1 << low), valid[None], *planes[:low])
    far = stage(partial(_one_of, values=(bits >> low) + 1), None, *planes[low:])

    def pair(first: jax.Array | None, second: jax.Array) -> jax.Array:
        sums = stage(_sums, near, far, first, second).sum(-1, dtype=jnp.uint32)
        sums = sums.reshape(len(query_code), -1)[:, : bits + 1]
        return jnp.stack([sums & 0xFFFF, sums >> 16], axis=1).astype(jnp.int32)

    if grades <= 1:
        return pair(None, grade[0])
    # Grades 0..G, two at a time; one that cannot be makes their number even.
    number = (grades + 2) // 2
    each = stage(partial(_one_of, values=2 * number), None, *grade)
    twos = each.reshape(len(query_code), number, 2, -1).transpose(1, 2, 0, 3)
    counts = lax.map(lambda two: pair(two[0], two[1]), twos)
    counts = counts.transpose(1, 0, 2, 3).reshape(len(query_code), -1, bits + 1)
    everything = counts.sum(axis=1, keepdims=True)
    return jnp.concatenate([everything, counts[:, 1 : grades + 1]], axis=1)


def _stage(
    apart: jax.Array | None, function: Callable[..., Any], *args: jax.Array | None
) -> Any:
    """The function of its arguments, never fused with what uses it."""
    if apart is None:
        return function(*args)

    def zeros(*args: jax.Array | None) -> Any:
        shapes = jax.eval_shape(function, *args)
        # Zeros that vary over the devices of a mesh as the true branch's values do.
        zero = sum(x.reshape(-1)[0] & 0 for x in args if x is not None)
        return jax.tree.map(lambda x: jnp.full(x.shape, zero, x.dtype), shapes)

    return lax.cond(apart, function, zeros, *args)


def _over_words(
    words: Callable[[jax.Array, jax.Array], jax.Array],
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    query: jax.Array,
    items: jax.Array,
) -> jax.Array:
    """`words` of each word of query `[Q, W]` and items `[W, I, lanes]`, combined."""
    if query.shape[1] > _UNROLLED:
        together = words(query[:, :, None, None], items[None])
        return lax.reduce(together, jnp.uint32(0), combine, (1,))
    each = [
        words(query[:, w, None, None], items[w, None]) for w in range(query.shape[1])
    ]
    return reduce(combine, each)


def _distance(query: jax.Array, items: jax.Array) -> jax.Array:
    """Hamming distances, `[Q, I, lanes]`."""
    return _over_words(lambda q, i: _popcount(q ^ i), lax.add, query, items)


def _grade(
    query: jax.Array, items: jax.Array, *, by_number: bool, counted: bool
) -> jax.Array:
    """Labels shared (or, not `counted`, whether any is), `[Q, I, lanes]`."""
    if by_number:
        return (query[:, 0, None, None] == items[0, None]).astype(jnp.uint32)
    if counted:
        return _over_words(lambda q, i: _popcount(q & i), lax.add, query, items)
    shared = _over_words(lambda q, i: q & i, lax.bitwise_or, query, items)
    return (shared != 0).astype(jnp.uint32)


def _marked(
    grade_of: Callable[[jax.Array, jax.Array], jax.Array],
    code: jax.Array,
    label: jax.Array,
    items: jax.Array,
    item_labels: jax.Array,
    *,
    shift: int,
) -> jax.Array:
    """The grade, and above it the distance, `[Q, I, lanes]`."""
    return (_distance(code, items) << shift) | grade_of(label, item_labels)


def _fields(
    values: Callable[..., jax.Array], *arrays: jax.Array, width: int
) -> jax.Array:
    """Small integers of the 32 items of a lane, in fields of `width` words.

    Args:
        values: from the arrays to numbers of `width` bits, `[Q, I, lanes]`.
        arrays: queries' arrays `[Q, words]`, then items' `[words, I, lanes]`.
        width: bits of a field, 8 or 16.

    Returns:
        `[Q, width, lanes]`: item `width * b + g` in field b of word g.
    """
    queries = arrays[: len(arrays) // 2]
    items = arrays[len(arrays) // 2 :]
    fields = [
        values(*queries, *(array[:, first : first + width] for array in items)) << first
        for first in range(0, 32, width)
    ]
    return reduce(lax.bitwise_or, fields)


def _planes(fields: jax.Array, *, bits: int, width: int) -> tuple[jax.Array, ...]:
    """Bit p of the 32 fields of each lane, a word each: `bits` times `[Q, lanes]`."""
    ones = sum(1 << first for first in range(0, 32, width))
    planes = []
    for p in range(bits):
        # Bit p of every field of word g goes to place g of that field.
        moved = [
            (fields[:, g] << (g - p) if g > p else fields[:, g] >> (p - g))
            & np.uint32(ones << g)
            for g in range(width)
        ]
        planes.append(reduce(lax.bitwise_or, moved))
    return tuple(planes)


def _one_of(mask: jax.Array | None, *digits: jax.Array, values: int) -> jax.Array:
    """Where the number of these binary digits is v, for each v.

    Args:
        mask: items that count, `[1, lanes]`; None for all.
        digits: the lowest first, `[Q, lanes]` each.
        values: v is 0 to one less.

    Returns:
        `[Q, values, lanes]`.
    """
    value = jnp.arange(values, dtype=jnp.uint32)[None, :, None]
    match = jnp.full((1, 1, 1), 0xFFFFFFFF, jnp.uint32)
    if mask is not None:
        match &= mask[:, None]
    for place, digit in enumerate(digits):
        # All ones where the bit must be 0: XOR with them is NOT.
        match &= digit[:, None] ^ (((value >> place) & 1) - 1)
    return match


def _sums(
    near: jax.Array,
    far: jax.Array,
    first: jax.Array | None,
    second: jax.Array,
) -> jax.Array:
    """Items of two kinds at each distance, in the halves of a word, over the slices.

    Args:
        near: low digits of the distance, `[Q, low, lanes]`.
        far: high digits, `[Q, high, lanes]`.
        first: items of the kind counted in the lower half, `[Q, lanes]`; None for all.
        second: of the upper half, likewise.

    Returns:
        `[Q, high, low, slice]`.
    """
    total = jnp.zeros((1, 1, 1, 1), jnp.uint32)
    for start in range(0, near.shape[2], _SLICE):
        part = slice(start, start + _SLICE)
        match = far[:, :, None, part] & near[:, None, :, part]
        count = _popcount(
            match if first is None else match & first[:, None, None, part]
        )
        other = _popcount(match & second[:, None, None, part])
        total = total + count + (other << 16)
    return total
