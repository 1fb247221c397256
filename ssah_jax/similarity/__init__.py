"""From labels to which pairs of images are similar, and from a teacher to the same."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer

from ssah_jax.similarity import arguments


@arguments.takes(
    u=arguments.codes("B K", bits_too=True),
    v=arguments.codes("M K", bits_too=True),
    epsilon=arguments.number("[0, inf)"),
)
def cosine(
    u: Float[Array, "B K"], v: Float[Array, "M K"], *, epsilon: float = 1e-6
) -> Float[Array, "B M"]:
    """Cosine of every pair of rows, `[B, M]` in [-1, 1]; 0 where a row is zero.

    Args:
        u: `[B, K]`, any real; reduced in float32.
        v: `[M, K]`.
        epsilon: lower bound of a row's norm; the gradient is finite at a zero row.
    """
    return inner_product(unit_rows(u, epsilon=epsilon), unit_rows(v, epsilon=epsilon))


@arguments.takes(
    u=arguments.codes("B K", bits_too=True), v=arguments.codes("M K", bits_too=True)
)
def inner_product(
    u: Float[Array, "B K"], v: Float[Array, "M K"]
) -> Float[Array, "B M"]:
    """Inner product of every pair of rows, `[B, M]`, in float32.

    Args:
        u: `[B, K]`, any real.
        v: `[M, K]`.
    """
    u, v = u.astype(jnp.float32), v.astype(jnp.float32)
    # At full precision: accelerators would round the operands to 10 bits or fewer.
    return jnp.matmul(u, v.T, precision="highest")


@arguments.takes(
    u=arguments.codes("B K", bits_too=True), v=arguments.codes("M K", bits_too=True)
)
def squared_distance(
    u: Float[Array, "B K"], v: Float[Array, "M K"]
) -> Float[Array, "B M"]:
    """Squared Euclidean distance of every pair of rows, `[B, M]`, at least 0.

    As `|u|^2 + |v|^2 - 2 u . v`, with an absolute error of up to
    `K 1e-7 (|u| + |v|)^2`. The floor at 0 is of the value alone: the gradient is that
    of the distance everywhere.

    Args:
        u: `[B, K]`, any real.
        v: `[M, K]`.
    """
    u, v = u.astype(jnp.float32), v.astype(jnp.float32)
    squares = jnp.sum(u * u, axis=-1)[:, None] + jnp.sum(v * v, axis=-1)[None, :]
    distance = squares - 2.0 * inner_product(u, v)
    return distance + jax.lax.stop_gradient(jax.nn.relu(distance) - distance)


@arguments.takes(
    u=arguments.codes("B K", bits_too=True), epsilon=arguments.number("[0, inf)")
)
def unit_rows(u: Float[Array, "B K"], *, epsilon: float = 1e-6) -> Float[Array, "B K"]:
    """Rows divided by their norm, or by `epsilon` where the norm is smaller."""
    u = u.astype(jnp.float32)
    square = jnp.sum(u * u, axis=-1, keepdims=True)
    return u * jax.lax.rsqrt(jnp.maximum(square, epsilon**2))


@arguments.takes(
    labels=arguments.labels("B C", numbers=True),
    others=arguments.labels("M C", numbers=True),
)
def labels_overlap(
    labels: Float[Array, "B C"] | Integer[Array, "B"],
    others: Float[Array, "M C"] | Integer[Array, "M"],
) -> Bool[Array, "B M"]:
    """True where two images have at least one label in common, `[B, M]`.

    Args:
        labels: multi-hot `[B, C]`, 0 and 1 or booleans, or class numbers `[B]` >= 0.
        others: of the same kind, `[M, C]` or `[M]`.

    Raises:
        ValueError: one line: labels of two kinds, or of none.
    """
    if labels.ndim != others.ndim:
        raise ValueError(
            f"others: found shape {list(others.shape)} beside labels of shape "
            f"{list(labels.shape)}, accepted are two of one kind; jax.nn.one_hot makes "
            "multi-hot labels of class numbers"
        )
    if labels.ndim == 1:
        return labels[:, None] == others[None, :]
    return jnp.matmul(labels, others.T, precision="highest") > 0.5


@arguments.takes(
    first_row=arguments.step, rows=arguments.whole(0), columns=arguments.whole(0)
)
def not_self(first_row: Int[Array, ""], rows: int, columns: int) -> Bool[Array, "B M"]:
    """False where a gathered column is the row itself, `[rows, columns]`.

    Args:
        first_row: global index of this device's first row.
        rows: rows of this device.
        columns: rows of all devices.
    """
    row = first_row + jnp.arange(rows)
    return row[:, None] != jnp.arange(columns)[None, :]


@arguments.takes(
    u=arguments.codes("B K"),
    centres=arguments.codes("C K"),
    scale=arguments.number("[0, inf)"),
    offset=arguments.number("[-1, 1]"),
)
def class_logits(
    u: Float[Array, "B K"],
    centres: Float[Array, "C K"],
    *,
    scale: float,
    offset: float = 0.0,
) -> Float[Array, "B C"]:
    """Logits of the classes of codes: `scale * (cos(u, centre) - offset)`.

    Args:
        u: codes `[B, K]`.
        centres: class centres `[C, K]`.
        scale: inverse temperature, > 0.
        offset: cosine at which an independent label is as likely as not; without
            effect under a softmax.
    """
    return scale * (cosine(u, centres) - offset)


@arguments.takes(logits=arguments.real("B C"), multi_label=arguments.truth)
def class_posterior(
    logits: Float[Array, "B C"], *, multi_label: bool
) -> Float[Array, "B C"]:
    """Probabilities of the classes, `[B, C]` in [0, 1].

    Softmax where an image has one label (rows sum to 1), an independent sigmoid for
    each class where it may have several.
    """
    return jax.nn.sigmoid(logits) if multi_label else jax.nn.softmax(logits, axis=-1)


@arguments.takes(logits=arguments.real("B C"), multi_label=arguments.truth)
def predicted_labels(
    logits: Float[Array, "B C"], *, multi_label: bool
) -> Bool[Array, "B C"]:
    """The labels that logits speak for, `[B, C]`: the largest, or all above even odds.

    Args:
        logits: of the classes, `[B, C]`; of several equal largest the first counts.
        multi_label: whether an image may have several labels.
    """
    if multi_label:
        return logits > 0
    classes = jnp.arange(logits.shape[-1])[None, :]
    return jnp.argmax(logits, axis=-1)[:, None] == classes


@arguments.takes(
    posterior=arguments.probability("B C"),
    prior=arguments.probability("C"),
    predicted=arguments.probability("C"),
    multi_label=arguments.truth,
    epsilon=arguments.number("[0, 0.5]"),
)
def align_posterior(
    posterior: Float[Array, "B C"],
    prior: Float[Array, "C"],
    predicted: Float[Array, "C"],
    *,
    multi_label: bool,
    epsilon: float = 1e-4,
) -> Float[Array, "B C"]:
    """Distribution alignment: undo the teacher's preference for some classes.

    Single label: `p * prior / predicted`, normalised, after "ReMixMatch"
    (https://arxiv.org/abs/1911.09785). Several labels: the odds of each class are
    multiplied by the ratio of the prior's odds to those of the mean prediction,
    which is this project's extension.

    Args:
        posterior: the teacher's probabilities `[B, C]`.
        prior: share of images that carry each class, `[C]`.
        predicted: running mean of `posterior`, `[C]`.
        multi_label: whether classes are independent.
        epsilon: bound away from 0 (and 1) of every probability.

    Returns:
        Aligned probabilities `[B, C]`.
    """
    if multi_label:
        logit = (
            _logit(posterior, epsilon)
            + (_logit(prior, epsilon) - _logit(predicted, epsilon))[None, :]
        )
        return jax.nn.sigmoid(logit)
    ratio = jnp.maximum(prior, epsilon) / jnp.maximum(predicted, epsilon)
    weighted = posterior * ratio[None, :]
    return weighted / jnp.maximum(weighted.sum(-1, keepdims=True), epsilon)


@arguments.takes(
    posterior=arguments.probability("B C"),
    gate=arguments.number("[0.5, 1]"),
    multi_label=arguments.truth,
)
def confident(
    posterior: Float[Array, "B C"], *, gate: float, multi_label: bool
) -> Bool[Array, "B C"]:
    """Which entries of a posterior are sure enough to be learnt from, `[B, C]`.

    Single label: all entries of a row whose largest is at least `gate`. Several
    labels: each entry at least `gate` or at most `1 - gate`, by itself.

    Args:
        posterior: `[B, C]` in [0, 1].
        gate: in [0.5, 1].
        multi_label: whether classes are independent.
    """
    if multi_label:
        return (posterior >= gate) | (posterior <= 1.0 - gate)
    sure = jnp.max(posterior, axis=-1, keepdims=True) >= gate
    return jnp.broadcast_to(sure, posterior.shape)


@arguments.takes(posterior=arguments.probability("B C"), multi_label=arguments.truth)
def certainty(
    posterior: Float[Array, "B C"], *, multi_label: bool
) -> Float[Array, "B"]:
    """How far each row is from knowing nothing: 1 less its entropy over the largest.

    Args:
        posterior: `[B, C]` in [0, 1]; rows sum to 1 unless `multi_label`.
        multi_label: whether classes are independent; their entropies are then averaged.

    Returns:
        `[B]` in [0, 1]; weights of pseudo-labels as in Iscen et al.,
        https://arxiv.org/abs/1904.04717.
    """
    p = jnp.clip(posterior, 1e-7, 1.0)
    entropy = -p * jnp.log(p)
    if multi_label:
        q = jnp.clip(1.0 - posterior, 1e-7, 1.0)
        return 1.0 - jnp.mean(entropy - q * jnp.log(q), axis=-1) / math.log(2.0)
    return 1.0 - jnp.sum(entropy, axis=-1) / math.log(max(2, posterior.shape[-1]))


@arguments.takes(
    posterior=arguments.probability("B C"),
    others=arguments.labels("M C"),
    multi_label=arguments.truth,
)
def pair_probability(
    posterior: Float[Array, "B C"],
    others: Float[Array, "M C"],
    *,
    multi_label: bool,
) -> Float[Array, "B M"]:
    """Probability that two images share a label, given each one's classes, `[B, M]`.

    Single label: `sum_c p_c q_c`. Several: `1 - prod_c (1 - p_c q_c)`. The columns'
    labels are hard, so that both are matrix products and no `[B, M, C]` array arises.

    Args:
        posterior: `[B, C]` in [0, 1].
        others: labels of the columns, `[M, C]` in {0, 1}.
        multi_label: whether an image may have several labels.
    """
    if not multi_label:
        return jnp.clip(posterior @ others.T, 0.0, 1.0)
    # With q in {0, 1}: log(1 - p q) = q log(1 - p).
    log_absent = jnp.log1p(-jnp.clip(posterior, 0.0, 1.0 - 1e-6))
    return 1.0 - jnp.exp(log_absent @ others.T)


def _logit(p: Float[Array, "*B C"], epsilon: float) -> Float[Array, "*B C"]:
    p = jnp.clip(p, epsilon, 1.0 - epsilon)
    return jnp.log(p) - jnp.log1p(-p)
