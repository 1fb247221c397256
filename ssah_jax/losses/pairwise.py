"""Similarity losses on pairs of codes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ssah_jax.losses.reduce import masked_mean
from ssah_jax.similarity import cosine


def logistic_pair_loss(
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    similar: Bool[Array, "B M"] | Float[Array, "B M"],
    *,
    alpha: float = 8.0,
) -> Float[Array, "B M"]:
    """Negative log-likelihood of pair similarities under a scaled cosine.

    `log(1 + exp(t)) - s t` with `t = alpha cos(u_i, v_j)`: the pairwise likelihood
    of DPSH ("Feature Learning based Deep Supervised Hashing with Pairwise Labels",
    IJCAI 2016) on the scale-free inner product of DHN's later code. Equal to binary
    cross-entropy, so `similar` may be a probability.

    Args:
        u: codes `[B, K]`, any real.
        v: codes they are compared with, `[M, K]`.
        similar: whether, or how probably, each pair is similar, `[B, M]` in [0, 1].
        alpha: logit of two equal codes, > 0; the same for any K.

    Returns:
        Loss of each pair, `[B, M]`, at least 0.
    """
    logit = alpha * cosine(u, v)
    # log(1 + e^t) as max(t, 0) + log1p(e^-|t|), which never overflows.
    return jax.nn.softplus(logit) - similar * logit


def balanced_pair_mean(
    values: Float[Array, "B M"],
    similar: Bool[Array, "B M"],
    where: Bool[Array, "B M"] | None = None,
    *,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Half the mean over similar pairs plus half the mean over dissimilar ones.

    With C balanced classes only one pair in C is similar; the halves keep the two
    kinds equally important (the class balancing of HashNet,
    https://arxiv.org/abs/1702.00758). A kind without pairs counts 0.

    Args:
        values: of each pair, `[B, M]`.
        similar: `[B, M]`.
        where: pairs that count, `[B, M]`; None takes all.
        axis_name: mapped axis; see `masked_mean`.
    """
    where = jnp.ones(values.shape, bool) if where is None else where
    return 0.5 * (
        masked_mean(values, where & similar, axis_name=axis_name)
        + masked_mean(values, where & ~similar, axis_name=axis_name)
    )
