"""Codes without labels: two views of an image agree, and codes spread over the cube.

After "Cross-View Code Alignment" (CroVCA), https://arxiv.org/abs/2510.27584: a binary
cross-entropy between the codes of two views, and a coding rate that keeps all images
from one code. Only its abstract could be read; the forms below are this project's own.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ssah_jax.losses.reduce import masked
from ssah_jax.similarity import arguments, unit_rows


@arguments.takes(
    u=arguments.codes("B K"),
    other=arguments.codes("B K"),
    scale=arguments.number("[0, inf)"),
    where=arguments.flags("B"),
)
def code_agreement_loss(
    u: Float[Array, "B K"],
    other: Float[Array, "B K"],
    *,
    scale: float = 4.0,
    where: Bool[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """Cross-entropy of a code's bits to the bits of another view of the same image.

    `mean_k log(1 + exp(-scale sign(o_k) u_k))` of codes with `|u|^2 = K`: the
    probability that bit k is +1 is the sigmoid of `scale u_k`. The other view's bits
    are constants of the gradient; to move both, add the loss with both exchanged.
    Alone it is smallest where all images have one code; see `coding_rate_gap`. Weight 1
    in the preset `unsupervised`. After https://arxiv.org/abs/2510.27584.

    Cost: O(B K) time and memory.

    Args:
        u: codes `[B, K]`, any real; only their directions count.
        other: codes o of the other view of each image, `[B, K]`; the bit of 0 is +1.
        scale: of the logits, > 0.
        where: images that count, `[B]`; None takes all.

    Returns:
        Loss of each image, `[B]`, at least 0; log 2 of a zero row, 0 outside `where`.
    """
    bits = jax.lax.stop_gradient(jnp.where(other >= 0, 1.0, -1.0))
    logits = scale * math.sqrt(u.shape[-1]) * unit_rows(u)
    return masked(jnp.mean(jax.nn.softplus(-bits * logits), axis=-1), where)


@arguments.takes(
    u=arguments.codes("B K"),
    distortion=arguments.number("(0, inf)"),
    where=arguments.flags("B"),
)
def coding_rate_gap(
    u: Float[Array, "B K"],
    *,
    distortion: float = 0.5,
    where: Bool[Array, "B"] | None = None,
) -> Float[Array, "K"]:
    """What each bit's part of the codes' coding rate lacks of the largest mean part.

    The rate of n codes on the unit sphere is `log det(I + K / (n d^2) U^T U) / 2`, in
    nats, at distortion d: "Learning Diverse and Discriminative Representations via the
    Principle of Maximal Coding Rate Reduction", https://arxiv.org/abs/2006.08558. It
    is largest, `K log(1 + 1 / d^2) / 2`, where the second moments of the bits are those
    of independent, balanced ones. Bit k's part is what it adds to the bits before it,
    the logarithm of a diagonal entry of the Cholesky factor. Its weight beside the
    agreement is `loss.coding_rate`.

    Cost: O(B K^2 + K^3) time, O(B K + K^2) memory.

    Args:
        u: codes `[B, K]` of the whole batch, any real; only their directions count.
        distortion: d, > 0.
        where: codes that count, `[B]`; None takes all.

    Returns:
        `[K]`, whose mean is at least 0 and 0 for an ideal batch; a single one may be
        negative. All 0 where no code counts.
    """
    bits = u.shape[-1]
    counted = jnp.ones(len(u), bool) if where is None else where
    rows = jnp.where(counted[:, None], unit_rows(u), 0.0)
    number = jnp.sum(counted, dtype=jnp.float32)
    moments = jnp.matmul(rows.T, rows, precision="highest") / jnp.maximum(number, 1.0)
    factor = jnp.linalg.cholesky(jnp.eye(bits) + bits / distortion**2 * moments)
    most = 0.5 * math.log1p(1.0 / distortion**2)
    return masked(
        most - jnp.log(jnp.diagonal(factor)), jnp.full((bits,), True) & (number > 0)
    )
