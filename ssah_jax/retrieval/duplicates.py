"""Groups of images whose codes are alike, among any number of codes.

Codes within distance r agree in at least one of r + 1 parts that they are cut into
(the pigeonholes of multi-index hashing, https://arxiv.org/abs/1307.2982), so that only
codes with an equal part are compared, and yet every pair is found: of a million random
codes of 64 bits 31 million pairs instead of 500 thousand million, for r = 3.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Bool, Int32, Int64, Shaped, UInt8, UInt64

_MOST_EDGES: Final = 1 << 22
"""That are kept before they are folded into groups."""


def groups(
    packed: UInt8[np.ndarray, "N bytes"], *, bits: int, radius: int
) -> list[Int64[np.ndarray, "n"]]:
    """Groups of codes that are within a distance of each other, or linked by others.

    Args:
        packed: `[N, ceil(K / 8)]`, as `ssah_jax.retrieval.pack` makes them.
        bits: K.
        radius: the greatest Hamming distance of two codes that are alike, 0 .. K - 1.

    Returns:
        The rows of each group of two or more, ascending; groups by their first row.
        Whoever is within `radius` of a member is one too.

    Raises:
        ValueError: `radius` is none of these.
    """
    from scipy import sparse

    if not 0 <= radius < bits:
        raise ValueError(f"radius: found {radius}, accepted is 0 to {bits - 1} bits")
    if not len(packed):
        return []
    # Equal codes first: trained ones are few where there are few classes.
    order, new = _in_order(packed)
    number, different = np.cumsum(new) - 1, order[new]
    member = np.arange(len(different))
    for rows, others in _near_pairs(packed[different], bits=bits, radius=radius):
        edges = (np.ones(len(rows), bool), (member[rows], member[others]))
        shape = (len(different), len(different))
        graph = sparse.coo_matrix(edges, shape=shape)
        joined = sparse.csgraph.connected_components(graph, directed=False)[1]
        member = joined[member]
    group = np.empty(len(packed), np.int64)
    group[order] = member[number]
    several = np.flatnonzero(np.bincount(group)[group] > 1)
    by_group = several[np.argsort(group[several], kind="stable")]
    cuts = np.flatnonzero(np.diff(group[by_group])) + 1
    found = np.split(by_group, cuts) if len(several) else []
    return sorted(found, key=lambda rows: int(rows[0]))


def comparisons(packed: UInt8[np.ndarray, "N bytes"], *, bits: int, radius: int) -> int:
    """Pairs of different codes that `groups` compares, to tell how long it will take.

    Args:
        packed: `[N, ceil(K / 8)]`.
        bits: K.
        radius: as of `groups`.
    """
    order, new = _in_order(packed)
    parts = _parts(packed[order[new]], bits, radius)
    sizes = (np.unique(part, return_counts=True)[1] for part in parts)
    return sum(int((size * (size - 1) // 2).sum()) for size in sizes)


def distances_to(
    query: UInt8[np.ndarray, "bytes"], packed: UInt8[np.ndarray, "N bytes"]
) -> Int32[np.ndarray, "N"]:
    """Hamming distances `[N]` of one packed code to N others, in bits."""
    found = np.zeros(len(packed), np.int32)
    for word, codes in zip(_words(query[None]), _words(packed), strict=True):
        found += np.bitwise_count(codes ^ word)
    return found


def _near_pairs(
    packed: UInt8[np.ndarray, "U bytes"], *, bits: int, radius: int
) -> Iterator[tuple[Int64[np.ndarray, "P"], Int64[np.ndarray, "P"]]]:
    """Pairs of rows within a distance, many at a time, some more than once."""
    if not radius:
        return
    words = _words(packed)
    rows: list[np.ndarray] = []
    others: list[np.ndarray] = []
    kept = 0
    for part in _parts(packed, bits, radius):
        order = np.argsort(part, kind="stable")
        sorted_part, sorted_words = part[order], words[:, order]
        ends = np.searchsorted(sorted_part, sorted_part, side="right")
        # Each row with the one `shift` rows on, as long as that has the same part.
        first, shift = np.arange(len(part)), 1
        while len(first := first[first + shift < ends[first]]):
            away = np.zeros(len(first), np.int32)
            for word in sorted_words:
                away += np.bitwise_count(word[first] ^ word[first + shift])
            near = first[away <= radius]
            if len(near):
                rows.append(order[near])
                others.append(order[near + shift])
                kept += len(near)
            if kept > _MOST_EDGES:
                yield np.concatenate(rows), np.concatenate(others)
                rows, others, kept = [], [], 0
            shift += 1
    if kept:
        yield np.concatenate(rows), np.concatenate(others)


def _parts(
    packed: UInt8[np.ndarray, "U bytes"], bits: int, radius: int
) -> Iterator[Shaped[np.ndarray, "U"]]:
    """Of each code one part after the other, as numbers or bytes that can be sorted."""
    ones = np.unpackbits(packed, axis=1, count=bits)
    for columns in np.array_split(np.arange(bits), min(radius + 1, bits)):
        part = np.packbits(ones[:, columns], axis=1)
        width = 1 << max(part.shape[1] - 1, 0).bit_length()
        if width > 8:
            yield np.unique(part, axis=0, return_inverse=True)[1].reshape(-1)
            continue
        filled = np.zeros((len(part), width), np.uint8)
        filled[:, : part.shape[1]] = part
        yield filled.view(f"u{width}")[:, 0]


def _words(packed: UInt8[np.ndarray, "n bytes"]) -> UInt64[np.ndarray, "W n"]:
    """Packed codes as 64-bit words, filled with zeros, a word a row."""
    filled = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
    return np.ascontiguousarray(filled.view(np.uint64).T)


def _in_order(
    packed: UInt8[np.ndarray, "N bytes"],
) -> tuple[Int64[np.ndarray, "N"], Bool[np.ndarray, "N"]]:
    """Rows sorted by code, equal ones by row, and which of them begin another code."""
    words = _words(packed)
    order = np.lexsort(words[::-1])
    new = np.any(words[:, order[1:]] != words[:, order[:-1]], axis=0)
    return order, np.concatenate([np.ones(min(1, len(packed)), bool), new])
