"""Losses of each code by itself, against a centre or a classifier of its labels.

Labels are multi-hot, several to an image or one; an image without any has loss 0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ssah_jax.losses.centres import merged_centres
from ssah_jax.losses.reduce import masked
from ssah_jax.similarity import arguments, cosine


@arguments.takes(
    u=arguments.codes("B K"),
    centres=arguments.codes("C K"),
    labels=arguments.labels("B C"),
    scale=arguments.number("[0, inf)"),
    margin=arguments.number("[0, inf)"),
    where=arguments.flags("B"),
)
def orthohash_loss(
    u: Float[Array, "B K"],
    labels: Float[Array, "B C"],
    centres: Float[Array, "C K"],
    *,
    scale: float = 8.0,
    margin: float = 0.2,
    where: Bool[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """OrthoHash: cross-entropy of a cosine softmax over class centres, with a margin.

    `-sum_c t_c log softmax_c(scale (cos(u, centre_c) - margin y_c))` with `t` the
    labels divided by their number, so that each of several labels has its margin.
    "One Loss for All", https://arxiv.org/abs/2109.14449, whose scale 8 and margin 0.2
    are the presets; the authors' code has margin 0.3 on CIFAR-10. Its codes leave the
    hash layer through batch normalisation, which belongs to the network, not here.

    Cost: O(B C K) time, O(B C) memory.

    Args:
        u: codes `[B, K]`, any real; a zero row is as far from all centres.
        labels: multi-hot `[B, C]` or class numbers `[B]`; a row without any has loss 0.
        centres: `[C, K]` in {-1, +1}, as of `class_centres`.
        scale: inverse temperature, > 0.
        margin: subtracted from the cosine to each true centre, >= 0.
        where: images that count, `[B]`; None takes all.

    Returns:
        Loss of each image, `[B]`, at least 0; 0 outside `where`.
    """
    labels = labels.astype(jnp.float32)
    logits = scale * (cosine(u, centres) - margin * labels)
    return masked(_soft_cross_entropy(logits, labels), where)


@arguments.takes(u=arguments.codes("B K"))
def straight_through_sign(u: Float[Array, "B K"]) -> Float[Array, "B K"]:
    """The code of a real output, `[B, K]` in {-1, +1}, with the gradient of `u`.

    +1 where `u >= 0`, else -1. Backward it is the identity, everywhere: the
    straight-through estimator (https://arxiv.org/abs/1308.3432) as GreedyHash has it.

    Args:
        u: `[B, K]`, any finite real.
    """
    u = u.astype(jnp.float32)
    sign = jnp.where(u >= 0, 1.0, -1.0)
    # Exactly the sign: u - u is 0, while u + (sign - u) rounds.
    return sign + (u - jax.lax.stop_gradient(u))


@arguments.takes(
    u=arguments.codes("B K"),
    classifier=arguments.codes("C K", bits_too=True),
    labels=arguments.labels("B C"),
    where=arguments.flags("B"),
)
def greedyhash_loss(
    u: Float[Array, "B K"],
    labels: Float[Array, "B C"],
    classifier: Float[Array, "C K"],
    *,
    where: Bool[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """GreedyHash: cross-entropy of a linear classifier of the binary code itself.

    `-sum_c t_c log softmax_c(w_c . b)` with `b = straight_through_sign(u)` and `t` the
    labels divided by their number. "Greedy Hash", NeurIPS 2018,
    https://papers.nips.cc/paper/7360, adds the quantiser `cubic_quantisation`, with
    weight 0.1 on CIFAR-10 and 1 on ImageNet, and trains the classifier with the
    network. One label in the paper; DeepHash-pytorch takes the first of several.

    The gradient of `u` is that of `b`; it does not depend on how sure a bit is.
    Cost: O(B C K) time, O(B C) memory.

    Args:
        u: codes `[B, K]`, any real.
        labels: multi-hot `[B, C]` or class numbers `[B]`; a row without any has loss 0.
        classifier: weights, `[C, K]`, any real; trained like a parameter.
        where: images that count, `[B]`; None takes all.

    Returns:
        Loss of each image, `[B]`, at least 0; 0 outside `where`.
    """
    logits = jnp.matmul(
        straight_through_sign(u),
        classifier.astype(jnp.float32).T,
        precision="highest",
    )
    return masked(_soft_cross_entropy(logits, labels.astype(jnp.float32)), where)


@arguments.takes(
    u=arguments.codes("B K"),
    centres=arguments.signs("C K"),
    labels=arguments.labels("B C"),
    ties=arguments.signs("K"),
    where=arguments.flags("B"),
)
def csq_loss(
    u: Float[Array, "B K"],
    labels: Float[Array, "B C"],
    centres: Float[Array, "C K"],
    ties: Float[Array, "K"],
    *,
    where: Bool[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """CSQ: binary cross-entropy of each bit with that of the image's centre.

    Mean over bits of `BCE((tanh u_k + 1) / 2, (c_k + 1) / 2)` with `c` of
    `merged_centres`. As (tanh u + 1) / 2 is the sigmoid of 2u, that is
    `log(1 + exp(-2 u_k c_k))`, which no code is too long for; the authors' code takes
    the logarithm of the rounded probability. "Central Similarity Quantization",
    https://arxiv.org/abs/1908.00347, which adds `squared_quantisation` of `tanh(u)`:
    weight 0.05 in the authors' code with a ResNet, 1e-4 in DeepHash-pytorch.

    Cost: O(B C K) time, O(B K) memory.

    Args:
        u: codes before tanh, `[B, K]`, any real.
        labels: multi-hot `[B, C]` or class numbers `[B]`; a row without any has loss 0.
        centres: `[C, K]` in {-1, +1}, as of `class_centres`.
        ties: bits on which an image's centres disagree, `[K]` in {-1, +1}, as of
            `init_ties`.
        where: images that count, `[B]`; None takes all.

    Returns:
        Loss of each image, `[B]`, at least 0; 0 outside `where`.
    """
    centre = merged_centres(labels, centres, ties)
    loss = jnp.mean(jax.nn.softplus(-2.0 * u.astype(jnp.float32) * centre), axis=-1)
    return masked(masked(loss, jnp.any(labels > 0, axis=-1)), where)


@arguments.takes(
    u=arguments.codes("B K"),
    centres=arguments.signs("C K"),
    labels=arguments.labels("B C"),
    margin=arguments.number("[0, inf)"),
    where=arguments.flags("B"),
)
def dpn_loss(
    u: Float[Array, "B K"],
    labels: Float[Array, "B C"],
    centres: Float[Array, "C K"],
    *,
    margin: float = 1.0,
    where: Bool[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """DPN: a hinge on each bit, which is to be on the centre's side by a margin.

    `sum_c y_c sum_k max(0, margin - u_k t_ck)`: summed over bits and over the centres
    of all true labels, as in the authors' code for "Deep Polarized Network",
    https://www.ijcai.org/proceedings/2020/115, whose margin 1 is the preset.
    DeepHash-pytorch averages over bits instead, and merges the centres of several
    labels into one.

    At the hinge (`u_k t_ck = margin`) the subgradient is 0.
    Cost: O(B C K) time, O(B K) memory: a bit's hinge has one of two values, so it is
    enough to count the true centres with +1 and those with -1.

    Args:
        u: codes `[B, K]`, any real.
        labels: multi-hot `[B, C]` or class numbers `[B]`; a row without any has loss 0.
        centres: `[C, K]` in {-1, +1} and nothing between, as of `class_centres`.
        margin: > 0.
        where: images that count, `[B]`; None takes all.

    Returns:
        Loss of each image, `[B]`, at least 0; 0 outside `where`.
    """
    u, labels = u.astype(jnp.float32), labels.astype(jnp.float32)
    total = jnp.sum(labels, axis=-1, keepdims=True)
    balance = jnp.matmul(labels, centres.astype(jnp.float32), precision="highest")
    positive, negative = (total + balance) / 2, (total - balance) / 2
    hinges = positive * jax.nn.relu(margin - u) + negative * jax.nn.relu(margin + u)
    return masked(jnp.sum(hinges, axis=-1), where)


def _soft_cross_entropy(
    logits: Float[Array, "B C"], labels: Float[Array, "B C"]
) -> Float[Array, "B"]:
    count = jnp.sum(labels, axis=-1, keepdims=True)
    target = labels / jnp.maximum(count, 1.0)
    return -jnp.sum(target * jax.nn.log_softmax(logits, axis=-1), axis=-1)
