"""Hash losses: pure functions, one equation each, unreduced and with a mask.

`masked_mean` (or `balanced_pair_mean`, for pairs) makes a number of the values.
"""

from ssah_jax.losses.adversarial import (
    entropy_floor,
    normalised_entropy,
    score_function_loss,
    threshold_pursuit,
)
from ssah_jax.losses.consistency import centre_consistency, pair_consistency
from ssah_jax.losses.pairwise import balanced_pair_mean, logistic_pair_loss
from ssah_jax.losses.pointwise import centre_margin_loss, class_centres
from ssah_jax.losses.quantisation import cosine_quantisation
from ssah_jax.losses.reduce import masked_mean

__all__ = [
    "balanced_pair_mean",
    "centre_consistency",
    "centre_margin_loss",
    "class_centres",
    "cosine_quantisation",
    "entropy_floor",
    "logistic_pair_loss",
    "masked_mean",
    "normalised_entropy",
    "pair_consistency",
    "score_function_loss",
    "threshold_pursuit",
]
