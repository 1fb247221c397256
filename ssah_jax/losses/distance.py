"""Similarity losses on the distance of two codes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ssah_jax.losses.reduce import masked
from ssah_jax.similarity import arguments, cosine, squared_distance


@arguments.takes(
    u=arguments.codes("B K"),
    v=arguments.codes("M K"),
    similar=arguments.probability("B M"),
    margin=arguments.number("[0, inf)"),
    where=arguments.flags("B M"),
)
def dsh_loss(
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    similar: Bool[Array, "B M"] | Float[Array, "B M"],
    *,
    margin: float | None = None,
    where: Bool[Array, "B M"] | None = None,
) -> Float[Array, "B M"]:
    """DSH: contrastive loss of squared Euclidean distances, with a margin.

    `s d / 2 + (1 - s) max(0, margin - d) / 2` with `d = |u_i - v_j|^2`. "Deep
    Supervised Hashing for Fast Image Retrieval",
    https://doi.org/10.1109/CVPR.2016.227, whose margin 2K is the preset: codes of +-1
    that differ in half their bits. It adds `absolute_quantisation`, summed over the
    bits of both codes with weight 0.01 (so K / 50 here); DeepHash-pytorch takes the
    mean with weight 0.1.

    `d` is taken as `|u|^2 + |v|^2 - 2 u . v`, floored at 0, with an absolute error of
    up to `(K + 3) 6e-8 (|u| + |v|)^2`: codes of length 1e4 that are nearer than about
    10 cannot be told apart. The floor is of the value alone: the gradient of d for u is
    2 (u - v) there too. At the hinge (d = margin) the subgradient is 0.
    Cost: O(B M K) time, O(B M) memory.

    Args:
        u: codes `[B, K]`, any real.
        v: codes they are compared with, `[M, K]`.
        similar: whether, or how probably, each pair is similar, `[B, M]` in [0, 1].
        margin: squared distance at which dissimilar pairs are left alone, > 0; None
            is 2K.
        where: pairs that count, `[B, M]`; None takes all. A memory bank's rows that
            hold no code yet must not: DeepHash-pytorch counts them as dissimilar, and
            pushes all codes away from 0.

    Returns:
        Loss of each pair, `[B, M]`, at least 0; 0 outside `where`.
    """
    margin = 2.0 * u.shape[-1] if margin is None else margin
    similar = similar.astype(jnp.float32)
    distance = squared_distance(u, v)
    hinge = jax.nn.relu(margin - distance)
    return masked(0.5 * (similar * distance + (1.0 - similar) * hinge), where)


@arguments.takes(
    u=arguments.codes("B K"),
    v=arguments.codes("M K"),
    similar=arguments.probability("B M"),
    gamma=arguments.number("(0, inf)"),
    limit=arguments.number("(-1, 1)"),
    where=arguments.flags("B M"),
)
def dch_loss(
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    similar: Bool[Array, "B M"] | Float[Array, "B M"],
    *,
    gamma: float = 20.0,
    limit: float = 0.99,
    where: Bool[Array, "B M"] | None = None,
) -> Float[Array, "B M"]:
    """DCH: cross-entropy under a Cauchy distribution of the Hamming distance.

    `s log(d / gamma) + log(1 + gamma / d)` with `d = K/2 (1 - min(cos(u_i, v_j),
    limit))`. It is taken as `s log(1 + d / gamma) + (1 - s) log(1 + gamma / d)`, which
    is the same: the cross-entropy of `gamma / (gamma + d)`, never negative. To be
    weighted by `pair_weights`. "Deep Cauchy Hashing for Hamming Space Retrieval",
    https://doi.org/10.1109/CVPR.2018.00134. Presets: gamma 20 and limit 0.99 of
    DeepHash-pytorch, which adds `dch_quantisation` with weight 0.1; the authors' code
    has no limit: it leaves out the pair of an image with itself.

    At and beyond the limit the gradient is 0, so equal codes, the diagonal of a batch
    among them, cost a constant.
    Cost: O(B M K) time, O(B M) memory.

    Args:
        u: codes `[B, K]`, any real; a zero row is at distance K/2 from all.
        v: codes they are compared with, `[M, K]`.
        similar: whether, or how probably, each pair is similar, `[B, M]` in [0, 1].
        gamma: distance, in bits, at which similar is as likely as not, > 0.
        limit: largest cosine that counts, in (-1, 1); at 1 the loss of equal
            codes that are dissimilar would be infinite.
        where: pairs that count, `[B, M]`; None takes all.

    Returns:
        Loss of each pair, `[B, M]`, positive: with `d_0 = K/2 (1 - limit)`, from
        log(1 + d_0 / gamma) to log(1 + K / gamma) for a similar pair, from
        log(1 + gamma / K) to log(1 + gamma / d_0) for a dissimilar one. 0 outside
        `where`.
    """
    similar = similar.astype(jnp.float32)
    nearness = cosine(u, v)
    # Not jnp.minimum, whose gradient at the limit is a half.
    nearness = jnp.where(nearness < limit, nearness, limit)
    distance = 0.5 * u.shape[-1] * (1.0 - nearness)
    near = jnp.log1p(distance / gamma)
    far = jnp.log1p(gamma / distance)
    return masked(similar * near + (1.0 - similar) * far, where)
