"""Losses of codes by themselves: near their signs, balanced, independent.

The quantisers are written in |u|, as in their sources: a bit of 0 counts as +1 (as it
does in a code), so that their gradient there is the limit from above, and it moves.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ssah_jax.losses.reduce import masked
from ssah_jax.similarity import arguments, unit_rows


@arguments.takes(u=arguments.codes("B K"), where=arguments.flags("B"))
def absolute_quantisation(
    u: Float[Array, "B K"], *, where: Bool[Array, "B"] | None = None
) -> Float[Array, "B"]:
    """DSH's quantiser: mean over bits of how far each is from +-1.

    `mean_k | |u_k| - 1 |`. "Deep Supervised Hashing for Fast Image Retrieval",
    https://doi.org/10.1109/CVPR.2016.227; weights: see `dsh_loss`.

    The subgradient of a bit is 0 at +-1, and that of a positive one at 0.
    Cost: O(B K) time and memory.

    Args:
        u: codes `[B, K]`, any real.
        where: codes that count, `[B]`; None takes all.

    Returns:
        Loss of each code, `[B]`, at least 0; 0 outside `where`.
    """
    excess = _excess(u)
    # Not jnp.abs, whose gradient at 0 is 1: a bit of +-1 would move.
    return masked(jnp.mean(excess * jnp.sign(excess), axis=-1), where)


@arguments.takes(u=arguments.codes("B K"), where=arguments.flags("B"))
def squared_quantisation(
    u: Float[Array, "B K"], *, where: Bool[Array, "B"] | None = None
) -> Float[Array, "B"]:
    """DPSH's quantiser: mean over bits of the squared distance to their signs.

    `mean_k (u_k - sign u_k)^2`, with signs constant of the gradient and sign 0 = +1.
    "Feature Learning based Deep Supervised Hashing with Pairwise Labels",
    https://arxiv.org/abs/1511.03855; weights: see `dpsh_loss`. DTSH takes it with
    weight 1 in DeepHash-pytorch, and CSQ takes it of `tanh(u)`.

    The gradient at a bit of 0 is that of a positive one.
    Cost: O(B K) time and memory.

    Args:
        u: codes `[B, K]`, any real.
        where: codes that count, `[B]`; None takes all.

    Returns:
        Loss of each code, `[B]`, at least 0; 0 outside `where`.
    """
    return masked(jnp.mean(jnp.square(_excess(u)), axis=-1), where)


@arguments.takes(u=arguments.codes("B K"), where=arguments.flags("B"))
def log_cosh_quantisation(
    u: Float[Array, "B K"], *, where: Bool[Array, "B"] | None = None
) -> Float[Array, "B"]:
    """DHN's quantiser: a smooth form of `absolute_quantisation`.

    `mean_k log cosh(|u_k| - 1)`: squared near +-1, absolute far from it. "Deep Hashing
    Network for Efficient Similarity Retrieval",
    https://doi.org/10.1609/aaai.v30i1.10235, which sums over bits; DeepHash-pytorch
    takes the mean, with weight 0.1.

    The gradient at a bit of 0 is that of a positive one.
    Cost: O(B K) time and memory.

    Args:
        u: codes `[B, K]`, any real; no length overflows.
        where: codes that count, `[B]`; None takes all.

    Returns:
        Loss of each code, `[B]`, at least 0; 0 outside `where`.
    """
    excess = jnp.abs(_excess(u))
    # cosh x = e^|x| (1 + e^-2|x|) / 2; expm1 keeps the digits of a small x.
    log_cosh = excess + jnp.log1p(0.5 * jnp.expm1(-2.0 * excess))
    return masked(jnp.mean(log_cosh, axis=-1), where)


@arguments.takes(u=arguments.codes("B K"), where=arguments.flags("B"))
def cubic_quantisation(
    u: Float[Array, "B K"], *, where: Bool[Array, "B"] | None = None
) -> Float[Array, "B"]:
    """GreedyHash's quantiser: mean over bits of the cubed distance to +-1.

    `mean_k | |u_k| - 1 |^3`. "Greedy Hash", https://papers.nips.cc/paper/7360; weights:
    see `greedyhash_loss`.

    The gradient at a bit of 0 is that of a positive one.
    Cost: O(B K) time and memory.

    Args:
        u: codes `[B, K]`, any real.
        where: codes that count, `[B]`; None takes all.

    Returns:
        Loss of each code, `[B]`, at least 0; 0 outside `where`.
    """
    excess = _excess(u)
    return masked(jnp.mean(jnp.abs(excess) * jnp.square(excess), axis=-1), where)


@arguments.takes(u=arguments.codes("B K"), where=arguments.flags("B"))
def cosine_quantisation(
    u: Float[Array, "B K"], *, where: Bool[Array, "B"] | None = None
) -> Float[Array, "B"]:
    """One minus the cosine between a code and its own signs, `[B]` in [0, 1].

    Scale-free: it asks that all bits of a code be equally sure, not that they be +-1.
    The signs are a constant of the gradient. `1 - |u|_1 / (sqrt(K) |u|_2)`, the
    quantisation error of OrthoHash (https://arxiv.org/abs/2109.14449), whose preset
    weight is 0.

    The gradient at a bit of 0 is that of a positive one.
    Cost: O(B K) time and memory.

    Args:
        u: codes `[B, K]`, any real; a zero row has loss 1.
        where: codes that count, `[B]`; None takes all.

    Returns:
        Loss of each code, `[B]` in [0, 1] up to rounding; 0 outside `where`.
    """
    sign = _signs(u)
    cosine = jnp.mean(unit_rows(u) * sign, axis=-1) * jnp.sqrt(float(u.shape[-1]))
    return masked(1.0 - cosine, where)


@arguments.takes(
    u=arguments.codes("B K"),
    gamma=arguments.number("(0, inf)"),
    limit=arguments.number("(0, 1]"),
    where=arguments.flags("B"),
)
def dch_quantisation(
    u: Float[Array, "B K"],
    *,
    gamma: float = 20.0,
    limit: float = 0.99,
    where: Bool[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """DCH's quantiser: the Cauchy loss of a code and its own signs.

    `log(1 + d / gamma)` with `d = K/2 (1 - min(cos(|u|, 1), limit))`, one value for a
    code: there is no mean over bits. "Deep Cauchy Hashing for Hamming Space Retrieval",
    https://doi.org/10.1109/CVPR.2018.00134; presets and weight: see `dch_loss`.

    At and beyond the limit the gradient is 0; at a bit of 0 it is that of a positive
    one.
    Cost: O(B K) time and memory.

    Args:
        u: codes `[B, K]`, any real; a zero row is at distance K/2.
        gamma: distance, in bits, at which the loss is log 2, > 0.
        limit: largest cosine that counts, in (0, 1].
        where: codes that count, `[B]`; None takes all.

    Returns:
        Loss of each code, `[B]`, from log(1 + K (1 - limit) / (2 gamma)) to
        log(1 + K / (2 gamma)); 0 outside `where`.
    """
    error, least = cosine_quantisation(u), 1.0 - limit
    # Not jnp.maximum, whose gradient at the limit is a half.
    error = jnp.where(error > least, error, least)
    return masked(jnp.log1p(0.5 * u.shape[-1] * error / gamma), where)


@arguments.takes(u=arguments.codes("B K"), where=arguments.flags("B"))
def code_balance(
    u: Float[Array, "B K"], *, where: Bool[Array, "B"] | None = None
) -> Float[Array, "B"]:
    """Squared mean of a code's bits: 0 where as many are +1 as are -1.

    `(mean_k u_k)^2`, of each code by itself. "Deep Balanced Discrete Hashing",
    https://www.sciencedirect.com/science/article/abs/pii/S0925231220306032, in
    DeepHash-pytorch of `clip(u, -1, 1)` with weight 0.1. Unlike the other losses it
    gives the signs of bits a meaning: flipping one bit of all codes changes it.

    Cost: O(B K) time, O(B) memory.

    Args:
        u: codes `[B, K]`, any real.
        where: codes that count, `[B]`; None takes all.

    Returns:
        Loss of each code, `[B]`, at least 0; 0 outside `where`.
    """
    return masked(jnp.square(jnp.mean(u.astype(jnp.float32), axis=-1)), where)


@arguments.takes(u=arguments.codes("B K"), where=arguments.flags("B"))
def bit_balance(
    u: Float[Array, "B K"], *, where: Bool[Array, "B"] | None = None
) -> Float[Array, "K"]:
    """Squared mean of each bit: 0 where it is +1 in as many codes as it is -1.

    `(mean_i u_ik)^2` over the codes that count. One of the two constraints of "Spectral
    Hashing" (NeurIPS 2008), as a penalty in "Learning to Hash with Binary Deep Neural
    Network", https://arxiv.org/abs/1607.05140. There is no preset weight.

    It looks at all codes of the batch: on several devices, gather them first
    (`all_rows`), and divide by the number of devices.
    Cost: O(B K) time and memory.

    Args:
        u: codes `[B, K]`, any real.
        where: codes that count, `[B]`; None takes all.

    Returns:
        Loss of each bit, `[K]`, at least 0; 0 if no code counts.
    """
    u, count = _counted(u, where)
    return jnp.square(jnp.sum(u, axis=0) / count)


@arguments.takes(u=arguments.codes("B K"), where=arguments.flags("B"))
def bit_independence(
    u: Float[Array, "B K"], *, where: Bool[Array, "B"] | None = None
) -> Float[Array, "K K"]:
    """Squared distance of the correlations of bits from the identity.

    The squared entries of `U^T U / n - I`, with U the n codes that count: off the
    diagonal how alike two bits are, on it how far a bit's mean square is from 1. The
    other constraint of "Spectral Hashing" (NeurIPS 2008), as a penalty in "Learning to
    Hash with Binary Deep Neural Network", https://arxiv.org/abs/1607.05140. There is no
    preset weight. n codes of rank less than K cannot reach 0: take n >= K.

    It looks at all codes of the batch: on several devices, gather them first
    (`all_rows`), and divide by the number of devices.
    Cost: O(B K^2) time, O(K^2) memory.

    Args:
        u: codes `[B, K]`, any real.
        where: codes that count, `[B]`; None takes all.

    Returns:
        Loss of each pair of bits, symmetric `[K, K]`, at least 0; 0 if no code counts.
    """
    rows = u.shape[0]
    u, count = _counted(u, where)
    # At full precision: accelerators would round the operands to 10 bits or fewer.
    correlation = jnp.matmul(u.T, u, precision="highest") / count
    some = jnp.asarray(rows > 0) if where is None else jnp.any(where)
    return masked(
        jnp.square(correlation - jnp.eye(u.shape[-1], dtype=jnp.float32)),
        jnp.broadcast_to(some, correlation.shape),
    )


def _signs(u: Float[Array, "B K"]) -> Float[Array, "B K"]:
    return jax.lax.stop_gradient(jnp.where(u >= 0, 1.0, -1.0))


def _excess(u: Float[Array, "B K"]) -> Float[Array, "B K"]:
    """|u| - 1, whose gradient at 0 is 1: that of the constant signs."""
    return u.astype(jnp.float32) * _signs(u) - 1.0


def _counted(
    u: Float[Array, "B K"], where: Bool[Array, "B"] | None
) -> tuple[Float[Array, "B K"], Float[Array, ""]]:
    """The codes in float32, 0 where they do not count, and how many do, at least 1."""
    where = jnp.ones(u.shape[:1], bool) if where is None else where
    count = jnp.maximum(jnp.sum(where, dtype=jnp.float32), 1.0)
    return jnp.where(where[:, None], u.astype(jnp.float32), 0.0), count
