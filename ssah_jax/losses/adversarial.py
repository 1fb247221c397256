"""What A-Net minimises: the gradient through a draw, and how open its choices are."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssah_jax.similarity import arguments


@arguments.takes(
    log_probability=arguments.real("B"),
    loss=arguments.real("B"),
    baseline=arguments.real("..."),
)
def score_function_loss(
    log_probability: Float[Array, "B"],
    loss: Float[Array, "B"],
    baseline: Float[Array, ""] | Float[Array, "B"],
) -> Float[Array, "B"]:
    """A loss whose gradient estimates that of the expected loss of a draw, `[B]`.

    `(loss - baseline) log p`: draws that did better than the baseline become more
    likely (REINFORCE: Williams, Machine Learning 8, 1992). Unbiased if the baseline
    does not depend on the draw (with the mean of B losses, 1 - 1/B of the gradient),
    and it sees what a far choice does only by trying it, where the straight-through
    gradient guesses by a tangent. The reward-gated training of A-Fast-RCNN's
    occlusion network (https://arxiv.org/abs/1704.03414) is the case of a reward of
    0 or 1.

    Args:
        log_probability: of each draw, `[B]`; the only thing that is differentiated.
        loss: of each draw, `[B]`; a constant of the gradient.
        baseline: what to compare with, as a rule the mean loss, one for all or one for
            each draw; a constant.
    """
    return jax.lax.stop_gradient(loss - baseline) * log_probability


@arguments.takes(logits=arguments.real("..."))
def categorical_entropy(logits: Float[Array, "*B N"]) -> Float[Array, "*B"]:
    """Entropy of a categorical distribution in nats, `[...]` in [0, log N].

    Args:
        logits: unnormalised log-probabilities over the last axis, finite.
    """
    log_p = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
