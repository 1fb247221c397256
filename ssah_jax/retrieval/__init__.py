"""Retrieval with binary codes: packing, ranking metrics exact under ties, indices.

Needs no network, configuration or training state of this package. All but `code_files`,
`feature_files`, `index`, and `Binariser.save` and `load`, which read and write files,
takes arrays and nothing else.
"""

from ssah_jax.retrieval.binarisers import Binariser
from ssah_jax.retrieval.code_files import CodeSet, read_codes
from ssah_jax.retrieval.code_writer import CodeWriter
from ssah_jax.retrieval.codes import binarise, pack, unpack
from ssah_jax.retrieval.feature_files import KeptFeatures, read_features
from ssah_jax.retrieval.files import CodeFileError, shard_path
from ssah_jax.retrieval.graded import ClassMeans, expected_ndcg, mean_per_class
from ssah_jax.retrieval.histograms import distance_histograms, graded_histograms
from ssah_jax.retrieval.index import Index, build_index, load_index
from ssah_jax.retrieval.metrics import (
    average_precision,
    evaluate,
    mean_average_precision,
)
from ssah_jax.retrieval.reranking import (
    nearest_by_cosine,
    neighbour_recall,
    rerank,
)
from ssah_jax.retrieval.sharded import database_mesh
from ssah_jax.retrieval.stable import (
    CONVENTIONS,
    Convention,
    stable_average_precision,
)
from ssah_jax.retrieval.statistics import code_statistics
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
    "Binariser",
    "ClassMeans",
    "CodeFileError",
    "CodeSet",
    "CodeWriter",
    "Convention",
    "Index",
    "KeptFeatures",
    "PrecisionRecallCurve",
    "average_precision",
    "average_precision_bounds",
    "binarise",
    "build_index",
    "code_statistics",
    "database_mesh",
    "distance_histograms",
    "evaluate",
    "expected_average_precision",
    "expected_ndcg",
    "graded_histograms",
    "load_index",
    "mean_average_precision",
    "mean_per_class",
    "nearest_by_cosine",
    "neighbour_recall",
    "pack",
    "precision_at",
    "precision_recall_curve",
    "precision_within_radius",
    "read_codes",
    "read_features",
    "recall_at",
    "recall_within_radius",
    "rerank",
    "shard_path",
    "stable_average_precision",
    "unpack",
]
