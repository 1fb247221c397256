"""Two stages: candidates by Hamming distance, their order by the cosine of features.

A code says which images may be near; the features that it was made of say which are.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64, Shaped

from ssah_jax.similarity import checks

CHUNK = 8192
"""Rows of features in memory at once, of those that lie on disk."""


def rerank(
    queries: Float[np.ndarray, "Q D"],
    features: Any,
    candidates: Int64[np.ndarray, "Q M"],
    *,
    k: int,
) -> tuple[Float32[np.ndarray, "Q k"], Int64[np.ndarray, "Q k"]]:
    """The nearest by cosine of each query's candidates.

    Args:
        queries: features of the queries, any real, `[Q, D]`.
        features: of the images, `[N, D]`, float or int8 of any length: an array, a
            memory map, or `KeptFeatures`; only rows of candidates are read.
        candidates: rows of `features`, `[Q, M]`; -1 for none.
        k: images wanted, >= 1; above M it counts as M.

    Returns:
        similarity: cosines, `[Q, min(k, M)]`, descending; -inf where there is none.
        rows: indices into `features`, likewise, ascending among equals; -1 for none.

    Raises:
        ValueError: shapes do not fit, k is below 1, a candidate is no row, or a number
            is NaN.
    """
    queries = _units("queries", queries)
    _check_features(queries, features)
    checks.check_whole("k", k, 1)
    candidates = np.asarray(candidates)
    if candidates.ndim != 2 or len(candidates) != len(queries):
        raise ValueError(
            f"candidates: found shape {candidates.shape}, accepted is "
            f"[{len(queries)}, M], as queries"
        )
    if candidates.size and not -1 <= candidates.min() <= candidates.max() < len(
        features
    ):
        raise ValueError(
            f"candidates: found {candidates.min()} to {candidates.max()}, accepted are "
            f"rows 0 to {len(features) - 1}, and -1"
        )
    similarity = np.full(candidates.shape, -np.inf, np.float32)
    for row, (query, some) in enumerate(zip(queries, candidates, strict=True)):
        there = np.flatnonzero(some >= 0)
        # In order of the disk's.
        there = there[np.argsort(some[there])]
        found = _units("features", features[some[there]])
        similarity[row, there] = found @ query
    return _best(similarity, candidates.astype(np.int64), k)


def nearest_by_cosine(
    queries: Float[np.ndarray, "Q D"],
    features: Any,
    *,
    k: int,
    leave_out: Int64[np.ndarray, "Q"] | None = None,
) -> tuple[Float32[np.ndarray, "Q k"], Int64[np.ndarray, "Q k"]]:
    """The nearest by cosine of all images: what codes are measured against.

    Args:
        queries: features of the queries, any real, `[Q, D]`.
        features: as of `rerank`; read once, `CHUNK` rows at a time.
        k: images wanted, >= 1; above N it counts as N.
        leave_out: a row for each query that does not count, such as itself, `[Q]`.

    Returns:
        As `rerank`; of equals at the cut, any.

    Raises:
        ValueError: shapes do not fit, k is below 1, or a number is NaN.
    """
    queries = _units("queries", queries)
    _check_features(queries, features)
    checks.check_whole("k", k, 1)
    k = min(k, len(features))
    best = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    for start in range(0, len(features), CHUNK):
        found = queries @ _units("features", features[start : start + CHUNK]).T
        if leave_out is not None:
            own = leave_out - start
            here = np.flatnonzero((own >= 0) & (own < found.shape[1]))
            found[here, own[here]] = -np.inf
        near = np.argpartition(-found, min(k, found.shape[1]) - 1, axis=1)[:, :k]
        best, rows = _best(
            np.concatenate([best, np.take_along_axis(found, near, axis=1)], axis=1),
            np.concatenate([rows, start + near], axis=1),
            k,
        )
    return best, np.where(best > -np.inf, rows, -1)


def neighbour_recall(
    found: Int64[np.ndarray, "Q M"], wanted: Int64[np.ndarray, "Q k"]
) -> Float32[np.ndarray, "Q"]:
    """The share of wanted rows that were found, of each query.

    Args:
        found: rows, `[Q, M]`, in any order; -1 for none.
        wanted: rows, `[Q, k]`, such as of `nearest_by_cosine`; -1 for none.

    Returns:
        Shares in [0, 1], `[Q]`; 1 where nothing was wanted.

    Raises:
        ValueError: they are not of equally many queries.
    """
    found, wanted = np.asarray(found), np.asarray(wanted)
    if found.ndim != 2 or wanted.ndim != 2 or len(found) != len(wanted):
        raise ValueError(
            f"found: found shape {found.shape}, accepted is [Q, M] with Q as of wanted "
            f"{wanted.shape}"
        )
    there = wanted >= 0
    hit = (wanted[:, :, None] == found[:, None, :]).any(axis=2) & there
    count = there.sum(axis=1)
    return np.where(count, hit.sum(axis=1) / np.maximum(count, 1), 1).astype(np.float32)


def _best(
    similarity: Float32[np.ndarray, "Q M"], rows: Int64[np.ndarray, "Q M"], k: int
) -> tuple[Float32[np.ndarray, "Q k"], Int64[np.ndarray, "Q k"]]:
    order = np.lexsort((rows, -similarity))[:, :k]
    return (
        np.take_along_axis(similarity, order, axis=1),
        np.take_along_axis(rows, order, axis=1),
    )


def _units(name: str, rows: Shaped[np.ndarray, "n D"]) -> Float32[np.ndarray, "n D"]:
    x = np.asarray(rows, np.float32)
    if x.ndim != 2:
        raise ValueError(f"{name}: found shape {x.shape}, accepted is [rows, D]")
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if not np.isfinite(length).all():
        raise ValueError(
            f"{name}: found a value that is no finite number, accepted are real ones"
        )
    return x / np.maximum(length, np.finfo(np.float32).tiny)


def _check_features(queries: Float32[np.ndarray, "Q D"], features: Any) -> None:
    if len(features.shape) != 2 or features.shape[1] != queries.shape[1]:
        raise ValueError(
            f"features: found shape {features.shape}, accepted is "
            f"[N, {queries.shape[1]}], as wide as queries"
        )
