"""Losses of a ranking: one value for each anchor, over all that it is compared with.

An anchor that lacks similar columns (or dissimilar ones, where they matter) has loss
0; `valid_anchors` says which do not, and is the mask for `masked_mean`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ssah_jax.losses.reduce import masked
from ssah_jax.losses.soft_histogram import kind_histograms
from ssah_jax.similarity import arguments, inner_product

_LEAST = 1e-6
"""Least count, in items, whose logarithm is taken."""


@arguments.takes(
    similar=arguments.flags("B M"),
    where=arguments.flags("B M"),
    dissimilar=arguments.truth,
)
def valid_anchors(
    similar: Bool[Array, "B M"],
    *,
    where: Bool[Array, "B M"] | None = None,
    dissimilar: bool = True,
) -> Bool[Array, "B"]:
    """Rows with at least one similar and one dissimilar column, `[B]`.

    Args:
        similar: `[B, M]`.
        where: columns that count, `[B, M]`; None takes all.
        dissimilar: whether a dissimilar column is asked for: True for MIHash and DTSH,
            False for TALR.
    """
    positive, negative = _kinds(similar, where)
    valid = jnp.any(positive, axis=-1)
    return valid & jnp.any(negative, axis=-1) if dissimilar else valid


@arguments.takes(
    u=arguments.codes("B K"),
    v=arguments.codes("M K"),
    similar=arguments.flags("B M"),
    bins=arguments.whole(1),
    where=arguments.flags("B M"),
)
def mihash_loss(
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    similar: Bool[Array, "B M"],
    *,
    bins: int | None = None,
    where: Bool[Array, "B M"] | None = None,
) -> Float[Array, "B"]:
    """MIHash: minus the mutual information of distance and similarity, in nats.

    `-I(d; s) = -sum_{d,s} p(d, s) log(p(d, s) / (p(d) p(s)))` for the distances
    `(K - u_i . v_j) / 2`, counted by `soft_histogram`. 0 if the distance says nothing,
    and minus the entropy of similarity, at least -log 2, if it says all; which pairs
    are the nearer ones it does not ask. "MIHash", https://arxiv.org/abs/1703.08919,
    and "Hashing with Mutual Information", https://arxiv.org/abs/1803.00974. The
    authors' code has log2, and codes `2 sigmoid(a x) - 1 = tanh(a x / 2)` of real
    outputs x, which are the caller's here.

    Counts below 1e-6 are 1e-6 in the logarithms: the gradient at an empty bin, which is
    infinite if the bin has columns of the other kind, is about 14 times a bin's share.
    Derivative at a centre: see `soft_histogram`; +-1 codes have all distances there.
    Cost: O(B M K) time, O(B (M + bins)) memory.

    Args:
        u: codes `[B, K]` in [-1, 1], say of `tanh`.
        v: codes they are compared with, `[M, K]` in [-1, 1]; longer ones have their
            distance clipped to [0, K], with gradient 0.
        similar: `[B, M]`.
        bins: of the histograms, at least 1; None takes K. CISiP-FIRe has 16.
        where: columns that exist for a row, `[B, M]`; None takes all. Leave out the
            anchor itself, which FIRe counts as dissimilar.

    Returns:
        Loss of each anchor, `[B]` in [-log 2, 0]; 0 without either kind.

    Raises:
        ValueError: one line: `bins` is below 1.
    """
    bits = u.shape[-1]
    positive, negative = kind_histograms(
        _distance(u, v),
        similar,
        where,
        bins=bits if bins is None else bins,
        limit=float(bits),
    )
    kinds = _kinds(similar, where)
    counts = [jnp.sum(kind, axis=-1, dtype=jnp.float32) for kind in kinds]
    count = counts[0] + counts[1]

    log_all = _log(positive + negative)
    joint = positive * (_log(positive) - log_all) + negative * (
        _log(negative) - log_all
    )
    prior = sum(n * (_log(n) - _log(count)) for n in counts)
    information = (jnp.sum(joint, axis=-1) - prior) / jnp.maximum(count, 1.0)
    return masked(-information, valid_anchors(similar, where=where))


@arguments.takes(
    u=arguments.codes("B K"),
    v=arguments.codes("M K"),
    similar=arguments.flags("B M"),
    bins=arguments.whole(1),
    where=arguments.flags("B M"),
)
def talr_loss(
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    similar: Bool[Array, "B M"],
    *,
    bins: int | None = None,
    where: Bool[Array, "B M"] | None = None,
) -> Float[Array, "B"]:
    """TALR: one minus a simplified tie-aware average precision.

    `1 - sum_d c+_d (C+_{d-1} + C+_d + 1) / (C_{d-1} + C_d + 1) / sum_d c+_d` with `c+`
    and `c` the soft histograms of similar and of all columns by their distance
    `(K - u_i . v_j) / 2`, and `C+`, `C` their running sums: all items of a bin have the
    precision in its middle. "Hashing as Tie-Aware Learning to Rank",
    https://arxiv.org/abs/1705.08562. The codes are `tanh(g x / 2)` of real outputs x in
    the authors' code (g = 1), which is left to the caller; its pulses may be wider than
    a bin (`delta`), here they are not.

    0 if and only if no dissimilar column reaches the last bin with similar ones or a
    bin before it. The exact value is that of `retrieval.expected_average_precision`.
    Derivative at a centre: see `soft_histogram`; +-1 codes have all distances there.
    Cost: O(B M K) time, O(B (M + bins)) memory.

    Args:
        u: codes `[B, K]` in [-1, 1], say of `tanh`.
        v: codes they are compared with, `[M, K]` in [-1, 1]; longer ones have their
            distance clipped to [0, K], with gradient 0.
        similar: `[B, M]`.
        bins: of the histograms, at least 1; None takes K, and K/2 for K >= 32 as the
            authors do.
        where: columns that exist for a row, `[B, M]`; None takes all. The authors leave
            out the anchor itself.

    Returns:
        Loss of each anchor, `[B]` in [0, 1); 0 without a similar column.

    Raises:
        ValueError: one line: `bins` is below 1.
    """
    bits = u.shape[-1]
    if bins is None:
        bins = bits // 2 if bits >= 32 else bits
    positive, negative = kind_histograms(
        _distance(u, v), similar, where, bins=bins, limit=float(bits)
    )
    every = positive + negative
    # C_{d-1} + C_d is twice the running sum, less what the bin itself adds.
    above = 2.0 * jnp.cumsum(positive, axis=-1) - positive + 1.0
    below = 2.0 * jnp.cumsum(every, axis=-1) - every + 1.0
    relevant = jnp.sum(_kinds(similar, where)[0], axis=-1, dtype=jnp.float32)
    # One minus the precision, so that a perfect ranking has 0 and not a rounding error.
    missed = jnp.sum(positive * ((below - above) / below), axis=-1)
    return missed / jnp.maximum(relevant, 1.0)


@arguments.takes(
    u=arguments.codes("B K"),
    v=arguments.codes("M K"),
    similar=arguments.flags("B M"),
    margin=arguments.number("[0, inf)"),
    scale=arguments.number("[0, inf)"),
    where=arguments.flags("B M"),
)
def dtsh_loss(
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    similar: Bool[Array, "B M"],
    *,
    margin: float = 5.0,
    scale: float = 1.0,
    where: Bool[Array, "B M"] | None = None,
) -> Float[Array, "B"]:
    """DTSH: negative log-likelihood of the anchor's triplets, all of them.

    Mean over similar p and dissimilar n of
    `log(1 + exp(margin - scale (u_i . v_p - u_i . v_n)))`. "Deep Supervised Hashing
    with Triplet Labels", https://arxiv.org/abs/1612.03900: scale 1/2 and margin K/2,
    from 50 x 50 triplets an anchor and class (`dtsh_sampled_loss`), with the weight 100
    on the squared quantiser's sum over bits. DeepHash-pytorch has scale 1, margin 5,
    the preset here, over a batch; it clips the exponent, and counts the anchor as
    similar to itself.

    Cost: O(B P M) time for P similar columns at most to a row (B M^2 at worst), plus
    O(B M K) for the products; O(B M) memory, also of the gradient.

    Args:
        u: codes `[B, K]`, any real.
        v: codes they are compared with, `[M, K]`.
        similar: `[B, M]`.
        margin: by which similar products are to exceed dissimilar ones, >= 0.
        scale: of the products, > 0.
        where: columns that exist for a row, `[B, M]`; None takes all.

    Returns:
        Loss of each anchor, `[B]`, at least 0; 0 without either kind.
    """
    product = scale * inner_product(u, v)
    positive, negative = _kinds(similar, where)
    count = jnp.sum(positive, axis=-1)
    # Similar columns first, each row its own: step r takes every row's r-th one, and
    # there is nothing to do once no row has any left.
    order = jnp.argsort(~positive, axis=-1, stable=True)
    ranked = jnp.take_along_axis(product, order, axis=-1)

    # Made anew for the gradient: kept, the pairs would be [B, M, M].
    @jax.checkpoint
    def of_rank(step: tuple[Array, Array]) -> Float[Array, "B"]:
        rank, own = step

        def against_negatives(own: Array) -> Array:
            loss = jax.nn.softplus(margin - (own[:, None] - product))
            total = jnp.sum(jnp.where(negative, loss, 0.0), axis=-1)
            return jnp.where(rank < count, total, 0.0)

        return jax.lax.cond(
            jnp.any(rank < count), against_negatives, lambda own: 0.0 * own, own
        )

    total = jnp.sum(jax.lax.map(of_rank, (jnp.arange(len(v)), ranked.T)), axis=0)
    pairs = count.astype(jnp.float32) * jnp.sum(negative, axis=-1)
    return total / jnp.maximum(pairs, 1.0)


@arguments.takes(
    key=arguments.key,
    u=arguments.codes("B K"),
    v=arguments.codes("M K"),
    similar=arguments.flags("B M"),
    draws=arguments.whole(1),
    margin=arguments.number("[0, inf)"),
    scale=arguments.number("[0, inf)"),
    where=arguments.flags("B M"),
)
def dtsh_sampled_loss(
    key: Key[Array, ""],
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    similar: Bool[Array, "B M"],
    *,
    draws: int = 50,
    margin: float = 5.0,
    scale: float = 1.0,
    where: Bool[Array, "B M"] | None = None,
) -> Float[Array, "B"]:
    """DTSH from a sample of triplets: an unbiased estimate of `dtsh_loss`.

    "Deep Supervised Hashing with Triplet Labels", https://arxiv.org/abs/1612.03900.
    For each anchor `draws` similar and `draws` dissimilar columns are drawn uniformly
    with replacement, and all `draws^2` pairs of them averaged. The authors' code has
    50 of each for every dissimilar class; a class is not weighted here.

    Cost: O(B (draws^2 + draws log M + M K)) time, O(B (draws^2 + M)) memory.

    Args:
        key: consumed.
        u: codes `[B, K]`, any real.
        v: codes they are compared with, `[M, K]`.
        similar: `[B, M]`.
        draws: of each kind, at least 1.
        margin: as in `dtsh_loss`.
        scale: as in `dtsh_loss`.
        where: columns that exist for a row, `[B, M]`; None takes all.

    Returns:
        Loss of each anchor, `[B]`, at least 0; 0 without either kind.

    Raises:
        ValueError: one line: `draws` is below 1.
    """
    if draws < 1:
        raise ValueError(f"draws: found {draws}, accepted is at least 1")
    product = scale * inner_product(u, v)
    own, other = (
        jnp.take_along_axis(product, _draw(kind_key, kind, draws), axis=-1)
        for kind_key, kind in zip(
            jax.random.split(key), _kinds(similar, where), strict=True
        )
    )
    loss = jax.nn.softplus(margin - (own[:, :, None] - other[:, None, :]))
    return masked(jnp.mean(loss, axis=(1, 2)), valid_anchors(similar, where=where))


def _draw(
    key: Key[Array, ""], kind: Bool[Array, "B M"], draws: int
) -> Int[Array, "B draws"]:
    """Columns of a kind, uniformly with replacement; any column if there is none."""
    seen = jnp.cumsum(kind, axis=-1)
    count = jnp.maximum(seen[:, -1:], 1)
    rank = jax.random.randint(key, (len(kind), draws), 0, count)
    # The r-th of a kind is where the running count first exceeds r.
    column = jax.vmap(lambda seen, rank: jnp.searchsorted(seen, rank, side="right"))(
        seen, rank
    )
    return jnp.minimum(column, kind.shape[-1] - 1)


def _kinds(
    similar: Bool[Array, "B M"], where: Bool[Array, "B M"] | None
) -> tuple[Bool[Array, "B M"], Bool[Array, "B M"]]:
    """Which columns are similar and count, and which are dissimilar and count."""
    if where is None:
        return similar, ~similar
    return similar & where, ~similar & where


def _distance(u: Float[Array, "B K"], v: Float[Array, "M K"]) -> Float[Array, "B M"]:
    """Hamming distance in bits for codes in {-1, +1}, and linear between."""
    return (u.shape[-1] - inner_product(u, v)) / 2.0


def _log(count: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.log(jnp.maximum(count, _LEAST))
