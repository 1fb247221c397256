"""`ssah search --rerank` and `--measure`: features beside codes, and what they add."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int32, Int64

from ssah_jax.cli.arguments import as_path
from ssah_jax.retrieval.feature_files import KeptFeatures, read_features
from ssah_jax.retrieval.files import CodeFileError, one_line
from ssah_jax.retrieval.index import Index
from ssah_jax.retrieval.reranking import nearest_by_cosine, neighbour_recall, rerank

OVERSAMPLE: Final = (1, 2, 4, 10, 20)
"""Candidates for each image wanted that are measured where nobody says how many."""

QUERIES: Final = 1000
"""Indexed images that are searched for where nobody names others."""


def add_two_stages(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that order what is found by features."""
    parser.add_argument(
        "--rerank",
        metavar="N",
        type=int,
        help="oversample: look at N candidates for each image wanted, and order them "
        "by the cosine of the features that `ssah encode --keep` left",
    )
    parser.add_argument(
        "--features",
        metavar="FILE",
        type=as_path,
        nargs="+",
        help="these features (default: those beside the index, or beside the codes of "
        "--like or --model)",
    )


def check_two_stages(options: argparse.Namespace) -> None:
    """Check the arguments of `add_two_stages`.

    Raises:
        ValueError: a number is out of range, or features are not asked for.
    """
    if options.rerank is not None and options.rerank < 1:
        raise ValueError(f"--rerank: found {options.rerank}, accepted is at least 1")
    measures = getattr(options, "measure", False)
    if options.features and options.rerank is None and not measures:
        raise ValueError("--features: accepted with --rerank (or --measure of search)")


def features_path(codes: str | Path) -> Path:
    """Where the features of codes lie: `codes.features` of `codes.parquet`."""
    return Path(codes).with_suffix(".features")


def check_no_features(codes: str | Path) -> None:
    """Check that no features lie where those of new codes would be looked for.

    Raises:
        ValueError: there are some.
    """
    path = features_path(codes)
    if path.exists():
        raise ValueError(
            f"{one_line(path)}: is there already and would be taken for features of "
            "the new codes; accepted is --keep with --overwrite, or another --out"
        )


def load_features(options: argparse.Namespace, index: Index) -> KeptFeatures:
    """The features of an index's images, in its order.

    They are those that `--features` names, else those beside the index, else those
    beside the codes of `--like` or `--model`.

    Args:
        options: of `ssah search` or `ssah serve`.
        index: that is searched.

    Raises:
        ValueError: there are none, or of another model or other images.
    """
    beside = features_path(options.index)
    codes = options.like or options.model
    paths: Sequence[str | Path] = options.features or [beside]
    if not options.features and not beside.is_file() and codes:
        paths = [features_path(codes)]
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
    codes: Float[np.ndarray, "Q K"],
    k: int,
    oversample: Sequence[int] = OVERSAMPLE,
) -> dict[str, Any]:
    """How much of the float search two stages find.

    Args:
        index: of N codes.
        features: of the same images, in the same order.
        queries: features, `[Q, D]`.
        own: of each query its own row in the index, which does not count; -1 for none.
        codes: of the queries, real-valued.
        k: images wanted.
        oversample: candidates for each of them; 1 for the codes alone.

    Returns:
        Sizes; and under `recall`, by number of candidates, the mean share of the k
        nearest by cosine that are among those found.
    """
    _, wanted = nearest_by_cosine(queries, features, k=k, leave_out=own)
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
