"""Hash losses: pure functions, one equation each, unreduced and with a mask.

`loss(codes, ..., *, where=None)` returns a value for each pair, anchor or image, 0
outside `where`; `masked_mean` (or `balanced_pair_mean`, for pairs) makes a number of
them. State is explicit: centres, a memory bank. docs/losses.md has examples.
"""

from ssah_jax.losses.adversarial import (
    categorical_entropy,
    score_function_loss,
)
from ssah_jax.losses.bank import CodeBank, init_bank, update_bank
from ssah_jax.losses.centres import (
    class_centres,
    follow_class_means,
    init_ties,
    merged_centres,
    minimum_distance,
)
from ssah_jax.losses.consistency import (
    centre_consistency,
    pair_consistency,
    pair_posterior,
    ramp_down,
    ramp_up,
    ssdph_loss,
)
from ssah_jax.losses.cross_view import code_agreement_loss, coding_rate_gap
from ssah_jax.losses.distance import dch_loss, dsh_loss
from ssah_jax.losses.graph import contrastive_loss, graph_pairs, triplet_margin_loss
from ssah_jax.losses.pairwise import (
    balanced_pair_mean,
    dhn_loss,
    dpsh_loss,
    hashnet_beta,
    hashnet_loss,
    logistic_pair_loss,
    pair_weights,
)
from ssah_jax.losses.pointwise import (
    csq_loss,
    dpn_loss,
    greedyhash_loss,
    orthohash_loss,
    straight_through_sign,
)
from ssah_jax.losses.quantisation import (
    absolute_quantisation,
    bit_balance,
    bit_independence,
    code_balance,
    cosine_quantisation,
    cubic_quantisation,
    dch_quantisation,
    log_cosh_quantisation,
    squared_quantisation,
)
from ssah_jax.losses.ranking import (
    dtsh_loss,
    dtsh_sampled_loss,
    mihash_loss,
    talr_loss,
    valid_anchors,
)
from ssah_jax.losses.reduce import all_rows, masked_mean
from ssah_jax.losses.soft_histogram import soft_histogram

__all__ = [
    "CodeBank",
    "absolute_quantisation",
    "all_rows",
    "balanced_pair_mean",
    "bit_balance",
    "bit_independence",
    "categorical_entropy",
    "centre_consistency",
    "class_centres",
    "code_agreement_loss",
    "code_balance",
    "coding_rate_gap",
    "contrastive_loss",
    "cosine_quantisation",
    "csq_loss",
    "cubic_quantisation",
    "dch_loss",
    "dch_quantisation",
    "dhn_loss",
    "dpn_loss",
    "dpsh_loss",
    "dsh_loss",
    "dtsh_loss",
    "dtsh_sampled_loss",
    "follow_class_means",
    "graph_pairs",
    "greedyhash_loss",
    "hashnet_beta",
    "hashnet_loss",
    "init_bank",
    "init_ties",
    "log_cosh_quantisation",
    "logistic_pair_loss",
    "masked_mean",
    "merged_centres",
    "mihash_loss",
    "minimum_distance",
    "orthohash_loss",
    "pair_consistency",
    "pair_posterior",
    "pair_weights",
    "ramp_down",
    "ramp_up",
    "score_function_loss",
    "soft_histogram",
    "squared_quantisation",
    "ssdph_loss",
    "straight_through_sign",
    "talr_loss",
    "triplet_margin_loss",
    "update_bank",
    "valid_anchors",
]
