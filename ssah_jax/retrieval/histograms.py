"""How many database items, and how many relevant ones, lie at each distance.

K-bit codes know K + 1 distances, so the two histograms of a query hold all that a
ranking by Hamming distance says: every metric in `tie_aware` is a function of them.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int64, Shaped, UInt8, UInt16, UInt32

from ssah_jax.retrieval.inputs import ArrayLike, PackedSets, pack_sets


@partial(jax.jit, static_argnames=("by_number", "bits"))
def _keys(
    query_code: UInt32[Array, "Q W"],
    query_label: UInt32[Array, "Q V"],
    database_code: UInt32[Array, "N W"],
    database_label: UInt32[Array, "N V"],
    *,
    by_number: bool,
    bits: int,
) -> UInt8[Array, "Q N"] | UInt16[Array, "Q N"]:
    """2 * distance + relevance of each pair, in [0, 2K + 1]."""
    dtype = jnp.uint8 if 2 * bits + 1 <= 255 else jnp.uint16
    distance = jnp.zeros((len(query_code), len(database_code)), dtype)
    for word in range(query_code.shape[1]):
        differ = query_code[:, None, word] ^ database_code[None, :, word]
        distance += jax.lax.population_count(differ).astype(dtype)
    relevant = jnp.zeros(distance.shape, bool)
    for word in range(query_label.shape[1]):
        query, database = query_label[:, None, word], database_label[None, :, word]
        relevant |= query == database if by_number else (query & database) != 0
    return 2 * distance + relevant.astype(dtype)


def key_blocks(
    sets: PackedSets, *, query_block: int, database_block: int
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Walks over all pairs, a block at a time, database fastest.

    Every block has one shape on the device, so there is one compilation; the odd
    tails are padded there and cut off here.

    Args:
        sets: packed queries and database.
        query_block: most queries of a block, >= 1.
        database_block: most database items of a block, >= 1.

    Yields:
        The block's queries, its database items, and for each pair of them
        2 * distance + relevance, `[queries, items]` in [0, 2K + 1].

    Raises:
        ValueError: a block is below 1.
    """
    for name, size in (
        ("query_block", query_block),
        ("database_block", database_block),
    ):
        if size < 1:
            raise ValueError(f"{name}: found {size}; accepted is a number >= 1")
    num_query, num_database = len(sets.query_code), len(sets.database_code)
    query_rows = _fit(query_block, num_query)
    database_rows = _fit(database_block, num_database)
    items = [
        (part, _block(sets.database_code, part), _block(sets.database_label, part))
        for part in _parts(num_database, database_rows)
    ]
    for rows in _parts(num_query, query_rows):
        code, label = _block(sets.query_code, rows), _block(sets.query_label, rows)
        for part, item_code, item_label in items:
            keys = _keys(
                code,
                label,
                item_code,
                item_label,
                by_number=sets.by_number,
                bits=sets.bits,
            )
            first, last = rows.start, min(rows.stop, num_query)
            left, right = part.start, min(part.stop, num_database)
            block = np.asarray(keys)[: last - first, : right - left]
            yield slice(first, last), slice(left, right), block


def distance_histograms(
    query_codes: Shaped[ArrayLike, "Q K"],
    query_labels: Shaped[ArrayLike, "..."],
    database_codes: Shaped[ArrayLike, "N _"],
    database_labels: Shaped[ArrayLike, "..."],
    *,
    query_block: int = 256,
    database_block: int = 65536,
) -> tuple[Int64[np.ndarray, "Q K+1"], Int64[np.ndarray, "Q K+1"]]:
    """Database items, and relevant ones, at each Hamming distance of each query.

    An item is relevant if it shares at least one label with the query. Memory is one
    block of one-byte keys (two bytes above 127 bits) whatever Q x N; the result does
    not depend on the blocks.

    Distances and relevance are computed on the device, counted on the host: on a CPU
    XLA's scatter-add costs three times NumPy's `bincount`, and K + 1 masked sums cost
    more from about 48 bits on.

    Args:
        query_codes: `[Q, K]`, any real but NaN; binarised at 0 (0 is +1).
        query_labels: multi-hot `[Q, C]` in {0, 1}, or class numbers `[Q]` >= 0.
        database_codes: `[N, K]`, likewise.
        database_labels: `[N, C]` or `[N]`, of the same kind as `query_labels`.
        query_block: most queries handled at once, >= 1.
        database_block: most database items handled at once, >= 1.

    Returns:
        count: items at distance 0..K, `[Q, K+1]`; every row sums to N.
        relevant: relevant items among them, `[Q, K+1]`.

    Raises:
        ValueError: inputs that disagree or are empty, NaN, a block below 1.
    """
    sets = pack_sets(query_codes, query_labels, database_codes, database_labels)
    return count_keys(sets, query_block=query_block, database_block=database_block)


def count_keys(
    sets: PackedSets, *, query_block: int = 256, database_block: int = 65536
) -> tuple[Int64[np.ndarray, "Q radii"], Int64[np.ndarray, "Q radii"]]:
    """`distance_histograms` of sets that are packed already.

    Args:
        sets: packed queries and database.
        query_block: most queries handled at once, >= 1.
        database_block: most database items handled at once, >= 1.

    Returns:
        `count` and `relevant`, `[Q, K+1]` each, as `distance_histograms` says.

    Raises:
        ValueError: a block is below 1.
    """
    bins = 2 * (sets.bits + 1)
    total = np.zeros((len(sets.query_code), bins), np.int64)
    for rows, _, keys in key_blocks(
        sets, query_block=query_block, database_block=database_block
    ):
        for row, key in zip(total[rows], keys, strict=True):
            row += np.bincount(key, minlength=bins)
    split = total.reshape(len(total), sets.bits + 1, 2)
    return split.sum(axis=2), split[:, :, 1].copy()


def _fit(block: int, rows: int) -> int:
    """The block, or the next power of two for fewer rows: few shapes to compile."""
    return min(block, 1 << (rows - 1).bit_length())


def _parts(rows: int, size: int) -> list[slice]:
    """Slices of `size` rows that cover `rows`; the last may reach beyond."""
    return [slice(start, start + size) for start in range(0, rows, size)]


def _block(words: UInt32[np.ndarray, "rows width"], part: slice) -> jax.Array:
    """Rows `part` of `words` on the device, zeros beyond the end."""
    rows = words[part]
    return jnp.asarray(np.pad(rows, ((0, part.stop - part.start - len(rows)), (0, 0))))
