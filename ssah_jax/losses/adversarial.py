"""What A-Net minimises: reach the threshold, and do not always do the same."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def threshold_pursuit(
    hardness: Float[Array, "B"],
    threshold: Float[Array, ""],
    reached: Float[Array, ""],
) -> Float[Array, "B"]:
    """Loss whose descent brings the mean hardness to the threshold, `[B]`.

    `g h` with `g = reached / lambda - 1`, clipped to [-1, 1] and a constant: below the
    threshold all samples are to become harder, above it easier, the faster the farther
    the mean is away. It is the gradient of `(mean h - lambda)^2 / (2 lambda)`, a loss
    that one sample has no share in. Losses of one sample's distance to the threshold,
    a pinball loss too, prefer many easy samples to a few far above it, so that the mean
    stays below.

    Args:
        hardness: of each generated sample, `[B]`, a share of bits.
        threshold: lambda, a share of bits, > 0; a constant of the gradient.
        reached: mean hardness over all devices; a constant of the gradient.
    """
    gap = jnp.clip(reached / jnp.maximum(threshold, 1e-6) - 1.0, -1.0, 1.0)
    return jax.lax.stop_gradient(gap) * hardness


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
