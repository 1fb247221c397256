"""SSDH's losses: triplets of labelled codes, and a graph of neighbours of all codes.

"SSDH: Semi-supervised Deep Hashing for Large Scale Image Retrieval" (Zhang and Peng),
https://arxiv.org/abs/1607.08477. Functions take codes as they are given; SSDH's are
sigmoids, `jax.nn.sigmoid(u)`, and its margins are for codes in [0, 1].
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssah_jax.losses.reduce import masked
from ssah_jax.similarity import arguments, squared_distance
from ssah_jax.similarity.sizes import Sizes


def _far(name: str, found: Any, sizes: Sizes) -> tuple[float, float]:
    begin, end = map(float, found)
    if not 0 <= begin <= end <= 1:
        raise ValueError(
            f"{name}: found {(begin, end)}, accepted is 0 <= begin <= end <= 1"
        )
    return begin, end


@arguments.takes(
    u=arguments.codes("B K", bits_too=True),
    v=arguments.codes("M K", bits_too=True),
    neighbours=arguments.whole(0),
    far=_far,
    where=arguments.flags("B M"),
)
def graph_pairs(
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    *,
    neighbours: int = 8,
    far: tuple[float, float] = (120 / 128, 124 / 128),
    where: Bool[Array, "B M"] | None = None,
) -> tuple[Bool[Array, "B M"], Bool[Array, "B M"]]:
    """SSDH's graph of a batch: which columns are near a row, and which are far.

    By squared Euclidean distance of the codes as they are now: a row's `neighbours`
    nearest columns are similar, and dissimilar are those of rank r (from 0) with
    `round(far[0] n) <= r < round(far[1] n)`, where n columns count for the row: none,
    if n is small. Columns as near as each other are ranked in their order; a column
    that is both is similar.

    The presets are those of the authors' code (PKU-ICST-MIPL/SSDH_TCSVT2017) for 12
    bits: in a batch of 128 the 8 nearest, and ranks 120 to 123; for 24 to 48 bits it
    has ranks 114 to 123, `far=(114 / 128, 124 / 128)`. It draws one near and one far
    column for each row; this takes all, and twice `balanced_pair_mean` is then what
    its draw estimates. It leaves the row itself, at distance 0, among the near ones:
    exclude it by `where`, and the other ranks stay what they are.

    Cost: O(B M (K + log M)) time, O(B M) memory.

    Args:
        u: codes `[B, K]`, any real; constants of the gradient.
        v: codes they are compared with, `[M, K]`; likewise.
        neighbours: similar columns of a row, >= 0; all that count, if they are fewer.
        far: where the dissimilar columns begin and end, as shares of those that
            count, with 0 <= begin <= end <= 1.
        where: pairs that count, `[B, M]`; None takes all.

    Returns:
        `similar` and `sure`, both `[B, M]`: which pairs are similar, and which are
        similar or dissimilar; the second is the `where` of a loss of the first. False
        outside `where`.
    """
    u, v = jax.lax.stop_gradient(u), jax.lax.stop_gradient(v)
    where = jnp.ones((len(u), len(v)), bool) if where is None else where
    # Columns that do not count come last, also after those at an infinite distance.
    keys = (~where, squared_distance(u, v), _columns(where))
    order = jax.lax.sort(keys, num_keys=3, dimension=1)[-1]
    rank = jnp.argsort(order, axis=1)
    count = jnp.sum(where, axis=1, keepdims=True).astype(jnp.float32)
    begin, end = (jnp.round(share * count) for share in far)
    similar = where & (rank < neighbours)
    return similar, similar | (where & (rank >= begin) & (rank < end))


@arguments.takes(
    u=arguments.codes("B K", bits_too=True),
    v=arguments.codes("M K", bits_too=True),
    similar=arguments.probability("B M"),
    margin=arguments.number("[0, inf)"),
    where=arguments.flags("B M"),
)
def contrastive_loss(
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    similar: Bool[Array, "B M"] | Float[Array, "B M"],
    *,
    margin: float = 2.5,
    where: Bool[Array, "B M"] | None = None,
) -> Float[Array, "B M"]:
    """SSDH's loss of its graph's pairs: contrastive, on the Euclidean distance.

    `s r^2 + (1 - s) max(0, margin - r)^2` with `r = |u_i - v_j|`, the contrastive loss
    of "Dimensionality Reduction by Learning an Invariant Mapping",
    https://doi.org/10.1109/CVPR.2006.100, as in the authors' code for SSDH
    (https://arxiv.org/abs/1607.08477), which halves it and halves its triplets too.
    The margin is of r, not of its square as in `dsh_loss`. Presets of that code: margin
    2.5 for 12 bits, 3 for 24 to 48, weight 0.1, codes `jax.nn.sigmoid(u)`, pairs of
    `graph_pairs` and, with the same margin and weight, of pseudo-labels.

    At the hinge the gradient is 0. Codes that are equal have no direction to part in:
    for a dissimilar pair at a distance below 1e-6 the subgradient is 0. For the error
    of r^2 see `dsh_loss`.
    Cost: O(B M K) time, O(B M) memory.

    Args:
        u: codes `[B, K]`, any real; SSDH's are in [0, 1].
        v: codes they are compared with, `[M, K]`.
        similar: whether, or how probably, each pair is similar, `[B, M]` in [0, 1].
        margin: distance at which dissimilar pairs are left alone, > 0.
        where: pairs that count, `[B, M]`; None takes all.

    Returns:
        Loss of each pair, `[B, M]`, at least 0; 0 outside `where`.
    """
    similar = similar.astype(jnp.float32)
    square = squared_distance(u, v)
    # The slope of the root is infinite at 0: there it is that of a constant.
    apart = square > 1e-12
    distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)
    hinge = jnp.square(jax.nn.relu(margin - distance))
    return masked(similar * square + (1.0 - similar) * hinge, where)


@arguments.takes(
    u=arguments.codes("B K", bits_too=True),
    v=arguments.codes("M K", bits_too=True),
    similar=arguments.flags("B M"),
    margin=arguments.number("[0, inf)"),
    where=arguments.flags("B M"),
)
def triplet_margin_loss(
    u: Float[Array, "B K"],
    v: Float[Array, "M K"],
    similar: Bool[Array, "B M"],
    *,
    margin: float = 1.0,
    where: Bool[Array, "B M"] | None = None,
) -> Float[Array, "B"]:
    """SSDH's loss of labelled images: a margin in every triplet of an anchor.

    Mean over similar p and dissimilar n of `max(0, margin + d_ip - d_in)` with
    `d_ij = |u_i - v_j|^2`. SSDH (https://arxiv.org/abs/1607.08477), whose preset is
    margin 1 for codes `jax.nn.sigmoid(u)`. The authors' code draws one triplet for
    each anchor, of several labels only one in which p and n share none, and halves the
    mean; this takes all triplets.

    The hinges are summed in closed form: sorted by distance, `d_ip` counts as often as
    there are n nearer than `d_ip + margin`, and `d_in` against it as often as there
    are such p. At the hinge the subgradient is 0. For the error of d see `dsh_loss`.
    Cost: O(B M (K + log M)) time, O(B M) memory.

    Args:
        u: codes of the anchors, `[B, K]`, any real; SSDH's are in [0, 1].
        v: codes they are compared with, `[M, K]`.
        similar: `[B, M]`.
        margin: > 0.
        where: columns that exist for an anchor, `[B, M]`; None takes all.

    Returns:
        Loss of each anchor, `[B]`, at least 0; 0 without a similar and a dissimilar
        column (see `valid_anchors`).
    """
    where = jnp.ones(similar.shape, bool) if where is None else where
    near, away = where & similar, where & ~similar
    distance = squared_distance(u, v)
    # The loss does not change if all distances do: small numbers round less. Columns
    # that do not exist are 0, whatever they are multiplied by.
    least = jnp.min(jnp.where(where, distance, jnp.inf), 1, keepdims=True)
    distance = jnp.where(where, distance - jax.lax.stop_gradient(least), 0.0)
    reach = jnp.where(near, margin + distance, distance)

    # A dissimilar column exactly at the hinge comes after, so that it does not count.
    keys = (jax.lax.stop_gradient(reach), ~near, _columns(where))
    order = jax.lax.sort(keys, num_keys=2, dimension=1)[-1]
    reach, near, away = (
        jnp.take_along_axis(x, order, axis=1) for x in (reach, near, away)
    )
    nearer = jnp.cumsum(away, axis=1, dtype=jnp.int32)
    farther = jnp.sum(near, 1, keepdims=True) - jnp.cumsum(near, 1, dtype=jnp.int32)
    # As floats, divided one after the other: their product may pass 2^31.
    positive, negative = (
        jnp.maximum(jnp.sum(x, 1, keepdims=True, dtype=jnp.float32), 1.0)
        for x in (near, away)
    )
    share = jnp.where(near, nearer, -farther) / positive / negative
    loss = jnp.sum(share * reach, axis=1)
    # Rounding may leave less than nothing; the floor is of the value alone.
    return loss + jax.lax.stop_gradient(jax.nn.relu(loss) - loss)


def _columns(where: Bool[Array, "B M"]) -> Int[Array, "B M"]:
    return jnp.broadcast_to(jnp.arange(where.shape[1], dtype=jnp.int32), where.shape)
