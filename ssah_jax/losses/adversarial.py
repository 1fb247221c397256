"""What A-Net minimises: reach the threshold, and do not always do the same."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def threshold_pursuit(
    hardness: Float[Array, "B"], threshold: Float[Array, ""], *, share: float = 0.5
) -> Float[Array, "B"]:
    """Pinball loss that makes the threshold a quantile of hardness, `[B]`, >= 0.

    `(1 - share) (lambda - h)` below the threshold, `share (h - lambda)` above it. Its
    gradient raises the hardness of samples below and lowers that of samples above,
    and is in balance when `share` of them lie below: A-Net goes up to the threshold
    and no further. A squared distance would also punish the spread of hardness, and
    what spreads least is what is easy (quantile loss: Koenker and Bassett,
    "Regression Quantiles", Econometrica 1978).

    Args:
        hardness: of each generated sample, `[B]`, a share of bits.
        threshold: lambda, a share of bits; a constant of the gradient.
        share: of samples that are to lie below the threshold, in (0, 1).
    """
    above = hardness - jax.lax.stop_gradient(threshold)
    return jnp.where(above > 0, share * above, (share - 1.0) * above)


def score_function_loss(
    log_probability: Float[Array, "B"],
    loss: Float[Array, "B"],
    baseline: Float[Array, ""],
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
        baseline: what to compare with, as a rule the mean loss; a constant.
    """
    return jax.lax.stop_gradient(loss - baseline) * log_probability


def normalised_entropy(
    logits: Float[Array, "*B N"],
) -> Float[Array, "*B"]:
    """Entropy of a categorical over its maximum log N, `[...]` in [0, 1].

    Args:
        logits: unnormalised log-probabilities over the last axis, N >= 2; with a
            single choice the entropy is 1 by definition (there is none to lose).
    """
    if logits.shape[-1] == 1:
        return jnp.ones(logits.shape[:-1])
    log_p = jax.nn.log_softmax(logits, axis=-1)
    entropy = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
    return entropy / jnp.log(float(logits.shape[-1]))


def entropy_floor(logits: Float[Array, "*B N"], *, floor: float) -> Float[Array, "*B"]:
    """Squared shortfall of the normalised entropy below a floor, `[...]` in [0, 1].

    Zero, with zero gradient, while the choice is at least as open as the floor asks;
    a bonus on entropy would instead push towards uniform for ever.

    Args:
        logits: `[..., N]`.
        floor: in [0, 1], a share of the largest entropy.
    """
    return jnp.maximum(floor - normalised_entropy(logits), 0.0) ** 2
