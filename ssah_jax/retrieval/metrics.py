"""The numbers a retrieval experiment reports, from codes and labels."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64, Shaped

from ssah_jax.retrieval import tie_aware
from ssah_jax.retrieval.graded import expected_ndcg, mean_per_class
from ssah_jax.retrieval.histograms import by_grade, count_sets, most_shared
from ssah_jax.retrieval.inputs import ArrayLike, check_rank, check_top_k, pack_sets
from ssah_jax.retrieval.stable import CONVENTIONS, stable_of_sets

Ties = Literal["expected", "optimistic", "pessimistic", "stable"]


def average_precision(
    query_codes: Shaped[ArrayLike, "Q K"],
    query_labels: Shaped[ArrayLike, "..."],
    database_codes: Shaped[ArrayLike, "N _"],
    database_labels: Shaped[ArrayLike, "..."],
    *,
    top_k: int | None = None,
    ties: str = "expected",
    convention: str | None = None,
) -> Float64[np.ndarray, "kept"]:
    """Average precision of each query; `mean_average_precision` is its mean.

    Args:
        query_codes: `[Q, K]`, any real but NaN, binarised at 0 (0 is +1), or booleans.
        query_labels: multi-hot `[Q, C]` in {0, 1}, or class numbers `[Q]` >= 0.
        database_codes: `[N, K]`, likewise.
        database_labels: `[N, C]` or `[N]`, of the same kind as `query_labels`.
        top_k: ranks counted, >= 1; None for all.
        ties: as in `mean_average_precision`.
        convention: as in `mean_average_precision`.

    Returns:
        `[Q]` in [0, 1]; fewer only under a convention that leaves queries out.

    Raises:
        ValueError: inputs that disagree or are empty, NaN, an unknown word,
            `top_k` below 1, a convention without ties="stable".
    """
    check_top_k(top_k)
    if ties not in get_args(Ties):
        raise ValueError(
            f"ties: found {ties!r}; accepted are {', '.join(get_args(Ties))}"
        )
    if convention is not None and (ties != "stable" or convention not in CONVENTIONS):
        raise ValueError(
            f"convention: found {convention!r} with ties={ties!r}; accepted with "
            f"ties='stable' are {', '.join(CONVENTIONS)}"
        )
    sets = pack_sets(query_codes, query_labels, database_codes, database_labels)
    if ties == "stable":
        named = CONVENTIONS[convention or "deephash_pytorch"]
        return stable_of_sets(sets, named, top_k=top_k)
    counts = count_sets(sets)
    count, relevant = counts[:, 0], counts[:, 1]
    if ties == "expected":
        return tie_aware.expected_average_precision(count, relevant, top_k=top_k)
    bounds = tie_aware.average_precision_bounds(count, relevant, top_k=top_k)
    return bounds.optimistic if ties == "optimistic" else bounds.pessimistic


def mean_average_precision(
    query_codes: Shaped[ArrayLike, "Q K"],
    query_labels: Shaped[ArrayLike, "..."],
    database_codes: Shaped[ArrayLike, "N _"],
    database_labels: Shaped[ArrayLike, "..."],
    *,
    top_k: int | None = None,
    ties: str = "expected",
    convention: str | None = None,
) -> float:
    """Mean average precision of a ranking by Hamming distance.

    An item is relevant if it shares at least one label with the query. Codes of K
    bits know K + 1 distances, so most items are tied, and `ties` says what is made
    of it:

    - "expected": exact mean over all orders of equal distances, independent of the
      order of the database. Denominator R, the relevant items of the database, or
      min(R, k) with `top_k` = k; a query without any relevant item counts 0.
    - "optimistic", "pessimistic": the best and the worst order, same denominators.
    - "stable": ties in database order, averaged as `CONVENTIONS[convention]` says.
      By default ("deephash_pytorch") the denominator is the number of relevant items
      inside the cut-off, and a query with none counts 0: comparable with most
      published tables.

    Args:
        query_codes: `[Q, K]`, any real but NaN, binarised at 0 (0 is +1), or booleans.
        query_labels: multi-hot `[Q, C]` in {0, 1}, or class numbers `[Q]` >= 0.
        database_codes: `[N, K]`, likewise.
        database_labels: `[N, C]` or `[N]`, of the same kind as `query_labels`.
        top_k: ranks counted, >= 1; None for all. Beyond the database, all.
        ties: "expected", "optimistic", "pessimistic" or "stable".
        convention: a name in `CONVENTIONS`, with ties="stable" only.

    Returns:
        A float in [0, 1]; 0 if a convention leaves every query out.

    Raises:
        ValueError: inputs that disagree or are empty, NaN, an unknown word,
            `top_k` below 1, a convention without ties="stable".
    """
    return _mean(
        average_precision(
            query_codes,
            query_labels,
            database_codes,
            database_labels,
            top_k=top_k,
            ties=ties,
            convention=convention,
        )
    )


def evaluate(
    query_codes: Shaped[ArrayLike, "Q K"],
    query_labels: Shaped[ArrayLike, "..."],
    database_codes: Shaped[ArrayLike, "N _"],
    database_labels: Shaped[ArrayLike, "..."],
    *,
    top_k: int | None = None,
    precision_at: Sequence[int] = (100, 500, 1000),
) -> dict[str, Any]:
    """Every retrieval metric that is reported, ready for JSON.

    Args:
        query_codes: `[Q, K]`, any real but NaN, binarised at 0 (0 is +1), or booleans.
        query_labels: multi-hot `[Q, C]` in {0, 1}, or class numbers `[Q]` >= 0.
        database_codes: `[N, K]`, likewise.
        database_labels: `[N, C]` or `[N]`, of the same kind as `query_labels`.
        top_k: ranks that mAP and NDCG count, >= 1; None for all.
        precision_at: numbers of ranks, >= 1; those beyond the database are left out.

    Returns:
        `map` (expected over ties), `map_stable` (ties in database order, denominator
        of most published tables), `map_optimistic`, `map_pessimistic`; `ndcg`,
        expected over ties, gain = number of shared labels; `map_per_class` {str(class):
        {"map", "optimistic", "pessimistic", "num_query"}} over the queries that show
        it, None where none does (with class numbers only classes of queries appear);
        `precision_at` {str(n): expected precision}; `pr_curve` {"radius", "precision",
        "recall"}, lists over 0..K; `precision_radius2`, precision within Hamming
        radius 2 (K if smaller), 0 for a query that retrieves nothing; `bits`,
        `num_query`, `num_database`. All metrics are in [0, 1].

    Raises:
        ValueError: inputs that disagree or are empty, NaN, `top_k` or an n below 1.
    """
    check_top_k(top_k)
    for n in precision_at:
        check_rank("precision_at", n)
    sets = pack_sets(query_codes, query_labels, database_codes, database_labels)
    size = len(sets.database_code)
    graded = by_grade(count_sets(sets, grades=most_shared(sets)))
    count, relevant = graded.sum(axis=1), graded[:, 1:].sum(axis=1)
    expected = tie_aware.expected_average_precision(count, relevant, top_k=top_k)
    bounds = tie_aware.average_precision_bounds(count, relevant, top_k=top_k)
    stable = stable_of_sets(sets, CONVENTIONS["deephash_pytorch"], top_k=top_k)
    curve = tie_aware.precision_recall_curve(count, relevant)
    return {
        "map": _mean(expected),
        "map_stable": _mean(stable),
        "map_optimistic": _mean(bounds.optimistic),
        "map_pessimistic": _mean(bounds.pessimistic),
        "ndcg": _mean(expected_ndcg(graded, top_k=top_k)),
        "map_per_class": _per_class(expected, bounds, query_labels),
        "precision_at": {
            str(n): _mean(tie_aware.precision_at(count, relevant, n=n))
            for n in precision_at
            if n <= size
        },
        "pr_curve": {name: part.tolist() for name, part in curve._asdict().items()},
        "precision_radius2": _mean(
            tie_aware.precision_within_radius(count, relevant, radius=min(2, sets.bits))
        ),
        "bits": sets.bits,
        "num_query": len(sets.query_code),
        "num_database": size,
    }


def _per_class(
    expected: Float64[np.ndarray, "Q"],
    bounds: tie_aware.APBounds,
    query_labels: ArrayLike,
) -> dict[str, dict[str, float | int | None]]:
    """Mean AP of the queries of each class, and its bounds, ready for JSON."""
    means = [mean_per_class(ap, query_labels) for ap in (expected, *bounds)]
    names = ("map", "optimistic", "pessimistic")
    rows: dict[str, dict[str, float | int | None]] = {}
    for place, number in enumerate(means[0].num_query.tolist()):
        row = {
            name: float(mean.mean[place]) if number else None
            for name, mean in zip(names, means, strict=True)
        }
        rows[str(means[0].classes[place])] = {**row, "num_query": number}
    return rows


def _mean(values: Float64[np.ndarray, "kept"]) -> float:
    """The mean as a Python float, 0 of nothing."""
    return float(values.mean()) if len(values) else 0.0
