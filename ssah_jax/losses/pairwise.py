"""Similarity losses on pairs of codes: likelihoods of an inner product or a cosine.

Those of a distance are in `distance`. What weighs and averages pairs is here.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssah_jax.losses.reduce import all_sum, masked, masked_mean
from ssah_jax.similarity import arguments, cosine, inner_product


@arguments.takes(
    u=arguments.codes("B K"),
    v=arguments.codes("M K"),
    similar=arguments.probability("B M"),
    alpha=arguments.number("[0, inf)"),
    where=arguments.flags("B M"),
)
def logistic_pair_loss(
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    similar: Bool[Array, "B M"] | Float[Array, "B M"],
    *,
    alpha: float = 8.0,
    where: Bool[Array, "B M"] | None = None,
) -> Float[Array, "B M"]:
    """Negative log-likelihood of pair similarities under a scaled cosine.

    `log(1 + exp(t)) - s t` with `t = alpha cos(u_i, v_j)`: the pairwise likelihood
    of DPSH (https://arxiv.org/abs/1511.03855) on the scale-free inner product of DHN's
    later code. Equal to binary cross-entropy, so `similar` may be a probability.
    The preset alpha 8 is this project's; thuml/HashGAN has 10 for CIFAR-10.

    Cost: O(B M K) time, O(B M) memory.

    Args:
        u: codes `[B, K]`, any real.
        v: codes they are compared with, `[M, K]`.
        similar: whether, or how probably, each pair is similar, `[B, M]` in [0, 1].
        alpha: logit of two equal codes, > 0; the same for any K.
        where: pairs that count, `[B, M]`; None takes all.

    Returns:
        Loss of each pair, `[B, M]`, at least 0; 0 outside `where`.
    """
    logit = alpha * cosine(u, v)
    # log(1 + e^t) as max(t, 0) + log1p(e^-|t|), which never overflows.
    return masked(jax.nn.softplus(logit) - similar * logit, where)


@arguments.takes(
    u=arguments.codes("B K"),
    v=arguments.codes("M K"),
    similar=arguments.probability("B M"),
    where=arguments.flags("B M"),
)
def dpsh_loss(
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    similar: Bool[Array, "B M"] | Float[Array, "B M"],
    *,
    where: Bool[Array, "B M"] | None = None,
) -> Float[Array, "B M"]:
    """DPSH: negative log-likelihood of pair similarities under half an inner product.

    `log(1 + exp(t)) - s t` with `t = u_i . v_j / 2`. "Feature Learning based Deep
    Supervised Hashing with Pairwise Labels", https://arxiv.org/abs/1511.03855. It
    adds `squared_quantisation`: weight 0.1 in DeepHash-pytorch; the authors' code
    sums over bits with weight 10 / N, N training images, which is 10 K / N here. Both
    compare a batch with the codes of all training images.

    Cost: O(B M K) time, O(B M) memory.

    Args:
        u: codes `[B, K]`, any real.
        v: codes they are compared with, `[M, K]`.
        similar: whether, or how probably, each pair is similar, `[B, M]` in [0, 1].
        where: pairs that count, `[B, M]`; None takes all. A memory bank's rows that
            hold no code yet must not: DeepHash-pytorch counts them as dissimilar.

    Returns:
        Loss of each pair, `[B, M]`, at least 0; 0 outside `where`.
    """
    return masked(_cross_entropy(0.5 * inner_product(u, v), similar), where)


@arguments.takes(
    u=arguments.codes("B K"),
    v=arguments.codes("M K"),
    similar=arguments.probability("B M"),
    alpha=arguments.number("[0, inf)"),
    limit=arguments.number("(0, inf)"),
    where=arguments.flags("B M"),
)
def dhn_loss(
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    similar: Bool[Array, "B M"] | Float[Array, "B M"],
    *,
    alpha: float = 0.5,
    limit: float | None = None,
    where: Bool[Array, "B M"] | None = None,
) -> Float[Array, "B M"]:
    """DHN: the same likelihood under a scaled and, if wished, clipped inner product.

    `log(1 + exp(t)) - s t` with `t = alpha clip(u_i . v_j, -limit, limit)`. "Deep
    Hashing Network for Efficient Similarity Retrieval",
    https://doi.org/10.1609/aaai.v30i1.10235. Presets: the paper has alpha 1 and no
    limit; DeepHash-pytorch alpha 0.5 and no limit, which is the default (so it is
    `dpsh_loss`) with `log_cosh_quantisation` at weight 0.1; the authors' later code
    (thulab/DeepHash) alpha 0.5, limit 15, each similar pair weighted by `|S| / |S1|`,
    and `squared_quantisation`. Its other form, on a cosine, is `logistic_pair_loss`.

    A limit takes the gradient from every pair at or beyond it, also from one that is
    badly wrong; softplus needs none.
    Cost: O(B M K) time, O(B M) memory.

    Args:
        u: codes `[B, K]`, any real.
        v: codes they are compared with, `[M, K]`.
        similar: whether, or how probably, each pair is similar, `[B, M]` in [0, 1].
        alpha: scale of the inner product, > 0.
        limit: bound of the inner product before the scale, > 0; None sets none.
        where: pairs that count, `[B, M]`; None takes all.

    Returns:
        Loss of each pair, `[B, M]`, at least 0; 0 outside `where`.
    """
    inner = inner_product(u, v)
    if limit is not None:
        bound = jnp.asarray(limit, jnp.float32)
        inner = jax.lax.clamp(-bound, inner, bound)
    return masked(_cross_entropy(alpha * inner, similar), where)


@arguments.takes(
    u=arguments.codes("B K"),
    v=arguments.codes("M K"),
    similar=arguments.probability("B M"),
    alpha=arguments.number("[0, inf)"),
    where=arguments.flags("B M"),
)
def hashnet_loss(
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    similar: Bool[Array, "B M"] | Float[Array, "B M"],
    *,
    alpha: float | None = None,
    where: Bool[Array, "B M"] | None = None,
) -> Float[Array, "B M"]:
    """HashNet: the same likelihood of codes `tanh(beta z)`, where beta grows.

    `log(1 + exp(t)) - s t` with `t = alpha u_i . v_j`, for the caller's
    `u = tanh(beta z)` with beta of `hashnet_beta`, and to be weighted by
    `pair_weights`. "HashNet: Deep Learning to Hash by Continuation",
    https://arxiv.org/abs/1702.00758. Presets: alpha is 10 / K in the authors' code and
    here, 0.1 in DeepHash-pytorch. The authors' code replaces the loss by its asymptote
    where the inner product passes 15, so as not to overflow; softplus does not.

    Cost: O(B M K) time, O(B M) memory.

    Args:
        u: codes `[B, K]`, in [-1, 1] (any real is accepted).
        v: codes they are compared with, `[M, K]`, likewise.
        similar: whether, or how probably, each pair is similar, `[B, M]` in [0, 1].
        alpha: scale of the inner product, > 0; None is 10 / K.
        where: pairs that count, `[B, M]`; None takes all.

    Returns:
        Loss of each pair, `[B, M]`, at least 0; 0 outside `where`.
    """
    alpha = 10.0 / u.shape[-1] if alpha is None else alpha
    return masked(_cross_entropy(alpha * inner_product(u, v), similar), where)


@arguments.takes(
    step=arguments.step, rate=arguments.number("[0, inf)"), every=arguments.whole(1)
)
def hashnet_beta(
    step: Int[Array, ""] | int, *, rate: float = 0.005, every: int = 200
) -> Float[Array, ""]:
    """HashNet's continuation: the beta of `tanh(beta z)` at a step.

    `sqrt(1 + rate t)` with `t` the last multiple of `every` up to `step`: the presets
    are those of the authors' code (https://github.com/thuml/HashNet). DeepHash-pytorch
    has `sqrt(1 + floor(epoch / 20))`, which is `every = 20 * steps_per_epoch` with
    `rate = 1 / every`. A function of the step, so that nothing is lost on a restart.

    Args:
        step: completed steps, >= 0; may be traced.
        rate: growth of beta squared a step, >= 0.
        every: steps between two changes, >= 1.

    Returns:
        beta, at least 1.
    """
    since = jnp.asarray(step) // every * every
    return jnp.sqrt(1.0 + rate * since.astype(jnp.float32))


@arguments.takes(
    similar=arguments.flags("B M"),
    positive=arguments.number("(0, inf)"),
    where=arguments.flags("B M"),
)
def pair_weights(
    similar: Bool[Array, "B M"],
    *,
    positive: float | None = None,
    where: Bool[Array, "B M"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, "B M"]:
    """Weights that balance similar and dissimilar pairs, as HashNet and DCH do.

    `|S| / |S1|` for a similar pair and `|S| / |S0|` for a dissimilar one, with `|S|`
    pairs in all: `masked_mean(weights * values, where)` is then the mean over similar
    pairs plus the mean over dissimilar ones, twice `balanced_pair_mean`. "HashNet",
    https://arxiv.org/abs/1702.00758. With `positive = c` the authors' code instead:
    that mean is `(c sum+ + sum-) / (c |S1| + |S0|)`, with c = 10 for the ten classes
    of CIFAR-10. A kind without pairs weighs nothing.

    Cost: O(B M) time and memory.

    Args:
        similar: `[B, M]`.
        positive: weight of a similar pair relative to a dissimilar one, > 0; None
            gives both kinds the same sum.
        where: pairs that count, `[B, M]`; None takes all.
        axis_name: mapped axis; the numbers of pairs are then those of all devices.

    Returns:
        Weights `[B, M]`, at least 0; their mean is 2 if both kinds have pairs and
        `positive` is None, else 1. 0 outside `where`.
    """
    where = jnp.ones(similar.shape, bool) if where is None else where
    # Integers: float32 counts no further than 2^24 pairs.
    count = jnp.stack([jnp.sum(where & ~similar), jnp.sum(where & similar)])
    count = all_sum(count, axis_name).astype(jnp.float32)
    if positive is None:
        weight = jnp.sum(count) / jnp.maximum(count, 1.0)
    else:
        relative = jnp.asarray([1.0, positive], jnp.float32)
        total = jnp.sum(relative * count)
        weight = relative * (jnp.sum(count) / jnp.where(total > 0, total, 1.0))
    return masked(jnp.where(similar, weight[1], weight[0]), where)


@arguments.takes(
    values=arguments.real("B M"),
    similar=arguments.flags("B M"),
    where=arguments.flags("B M"),
)
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


def _cross_entropy(
    logit: Float[Array, "B M"],
    similar: Bool[Array, "B M"] | Float[Array, "B M"],
) -> Float[Array, "B M"]:
    return jax.nn.softplus(logit) - similar.astype(jnp.float32) * logit
