"""Metrics beyond one bit of relevance: NDCG, and means over the queries of a class.

As in `tie_aware` nothing depends on an order of equal distances, and histograms are
all that is needed: `graded` `[Q, grades, radii]`, items of grade 0 (irrelevant), 1,
.. at distance 0..K, as `graded_histograms` makes them. All is float64 NumPy.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Float64, Int, Int64, Shaped

from ssah_jax.retrieval.inputs import ArrayLike, check_top_k, histograms_of, labels_of
from ssah_jax.similarity import checks

Gain = Literal["linear", "exponential"]


class ClassMeans(NamedTuple):
    """A metric's mean over the queries that show each class.

    Attributes:
        classes: numbers of the classes, `[classes]`, rising.
        mean: means, `[classes]`; NaN where no query shows the class.
        num_query: queries that show it, `[classes]`.
    """

    classes: Int64[np.ndarray, "classes"]
    mean: Float64[np.ndarray, "classes"]
    num_query: Int64[np.ndarray, "classes"]


def expected_ndcg(
    graded: Int[np.ndarray, "Q grades radii"],
    *,
    gain: str = "linear",
    top_k: int | None = None,
) -> Float64[np.ndarray, "Q"]:
    """Normalised discounted cumulative gain, expected over orders of equal distances.

    DCG = sum over ranks of gain(rank) / log2(1 + rank), over that of the best ranking
    of the same grades; both stop at `top_k`. Every rank of a group of equal distances
    has the group's mean gain in expectation, so a group adds that mean times the sum
    of its discounts: exact, a cut through a group included. Jarvelin and Kekalainen,
    "Cumulated Gain-Based Evaluation of IR Techniques", 2002,
    https://doi.org/10.1145/582415.582418; under ties McSherry and Najork, 2008,
    https://doi.org/10.1007/978-3-540-78646-7_38.

    Args:
        graded: items of each grade at each distance, `[Q, grades, radii]`.
        gain: "linear", the grade g, or "exponential", 2**g - 1.
        top_k: ranks counted, >= 1; None for all.

    Returns:
        `[Q]` in [0, 1]; 0 for a query without any relevant item.

    Raises:
        ValueError: an unknown gain, `top_k` below 1, or no such histograms.
    """
    check_top_k(top_k)
    (graded,) = histograms_of(3, graded=graded)
    if gain not in get_args(Gain):
        raise ValueError(
            f"gain: found {gain!r}; accepted are {', '.join(get_args(Gain))}"
        )
    most = graded.shape[1] - 1
    grade = np.arange(most + 1)
    # NDCG does not change with the scale of its gains: 2**g itself may overflow.
    gains = grade / 1.0 if gain == "linear" else np.exp2(grade - most) - 2.0**-most
    count = graded.sum(axis=1)
    ends = count.cumsum(axis=1)
    table = _discounts(int(ends[:, -1].max()), top_k)
    mean = np.einsum("g,qgr->qr", gains, graded) / np.maximum(count, 1)
    found = (mean * (table[ends] - table[ends - count])).sum(axis=1)
    # Best first: the grades from the highest to 0, a run of ranks each.
    sizes = graded.sum(axis=2)[:, ::-1]
    ends = sizes.cumsum(axis=1)
    best = (gains[::-1] * (table[ends] - table[ends - sizes])).sum(axis=1)
    return np.where(best > 0, found / np.where(best > 0, best, 1), 0.0)


def mean_per_class(
    values: Float[np.ndarray, "Q"],
    query_labels: Shaped[ArrayLike, "..."],
) -> ClassMeans:
    """The mean of a metric over the queries of each class.

    A query of several labels counts for each of them, one without labels for none.

    Args:
        values: a metric of each query, `[Q]`.
        query_labels: multi-hot `[Q, C]` in {0, 1}, or class numbers `[Q]` >= 0.

    Returns:
        The means, of all C classes, or of those numbers that occur.

    Raises:
        ValueError: `values` and labels that disagree, or labels of neither kind.
    """
    values = checks.host_array("values", values)
    if values.ndim != 1:
        raise ValueError(f"values: found shape {values.shape}, accepted is [Q]")
    labels = labels_of("query_labels", query_labels, len(values))
    if labels.ndim == 1:
        classes, place = np.unique(labels, return_inverse=True)
        number = np.bincount(place, minlength=len(classes))
        total = np.bincount(place, weights=values, minlength=len(classes))
    else:
        classes = np.arange(labels.shape[1])
        number = (labels != 0).sum(axis=0)
        total = values @ (labels != 0)
    mean = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return ClassMeans(classes.astype(np.int64), mean, number.astype(np.int64))


def _discounts(ranks: int, top_k: int | None) -> Float64[np.ndarray, "prefix"]:
    """The sum of the discounts of the first n ranks, for n = 0..ranks."""
    # Extended precision where there is any: differences of long sums.
    terms = 1 / np.log2(np.arange(2, ranks + 2, dtype=np.longdouble))
    if top_k is not None:
        terms[top_k:] = 0
    table = np.concatenate([np.zeros(1, np.longdouble), np.cumsum(terms)])
    return table.astype(np.float64)
