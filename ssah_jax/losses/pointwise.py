"""Losses that pull each code to the centre of its class."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ssah_jax.similarity import cosine


def class_centres(
    key: Key[Array, ""], *, num_classes: int, bits: int, draws: int = 64
) -> Float[Array, "C K"]:
    """Centres for the classes, `[C, K]` in {-1, +1}.

    Rows of a Hadamard matrix and their negatives where K is a power of two and
    C <= 2K: any two then differ in at least K/2 bits (the centres of CSQ, "Central
    Similarity Quantization", https://arxiv.org/abs/1908.00347). Columns are permuted
    and flipped by the key. Elsewhere one centre after the other: of several random
    candidates the one whose nearest earlier centre is farthest, by Hamming distance.

    Args:
        key: consumed.
        num_classes: C, at least 1.
        bits: K, at least 1.
        draws: random candidates for each centre, where they are needed.
    """
    if bits & (bits - 1) == 0 and num_classes <= 2 * bits:
        order, flip, pick = jax.random.split(key, 3)
        rows = jax.random.permutation(pick, jnp.asarray(_hadamard(bits)))
        # The negatives come last: used only when the rows do not suffice.
        rows = jnp.concatenate([rows, -rows])
        columns = jax.random.permutation(order, bits)
        sign = jax.random.rademacher(flip, (bits,), jnp.float32)
        return rows[:num_classes, columns] * sign[None, :]

    def add(i: Array, centres: Array) -> Array:
        candidates = jax.random.rademacher(
            jax.random.fold_in(key, i), (draws, bits), jnp.float32
        )
        # Rows from i on are not yet centres; -bits is the smallest inner product.
        alike = jnp.where(jnp.arange(num_classes) < i, candidates @ centres.T, -bits)
        return centres.at[i].set(candidates[jnp.argmin(jnp.max(alike, axis=-1))])

    empty = jnp.zeros((num_classes, bits), jnp.float32)
    return jax.lax.fori_loop(0, num_classes, add, empty)


def centre_margin_loss(
    u: Float[Array, "B K"],
    labels: Float[Array, "B C"],
    centres: Float[Array, "C K"],
    *,
    scale: float = 10.0,
    margin: float = 0.2,
) -> Float[Array, "B"]:
    """Cross-entropy of a cosine softmax over class centres, with a margin.

    `-sum_c t_c log softmax_c(scale (cos(u, centre_c) - margin y_c))` with `t` the
    labels divided by their number, after OrthoHash ("One Loss for All",
    https://arxiv.org/abs/2109.14449), which has scale 8 and margin 0.2.

    Args:
        u: codes `[B, K]`, any real.
        labels: multi-hot `[B, C]` in {0, 1}; a row without labels has loss 0.
        centres: `[C, K]` in {-1, +1}.
        scale: inverse temperature, > 0.
        margin: subtracted from the cosine to each true centre, >= 0.

    Returns:
        Loss of each image, `[B]`.
    """
    logits = scale * (cosine(u, centres) - margin * labels)
    count = jnp.sum(labels, axis=-1, keepdims=True)
    target = labels / jnp.maximum(count, 1.0)
    return -jnp.sum(target * jax.nn.log_softmax(logits, axis=-1), axis=-1)


def _hadamard(order: int) -> np.ndarray:
    matrix = np.ones((1, 1), np.float32)
    while matrix.shape[0] < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]]).astype(np.float32)
    return matrix
