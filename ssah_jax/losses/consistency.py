"""The semi-supervised consistent loss: what a teacher says, the student must say.

Codes are never compared with codes of the other network: they are equivalent up to
a permutation and the signs of the bits. Compared is what an image is similar *to*:
class centres, or other images.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ssah_jax.losses.pairwise import logistic_pair_loss


def centre_consistency(
    logits: Float[Array, "U C"],
    target: Float[Array, "U C"],
    sure: Bool[Array, "U C"],
    *,
    multi_label: bool = False,
) -> Float[Array, "U"]:
    """Cross-entropy of the student's class logits to the teacher's hard opinion.

    Single label: the teacher's most probable class, if the row is sure (pseudo-
    labels of "FixMatch", https://arxiv.org/abs/2001.07685). Several labels: for each
    class of which the teacher is sure, whether it is present, averaged over them.

    Args:
        logits: of the student, on the generated image, `[U, C]`.
        target: the teacher's posterior on the clean image, `[U, C]` in [0, 1]; a
            constant of the gradient.
        sure: entries that are learnt from, `[U, C]`.
        multi_label: whether classes are independent.

    Returns:
        Loss of each image, `[U]`; 0 where nothing is sure.
    """
    target = jax.lax.stop_gradient(target)
    if multi_label:
        present = (target > 0.5).astype(logits.dtype)
        entropy = jax.nn.softplus(logits) - present * logits
        number = jnp.sum(sure, axis=-1)
        return jnp.sum(jnp.where(sure, entropy, 0.0), axis=-1) / jnp.maximum(number, 1)
    chosen = jax.nn.one_hot(jnp.argmax(target, axis=-1), target.shape[-1])
    entropy = -jnp.sum(chosen * jax.nn.log_softmax(logits, axis=-1), axis=-1)
    return jnp.where(sure[:, 0], entropy, 0.0)


def pair_consistency(
    u: Float[Array, "U K"],
    anchors: Float[Array, "M K"],
    target: Float[Array, "U M"],
    *,
    alpha: float = 8.0,
) -> Float[Array, "U M"]:
    """Binary cross-entropy of the student's pair similarities to the teacher's.

    The relational form, as in SSDPH and PTS3H: an unlabelled image's similarity to
    labelled anchors. Anchors' codes and targets are constants of the gradient, so
    that an uncertain image cannot move the codes of labelled ones.

    Args:
        u: the student's codes of generated images, `[U, K]`.
        anchors: the student's codes of labelled images, `[M, K]`.
        target: the teacher's probability that each pair is similar, `[U, M]`.
        alpha: see `logistic_pair_loss`.

    Returns:
        Loss of each pair, `[U, M]`, at least 0.
    """
    anchors = jax.lax.stop_gradient(anchors)
    target = jax.lax.stop_gradient(target)
    return logistic_pair_loss(u, anchors, target, alpha=alpha)
