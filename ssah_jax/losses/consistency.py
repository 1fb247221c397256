"""The semi-supervised consistent loss: what a teacher says, the student must say.

Codes are never compared with codes of the other network: they are equivalent up to
a permutation and the signs of the bits. Compared is what an image is similar *to*:
class centres, or other images.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssah_jax.losses.pairwise import logistic_pair_loss
from ssah_jax.losses.reduce import masked
from ssah_jax.similarity import arguments


@arguments.takes(
    logits=arguments.real("U C"),
    target=arguments.probability("U C"),
    sure=arguments.flags("U C"),
    multi_label=arguments.truth,
    where=arguments.flags("U"),
)
def centre_consistency(
    logits: Float[Array, "U C"],
    target: Float[Array, "U C"],
    sure: Bool[Array, "U C"],
    *,
    multi_label: bool = False,
    where: Bool[Array, "U"] | None = None,
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
        where: images that count, `[U]`; None takes all.

    Returns:
        Loss of each image, `[U]`; 0 where nothing is sure, and outside `where`.
    """
    target = jax.lax.stop_gradient(target)
    if multi_label:
        present = (target > 0.5).astype(logits.dtype)
        entropy = jax.nn.softplus(logits) - present * logits
        number = jnp.sum(sure, axis=-1)
        loss = jnp.sum(masked(entropy, sure), axis=-1) / jnp.maximum(number, 1)
        return masked(loss, where)
    chosen = jax.nn.one_hot(jnp.argmax(target, axis=-1), target.shape[-1])
    entropy = -jnp.sum(chosen * jax.nn.log_softmax(logits, axis=-1), axis=-1)
    return masked(masked(entropy, sure[:, 0]), where)


@arguments.takes(
    u=arguments.codes("U K"),
    anchors=arguments.codes("M K"),
    target=arguments.probability("U M"),
    alpha=arguments.number("[0, inf)"),
    where=arguments.flags("U M"),
)
def pair_consistency(
    u: Float[Array, "U K"],
    anchors: Float[Array, "M K"],
    target: Float[Array, "U M"],
    *,
    alpha: float = 8.0,
    where: Bool[Array, "U M"] | None = None,
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
        where: pairs that count, `[U, M]`; None takes all.

    Returns:
        Loss of each pair, `[U, M]`, at least 0; 0 outside `where`.
    """
    anchors = jax.lax.stop_gradient(anchors)
    target = jax.lax.stop_gradient(target)
    return logistic_pair_loss(u, anchors, target, alpha=alpha, where=where)


@arguments.takes(
    u=arguments.codes("U K"),
    anchors=arguments.codes("M K"),
    scale=arguments.number("[0, inf)"),
)
def pair_posterior(
    u: Float[Array, "U K"],
    anchors: Float[Array, "M K"],
    *,
    scale: float | None = None,
) -> Float[Array, "U M"]:
    """SSDPH's probability that an image is similar to an anchor, `[U, M]` in [0, 1].

    `sigmoid(scale u_i . a_j)`; see `ssdph_loss`. Two zero codes are as likely similar
    as not; codes in [-1, 1] have logits within 19.2 of 0, for any K.
    Cost: O(U M K) time, O(U M) memory.

    Args:
        u: codes `[U, K]`, in [-1, 1] (any real is accepted).
        anchors: codes of labelled images, `[M, K]`, likewise.
        scale: of the inner product, > 0; None is SSDPH's preset 0.4 * 48 / K.
    """
    scale = 0.4 * 48 / u.shape[-1] if scale is None else scale
    u, anchors = u.astype(jnp.float32), anchors.astype(jnp.float32)
    # At full precision: accelerators would round the operands to 10 bits or fewer.
    return jax.nn.sigmoid(scale * jnp.matmul(u, anchors.T, precision="highest"))


@arguments.takes(
    u=arguments.codes("U K"),
    anchors=arguments.codes("M K"),
    target=arguments.probability("U M"),
    scale=arguments.number("[0, inf)"),
    where=arguments.flags("U M"),
)
def ssdph_loss(
    u: Float[Array, "U K"],
    anchors: Float[Array, "M K"],
    target: Float[Array, "U M"] | Bool[Array, "U M"],
    *,
    scale: float | None = None,
    where: Bool[Array, "U M"] | None = None,
) -> Float[Array, "U M"]:
    """SSDPH: squared error of the student's pair probabilities to the teacher's.

    `(p_ij - t_ij)^2` with `p` of `pair_posterior`, of the student's codes `tanh(z)`,
    and `t` the same of a teacher. "Semi-supervised Deep Pairwise Hashing" (Shi et al.,
    code: https://github.com/xsshi2015/Semi-supervised-Deep-Pairwise-Hashing). Presets
    of that code: scale 0.4 * 48 / K; mean over pairs, labelled images among them;
    weight 20 (CIFAR-10) or 5 (NUS-WIDE) times `ramp_up` over 40 epochs, and 0 in the
    first. Its teacher is the running mean of each image's and anchor's codes; that of
    this package a network with averaged weights ("Mean Teachers",
    https://arxiv.org/abs/1703.01780), on a clean view.

    As in that code the anchors have a gradient. Stop it outside, as `pair_consistency`
    does inside, if an unlabelled image is not to move the codes of labelled ones.

    PTS3H ("Pairwise Teacher-Student Network for Semi-Supervised Hashing",
    https://arxiv.org/abs/1902.00643) is of this family: by its abstract a teacher makes
    the student's pair information, and similar pairs get "consistent distances". Its
    equations are in no text or code that we could read, so that this is not its loss:
    the likelihood, the error and the anchors are SSDPH's.

    Cost: O(U M K) time, O(U M) memory.

    Args:
        u: the student's codes, `[U, K]`, in [-1, 1] (any real is accepted).
        anchors: the student's codes of labelled images, `[M, K]`, likewise.
        target: the teacher's `pair_posterior` of the same pairs, `[U, M]` in [0, 1];
            a constant of the gradient.
        scale: see `pair_posterior`.
        where: pairs that count, `[U, M]`; None takes all.

    Returns:
        Loss of each pair, `[U, M]` in [0, 1]; 0 outside `where`.
    """
    target = jax.lax.stop_gradient(target.astype(jnp.float32))
    error = pair_posterior(u, anchors, scale=scale) - target
    return masked(jnp.square(error), where)


@arguments.takes(step=arguments.step, length=arguments.number("[0, inf)"))
def ramp_up(step: Int[Array, ""] | int, *, length: float) -> Float[Array, ""]:
    """Weight of a consistency loss while its teacher is young, in [exp(-5), 1].

    `exp(-5 (1 - t)^2)` with `t = step / length`, 1 from `length` on: the ramp of
    "Temporal Ensembling" (https://arxiv.org/abs/1610.02242), which SSDPH shares.

    Args:
        step: completed steps, >= 0; may be traced.
        length: steps until the weight is 1; at most 1 is no ramp from step 1 on.
    """
    share = jnp.clip(jnp.asarray(step, jnp.float32) / max(length, 1.0), 0.0, 1.0)
    return jnp.exp(-5.0 * jnp.square(1.0 - share))


@arguments.takes(step=arguments.step, length=arguments.number("[0, inf)"))
def ramp_down(step: Int[Array, ""] | int, *, length: float) -> Float[Array, ""]:
    """Weight of a first opinion that is to be outgrown, from 1 at step 0 to 0.

    `max(0, 1 - step / length)`. This project's own.

    Args:
        step: completed steps, >= 0; may be traced.
        length: steps until the weight is 0; at most 1 is none from step 1 on.
    """
    share = jnp.asarray(step, jnp.float32) / max(length, 1.0)
    return jnp.clip(1.0 - share, 0.0, 1.0)
