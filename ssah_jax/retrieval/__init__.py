"""Retrieval with binary codes: packing, ranking metrics, exact under ties.

Needs arrays only: no network, configuration or training state of this package.
"""

from ssah_jax.retrieval.codes import binarise, pack, unpack
from ssah_jax.retrieval.histograms import distance_histograms
from ssah_jax.retrieval.metrics import (
    average_precision,
    evaluate,
    mean_average_precision,
)
from ssah_jax.retrieval.stable import (
    CONVENTIONS,
    Convention,
    stable_average_precision,
)
from ssah_jax.retrieval.tie_aware import (
    APBounds,
    PrecisionRecallCurve,
    average_precision_bounds,
    expected_average_precision,
    precision_at,
    precision_recall_curve,
    precision_within_radius,
    recall_at,
    recall_within_radius,
)

__all__ = [
    "CONVENTIONS",
    "APBounds",
    "Convention",
    "PrecisionRecallCurve",
    "average_precision",
    "average_precision_bounds",
    "binarise",
    "distance_histograms",
    "evaluate",
    "expected_average_precision",
    "mean_average_precision",
    "pack",
    "precision_at",
    "precision_recall_curve",
    "precision_within_radius",
    "recall_at",
    "recall_within_radius",
    "stable_average_precision",
    "unpack",
]
