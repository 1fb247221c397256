"""`ssah search --rerank` and `--measure`: features beside codes, and what they add."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float, Int32, Int64

from ssah_jax.retrieval.feature_files import KeptFeatures, read_features
from ssah_jax.retrieval.files import CodeFileError, one_line
from ssah_jax.retrieval.index import Index
from ssah_jax.retrieval.reranking import nearest_by_cosine, neighbour_recall, rerank

# As in ssah_jax.cli.encode.
if TYPE_CHECKING:
    import ssah_jax.run.code_model

OVERSAMPLE: Final = (1, 2, 4, 10, 20)
"""Candidates for each image wanted that are measured where nobody says how many."""

QUERIES: Final = 1000
"""Indexed images that are searched for where nobody names others."""


def features_path(codes: str | Path) -> Path:
    """Where the features of codes lie: `codes.features` of `codes.parquet`."""
    return Path(codes).with_suffix(".features")


def load_features(options: argparse.Namespace, index: Index) -> KeptFeatures:
    """The features of an index's images, in its order.

    Args:
        options: of `ssah search`.
        index: that is searched.

    Raises:
        ValueError: there are none, or of another model or other images.
    """
    paths = options.features
    if not paths:
        paths = [features_path(options.like or options.model)]
    features = read_features(*paths)
    if features.fingerprint != index.fingerprint:
        raise CodeFileError(
            f"{one_line(paths[0])}: found features of model {features.fingerprint}, "
            f"expected {index.fingerprint} as of {index.name}"
        )
    return features.of(index.ids)


def measure(
    index: Index,
    features: KeptFeatures,
    queries: Float[np.ndarray, "Q D"],
    own: Int64[np.ndarray, "Q"],
    *,
    model: "ssah_jax.run.code_model.CodeModel",
    k: int,
    oversample: Sequence[int] = OVERSAMPLE,
) -> dict[str, Any]:
    """How much of the float search two stages find.

    Args:
        index: of N codes.
        features: of the same images, in the same order.
        queries: features, `[Q, D]`.
        own: of each query its own row in the index, which does not count; -1 for none.
        model: that codes are made by.
        k: images wanted.
        oversample: candidates for each of them; 1 for the codes alone.

    Returns:
        Sizes; and under `recall`, by number of candidates, the mean share of the k
        nearest by cosine that are among those found.
    """
    _, wanted = nearest_by_cosine(queries, features, k=k, leave_out=own)
    codes = model.binariser.apply(queries)
    found = {}
    for times in oversample:
        _, rows = index.search(codes, min(times * k, len(features)) + 1)
        candidates = _without(rows, own)[:, : times * k]
        if times > 1:
            _, candidates = rerank(queries, features, candidates, k=k)
        found[times] = float(neighbour_recall(candidates[:, :k], wanted).mean())
    return {
        "k": k,
        "queries": len(queries),
        "images": len(features),
        "bits": index.bits,
        "recall": found,
    }


def distance_of(
    ordered: Int64[np.ndarray, "Q k"],
    found: Int64[np.ndarray, "Q M"],
    distances: Int32[np.ndarray, "Q M"],
) -> Int32[np.ndarray, "Q k"]:
    """Hamming distances of rows in another order than they were found in."""
    at = (ordered[:, :, None] == found[:, None, :]).argmax(axis=2)
    return np.take_along_axis(distances, at, axis=1)


def describe_measure(found: dict[str, Any]) -> str:
    """What `measure` found, as a table."""
    lines = [
        f"recall@{found['k']} of the float search: {found['queries']} queries, "
        f"{found['images']} images, {found['bits']} bits"
    ]
    for times, recall in found["recall"].items():
        how = "codes alone" if times == 1 else f"--rerank {times}"
        lines.append(f"  {how:<14}{recall:.3f}")
    return "\n".join(lines)


def _without(
    rows: Int64[np.ndarray, "Q M"], own: Int64[np.ndarray, "Q"]
) -> Int64[np.ndarray, "Q M"]:
    """Rows without a query's own, in their order; -1 in its place at the end."""
    rows = np.where(rows == own[:, None], -1, rows)
    return np.take_along_axis(rows, np.argsort(rows < 0, axis=1, kind="stable"), axis=1)
