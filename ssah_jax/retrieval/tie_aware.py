"""Metrics of a ranking by Hamming distance, from its histograms alone.

Items at one distance have no order among themselves. Here nothing depends on one:
a metric is its exact expectation over all orders of equal distances, or its best
and worst case. Letters as in `ssah_jax.types`, and `radii` = K + 1, the distances
0..K. Every argument is a pair of histograms as `distance_histograms` makes them:
`count` `[Q, radii]`, items at each distance, and `relevant` `[Q, radii]`, relevant
ones among them. All is float64 NumPy; one value a query unless said.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Int64

from ssah_jax.retrieval.inputs import check_top_k, histograms_of
from ssah_jax.similarity import checks


class APBounds(NamedTuple):
    """Best and worst average precision that an order of ties can give.

    Attributes:
        optimistic: relevant items first at every distance, `[Q]` in [0, 1].
        pessimistic: relevant items last, `[Q]` in [0, 1].
    """

    optimistic: Float64[np.ndarray, "Q"]
    pessimistic: Float64[np.ndarray, "Q"]


class PrecisionRecallCurve(NamedTuple):
    """Retrieval of everything within a radius, as the radius grows.

    Attributes:
        radius: Hamming radius, `[radii]`, 0..K.
        precision: mean over queries, `[radii]` in [0, 1].
        recall: mean over queries, `[radii]` in [0, 1]; never falls.
    """

    radius: Int64[np.ndarray, "radii"]
    precision: Float64[np.ndarray, "radii"]
    recall: Float64[np.ndarray, "radii"]


def expected_average_precision(
    count: Int[np.ndarray, "Q radii"],
    relevant: Int[np.ndarray, "Q radii"],
    *,
    top_k: int | None = None,
) -> Float64[np.ndarray, "Q"]:
    """Average precision, expected over all orders of equal distances.

    AP = sum over ranks of precision(rank) * relevance(rank), over R, the number of
    relevant items; AP@k stops at rank k and divides by min(R, k), so that a perfect
    ranking has 1. A query without any relevant item has 0.

    A relevant item at place j of a group of n with r relevant, after N0 items with R0
    relevant, sees (R0 + 1 + (j - 1)(r - 1)/(n - 1)) / (N0 + j) expected precision;
    the sum over j is closed in harmonic numbers. After McSherry and Najork, "Computing
    Information Retrieval Performance Measures Efficiently in the Presence of Tied
    Scores", ECIR 2008, https://doi.org/10.1007/978-3-540-78646-7_38, and He et al.,
    "Hashing as Tie-Aware Learning to Rank", CVPR 2018,
    https://arxiv.org/abs/1705.08562; the cut through a group is ours.

    Args:
        count: items at each distance, `[Q, radii]`.
        relevant: relevant items among them, `[Q, radii]`.
        top_k: ranks counted, >= 1; None for all. It may cut through a group.

    Returns:
        `[Q]` in [0, 1].

    Raises:
        ValueError: `top_k` is below 1.
    """
    check_top_k(top_k)
    count, relevant = histograms_of(2, count=count, relevant=relevant)
    n_before, r_before = _before(count), _before(relevant)
    placed = _within(count, n_before, top_k)
    share = relevant / np.maximum(count, 1)
    slope = np.maximum(relevant - 1, 0) / np.maximum(count - 1, 1)
    rise = _harmonic(n_before + placed, n_before)
    precision = slope * placed + (r_before + 1 - slope * (n_before + 1)) * rise
    return _over((share * precision).sum(axis=1), _ideal(relevant, top_k))


def average_precision_bounds(
    count: Int[np.ndarray, "Q radii"],
    relevant: Int[np.ndarray, "Q radii"],
    *,
    top_k: int | None = None,
) -> APBounds:
    """Average precision with the best and with the worst order of ties.

    The denominators are those of `expected_average_precision`, which lies between.

    Args:
        count: items at each distance, `[Q, radii]`.
        relevant: relevant items among them, `[Q, radii]`.
        top_k: ranks counted, >= 1; None for all.

    Returns:
        Both bounds, `[Q]` each.

    Raises:
        ValueError: `top_k` is below 1.
    """
    check_top_k(top_k)
    count, relevant = histograms_of(2, count=count, relevant=relevant)
    r_before = _before(relevant)

    def of_runs(start: np.ndarray) -> np.ndarray:
        # The relevant items of a group are one run of ranks after `start` items.
        placed = _within(relevant, start, top_k)
        run = placed + (r_before - start) * _harmonic(start + placed, start)
        return _over(run.sum(axis=1), _ideal(relevant, top_k))

    first = _before(count)
    return APBounds(of_runs(first), of_runs(first + count - relevant))


def precision_at(
    count: Int[np.ndarray, "Q radii"],
    relevant: Int[np.ndarray, "Q radii"],
    *,
    n: int,
) -> Float64[np.ndarray, "Q"]:
    """Share of relevant items among the first n, expected over orders of ties.

    Args:
        count: items at each distance, `[Q, radii]`.
        relevant: relevant items among them, `[Q, radii]`.
        n: ranks counted, 1 to the size of the database.

    Returns:
        `[Q]` in [0, 1].

    Raises:
        ValueError: `n` is outside 1 to the size of the database.
    """
    count, relevant = histograms_of(2, count=count, relevant=relevant)
    return _hits(count, relevant, n) / n


def recall_at(
    count: Int[np.ndarray, "Q radii"],
    relevant: Int[np.ndarray, "Q radii"],
    *,
    n: int,
) -> Float64[np.ndarray, "Q"]:
    """Share of the relevant items that is among the first n, expected likewise.

    Args:
        count: items at each distance, `[Q, radii]`.
        relevant: relevant items among them, `[Q, radii]`.
        n: ranks counted, 1 to the size of the database.

    Returns:
        `[Q]` in [0, 1]; 0 for a query without any relevant item.

    Raises:
        ValueError: `n` is outside 1 to the size of the database.
    """
    count, relevant = histograms_of(2, count=count, relevant=relevant)
    return _over(_hits(count, relevant, n), relevant.sum(axis=1))


def precision_within_radius(
    count: Int[np.ndarray, "Q radii"],
    relevant: Int[np.ndarray, "Q radii"],
    *,
    radius: int,
) -> Float64[np.ndarray, "Q"]:
    """Share of relevant items among those at distance <= radius.

    A query that retrieves nothing counts 0, and is not left out of a mean: a hash
    table that answers with an empty bucket has failed.

    Args:
        count: items at each distance, `[Q, radii]`.
        relevant: relevant items among them, `[Q, radii]`.
        radius: Hamming radius, 0..K.

    Returns:
        `[Q]` in [0, 1].

    Raises:
        ValueError: `radius` is outside 0..K.
    """
    count, relevant = histograms_of(2, count=count, relevant=relevant)
    end = _end(count, radius)
    return _over(relevant[:, :end].sum(axis=1), count[:, :end].sum(axis=1))


def recall_within_radius(
    count: Int[np.ndarray, "Q radii"],
    relevant: Int[np.ndarray, "Q radii"],
    *,
    radius: int,
) -> Float64[np.ndarray, "Q"]:
    """Share of the relevant items that is at distance <= radius.

    Args:
        count: items at each distance, `[Q, radii]`.
        relevant: relevant items among them, `[Q, radii]`.
        radius: Hamming radius, 0..K.

    Returns:
        `[Q]` in [0, 1]; 0 for a query without any relevant item.

    Raises:
        ValueError: `radius` is outside 0..K.
    """
    count, relevant = histograms_of(2, count=count, relevant=relevant)
    end = _end(count, radius)
    return _over(relevant[:, :end].sum(axis=1), relevant.sum(axis=1))


def precision_recall_curve(
    count: Int[np.ndarray, "Q radii"],
    relevant: Int[np.ndarray, "Q radii"],
) -> PrecisionRecallCurve:
    """Precision and recall within each radius, each a plain mean over all queries.

    At every radius the values are the means of `precision_within_radius` and
    `recall_within_radius`: a query that retrieves nothing counts 0 in both, hence
    both are 0 at a radius where no query retrieves anything.

    Args:
        count: items at each distance, `[Q, radii]`.
        relevant: relevant items among them, `[Q, radii]`.

    Returns:
        The curve over radius 0..K.
    """
    count, relevant = histograms_of(2, count=count, relevant=relevant)
    hits = relevant.cumsum(axis=1)
    precision = _over(hits, count.cumsum(axis=1)).mean(axis=0)
    recall = _over(hits, hits[:, -1:]).mean(axis=0)
    return PrecisionRecallCurve(np.arange(count.shape[1]), precision, recall)


def _before(histogram: np.ndarray) -> np.ndarray:
    """Items nearer than each distance, `[Q, radii]`."""
    return histogram.cumsum(axis=1) - histogram


def _within(run: np.ndarray, start: np.ndarray, top_k: int | None) -> np.ndarray:
    """How much of each run of ranks after `start` lies in the first `top_k`."""
    return run if top_k is None else np.clip(top_k - start, 0, run)


def _ideal(relevant: np.ndarray, top_k: int | None) -> np.ndarray:
    """The denominator R, or min(R, k), `[Q]`."""
    total = relevant.sum(axis=1)
    return total if top_k is None else np.minimum(total, top_k)


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The quotient, and 0 where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)


def _harmonic(end: np.ndarray, start: np.ndarray) -> np.ndarray:
    """H(end) - H(start), of harmonic numbers."""
    # Extended precision where there is any: differences of long sums.
    terms = 1 / np.arange(1, int(end.max()) + 1, dtype=np.longdouble)
    table = np.concatenate([np.zeros(1, np.longdouble), np.cumsum(terms)])
    return (table[end] - table[start]).astype(np.float64)


def _hits(count: np.ndarray, relevant: np.ndarray, n: int) -> np.ndarray:
    """Relevant items expected among the first n, `[Q]`."""
    sizes = count.sum(axis=1)
    size = int(sizes.min())
    if size != sizes.max():
        raise ValueError(
            f"count: found rows of {size} to {sizes.max()} items, accepted are rows of "
            "one database"
        )
    checks.check_whole("n", n)
    if not 1 <= n <= size:
        raise ValueError(
            f"n: found {n}; accepted are 1 to {size}, the size of the database"
        )
    placed = _within(count, _before(count), n)
    return (relevant * placed / np.maximum(count, 1)).sum(axis=1)


def _end(count: np.ndarray, radius: int) -> int:
    """One past the last distance within `radius`."""
    bits = count.shape[1] - 1
    checks.check_whole("radius", radius)
    if not 0 <= radius <= bits:
        raise ValueError(
            f"radius: found {radius}; accepted are 0 to {bits}, the bits of a code"
        )
    return radius + 1
