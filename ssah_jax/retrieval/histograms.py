"""How many database items, and how many relevant ones, lie at each distance.

K-bit codes know K + 1 distances, so the two histograms of a query hold all that a
ranking by Hamming distance says: every metric in `tie_aware` is a function of them,
and with one histogram a grade of relevance every metric in `graded`.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int64, Shaped, UInt8, UInt16, UInt32

from ssah_jax.retrieval.inputs import ArrayLike, PackedSets, pack_sets
from ssah_jax.retrieval.sharded import over_processes, prepare
from ssah_jax.similarity import checks


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
    """
    num_query, num_database = len(sets.query_code), len(sets.database_code)
    query_rows = _fit(query_block, num_query)
    database_rows = _fit(database_block, num_database)
    items = [
        (
            part,
            jnp.asarray(_rows(sets.database_code, part)),
            jnp.asarray(_rows(sets.database_label, part)),
        )
        for part in _parts(num_database, database_rows)
    ]
    for rows in _parts(num_query, query_rows):
        code, label = _rows(sets.query_code, rows), _rows(sets.query_label, rows)
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
    mesh: Mesh | None = None,
) -> tuple[Int64[np.ndarray, "Q K+1"], Int64[np.ndarray, "Q K+1"]]:
    """Database items, and relevant ones, at each Hamming distance of each query.

    An item is relevant if it shares at least one label with the query. XOR,
    population count and histogram are one compiled program (`bit_sliced`), the same
    on every backend; its memory is the packed database and a few blocks whatever
    Q x N, and the result does not depend on the blocks.

    Args:
        query_codes: `[Q, K]`, any real but NaN, binarised at 0 (0 is +1), or booleans.
        query_labels: multi-hot `[Q, C]` in {0, 1}, or class numbers `[Q]` >= 0.
        database_codes: `[N, K]`, likewise; N < 2**31.
        database_labels: `[N, C]` or `[N]`, of the same kind as `query_labels`.
        query_block: most queries of one call of the program, >= 1.
        database_block: most items a device handles at once, >= 1; 65,024 at most.
        mesh: one axis of devices that share the database, as `database_mesh()`; None
            for one device. With several processes each has as many devices, and
            passes the same queries and its own rows of the database, at least one;
            each is given the sums over all.

    Returns:
        count: items at distance 0..K, `[Q, K+1]`; every row sums to N.
        relevant: relevant items among them, `[Q, K+1]`.

    Raises:
        ValueError: inputs that disagree or are empty, NaN, a block below 1, a mesh of
            several axes.
    """
    sets = pack_sets(
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        numbered=jax.process_count() == 1,
    )
    counts = count_sets(
        sets, query_block=query_block, database_block=database_block, mesh=mesh
    )
    return counts[:, 0], counts[:, 1]


def graded_histograms(
    query_codes: Shaped[ArrayLike, "Q K"],
    query_labels: Shaped[ArrayLike, "..."],
    database_codes: Shaped[ArrayLike, "N _"],
    database_labels: Shaped[ArrayLike, "..."],
    *,
    query_block: int = 256,
    database_block: int = 65536,
    mesh: Mesh | None = None,
) -> Int64[np.ndarray, "Q grades K+1"]:
    """Database items of each grade at each Hamming distance of each query.

    The grade of an item is the number of labels that it shares with the query.

    Args:
        query_codes: `[Q, K]`, any real but NaN, binarised at 0 (0 is +1), or booleans.
        query_labels: multi-hot `[Q, C]` in {0, 1}, or class numbers `[Q]` >= 0.
        database_codes: `[N, K]`, likewise; N < 2**31.
        database_labels: `[N, C]` or `[N]`, of the same kind as `query_labels`.
        query_block: most queries of one call of the program, >= 1.
        database_block: most items a device handles at once, >= 1; 65,024 at most.
        mesh: as in `distance_histograms`.

    Returns:
        `[Q, grades, K+1]`: grade 0 (irrelevant) first, to the most labels that a
        query and an item could share here (at least 1). Its sum over grades is
        `count` of `distance_histograms`, that over grades >= 1 `relevant`.

    Raises:
        ValueError: inputs that disagree or are empty, NaN, a block below 1, a mesh of
            several axes.
    """
    sets = pack_sets(
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        numbered=jax.process_count() == 1,
    )
    counts = count_sets(
        sets,
        # Processes whose rows differ must run one program.
        grades=int(over_processes(most_shared(sets)).max()),
        query_block=query_block,
        database_block=database_block,
        mesh=mesh,
    )
    return by_grade(counts)


def count_sets(
    sets: PackedSets,
    *,
    grades: int = 0,
    query_block: int = 256,
    database_block: int = 65536,
    mesh: Mesh | None = None,
) -> Int64[np.ndarray, "Q kinds radii"]:
    """Histograms of sets that are packed already.

    Args:
        sets: packed queries and database; with a mesh over several processes, the
            same queries everywhere and each process's own rows of the database.
        grades: 0 for relevant items in one row; else at least `most_shared`, for a
            row a grade.
        query_block: most queries of one call of the program, >= 1.
        database_block: most items a device handles at once, >= 1; 65,024 at most.
        mesh: one axis of devices that share the database; None for one device.

    Returns:
        `[Q, kinds, K+1]`: row 0 all items, then relevant ones, or grades 1..G.

    Raises:
        ValueError: a block is below 1, or the whole database has 2**31 items or more.
    """
    for name, size in (
        ("query_block", query_block),
        ("database_block", database_block),
    ):
        checks.check_whole(name, size, 1)
    count = prepare(sets, mesh=mesh, block=database_block, grades=grades)
    num_query = len(sets.query_code)
    size = _fit(query_block, num_query)
    parts = []
    for rows in _parts(num_query, size):
        # All blocks are sent off before the first is waited for.
        parts.append(count(_rows(sets.query_code, rows), _rows(sets.query_label, rows)))
    total = np.concatenate([np.asarray(part) for part in parts])
    return total[:num_query].astype(np.int64)


def most_shared(sets: PackedSets) -> int:
    """The most labels that a query and an item could share, at least 1.

    Args:
        sets: packed queries and database.

    Returns:
        The smaller of the two sides' most labels of one row.
    """
    if sets.by_number:
        return 1
    sides = (sets.query_label, sets.database_label)
    most = (
        int(np.max(np.bitwise_count(side).sum(axis=1, dtype=np.int64)))
        for side in sides
    )
    return max(1, min(most))


def by_grade(
    counts: Int64[np.ndarray, "Q kinds radii"],
) -> Int64[np.ndarray, "Q kinds radii"]:
    """Histograms of grades 0..G from those of all items and grades 1..G.

    Args:
        counts: `[Q, 1 + G, radii]`, all items first.

    Returns:
        `[Q, 1 + G, radii]`, irrelevant items first.
    """
    irrelevant = counts[:, :1] - counts[:, 1:].sum(axis=1, keepdims=True)
    return np.concatenate([irrelevant, counts[:, 1:]], axis=1)


def _fit(block: int, rows: int) -> int:
    """The block, or the next power of two for fewer rows: few shapes to compile."""
    return min(block, 1 << (rows - 1).bit_length())


def _parts(rows: int, size: int) -> list[slice]:
    """Slices of `size` rows that cover `rows`; the last may reach beyond."""
    return [slice(start, start + size) for start in range(0, rows, size)]


def _rows(
    words: UInt32[np.ndarray, "rows width"], part: slice
) -> UInt32[np.ndarray, "part width"]:
    """Rows `part` of `words`, zeros beyond the end."""
    rows = words[part]
    return np.pad(rows, ((0, part.stop - part.start - len(rows)), (0, 0)))
