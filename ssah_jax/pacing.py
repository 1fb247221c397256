"""The self-paced policy: how hard a sample is, whether it counts, what comes next.

Hardness is a share of bits, so that one threshold serves labelled and unlabelled
images and every K.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssah_jax.similarity import cosine, unit_rows
from ssah_jax.types import PaceState

WEIGHT_KINDS = ("hard", "linear", "log")
"""Accepted self-paced regularisers."""


def bit_flips(
    u_generated: Float[Array, "B K"], u_clean: Float[Array, "B K"]
) -> Float[Array, "B"]:
    """Hardness without labels: the share of bits that a deformation flips, `[B]`.

    `(1 - cos(u~, u)) / 2` in [0, 1], the differentiable form of the Hamming distance
    over K. The clean code is a constant of the gradient.
    """
    u_clean = jax.lax.stop_gradient(u_clean)
    alike = jnp.sum(unit_rows(u_generated) * unit_rows(u_clean), axis=-1)
    return (1.0 - alike) / 2.0


def pair_hardness(
    u_generated: Float[Array, "B K"],
    u_clean: Float[Array, "B K"],
    others: Float[Array, "M K"],
    similar: Bool[Array, "B M"],
    where: Bool[Array, "B M"],
) -> Float[Array, "B"]:
    """Hardness with labels: what a deformation adds to an image's mean pair loss.

    The pair loss here is linear, `(1 - s cos) / 2` with s = +1 for similar pairs and
    -1 for others, so that hardness is a share of bits as `bit_flips` is: the mean
    share of bits lost to similar images, plus the mean share won towards dissimilar
    ones. Negative where the deformation helps. Clean codes are constants of the
    gradient.

    Args:
        u_generated: codes of generated images, `[B, K]`.
        u_clean: codes of the same images undeformed, `[B, K]`.
        others: clean codes of the batch, `[M, K]`.
        similar: `[B, M]`.
        where: pairs that count, `[B, M]` (not an image with itself).

    Returns:
        Hardness `[B]` in [-2, 2], 0 for a row without any pair.
    """
    u_clean, others = jax.lax.stop_gradient((u_clean, others))
    lost = (cosine(u_clean, others) - cosine(u_generated, others)) / 2.0

    def row_mean(mask: Bool[Array, "B M"]) -> Float[Array, "B"]:
        number = jnp.maximum(jnp.sum(mask, axis=-1), 1)
        return jnp.sum(jnp.where(mask, lost, 0.0), axis=-1) / number

    return row_mean(where & similar) - row_mean(where & ~similar)


def self_paced_weight(
    hardness: Float[Array, "B"],
    threshold: Float[Array, ""],
    *,
    kind: str = "hard",
) -> Float[Array, "B"]:
    """How much each sample counts, given the age of the learner, `[B]` in [0, 1].

    Minimisers of `v h + f(v; lambda)` over v in [0, 1] for the usual self-paced
    regularisers f: "hard" `1[h <= lambda]` ("Self-Paced Learning for Latent Variable
    Models", NIPS 2010), "linear" `max(0, 1 - h / lambda)`, and "log"
    `log(h + zeta) / log(zeta)` with `zeta = 1 - lambda` ("Easy Samples First",
    ACM MM 2014). A constant of the gradient: the weights are chosen, then the loss is
    minimised.

    Args:
        hardness: `[B]`; negative values count as 0.
        threshold: lambda, in (0, 1) for "log" and (0, inf) otherwise.
        kind: one of `WEIGHT_KINDS`.

    Raises:
        ValueError: if `kind` is unknown.
    """
    h = jax.lax.stop_gradient(jnp.maximum(hardness, 0.0))
    threshold = jax.lax.stop_gradient(threshold)
    within = h <= threshold
    if kind == "hard":
        return within.astype(jnp.float32)
    if kind == "linear":
        return jnp.maximum(0.0, 1.0 - h / jnp.maximum(threshold, 1e-6))
    if kind == "log":
        zeta = 1.0 - jnp.clip(threshold, 1e-3, 1.0 - 1e-3)
        weight = jnp.log(jnp.minimum(h + zeta, 1.0)) / jnp.log(zeta)
        return jnp.where(within, weight, 0.0)
    raise ValueError(f"kind: found {kind!r}, accepted are {', '.join(WEIGHT_KINDS)}")


def init_pace(start: float) -> PaceState:
    """The policy before the first step: threshold `start`, nothing mastered yet."""
    return PaceState(
        threshold=jnp.asarray(start, jnp.float32),
        mastered=jnp.zeros(()),
        hardness=jnp.zeros(()),
    )


def update_by_feedback(
    pace: PaceState,
    mastered: Float[Array, ""],
    hardness: Float[Array, ""],
    *,
    target: float = 0.6,
    tolerance: float = 0.1,
    rate: float = 5e-4,
    low: float = 0.02,
    high: float = 0.3,
    decay: float = 0.95,
) -> PaceState:
    """Move the threshold by how many samples stay under it.

    While the running share of samples no harder than the threshold is within
    `tolerance` of `target`, H-Net masters what it is given and A-Net keeps up: the
    threshold rises by `rate`. Fewer are mastered: H-Net does not keep up, and the
    threshold waits. More are: no deformation that A-Net knows reaches the threshold
    any longer, and it falls by `rate`, because a threshold above everything paces
    nothing.

    Args:
        pace: the policy so far.
        mastered: share of this step's generated samples no harder than the threshold,
            [0, 1].
        hardness: their mean hardness, a share of bits; only recorded.
        target: share to be mastered; samples whose *mean* is at the threshold have
            somewhat more than half.
        tolerance: deviation from it at which the threshold still rises.
        rate: change of a step, a share of bits.
        low: smallest threshold.
        high: largest threshold.
        decay: of the running means, in [0, 1).
    """
    mastered = decay * pace.mastered + (1.0 - decay) * mastered
    hardness = decay * pace.hardness + (1.0 - decay) * hardness
    rises = jnp.abs(mastered - target) <= tolerance
    falls = mastered > target + tolerance
    move = rate * (rises.astype(jnp.float32) - falls.astype(jnp.float32))
    threshold = jnp.clip(pace.threshold + move, low, high)
    return PaceState(threshold=threshold, mastered=mastered, hardness=hardness)


def update_by_schedule(
    pace: PaceState,
    mastered: Float[Array, ""],
    hardness: Float[Array, ""],
    step: Int[Array, ""],
    *,
    start: float,
    end: float,
    steps: int,
    decay: float = 0.95,
) -> PaceState:
    """Move the threshold linearly from `start` to `end` over `steps` steps.

    Args:
        pace: the policy so far.
        mastered: share of this step's samples no harder than the threshold; only
            recorded.
        hardness: their mean hardness; only recorded.
        step: completed steps, this one not counted.
        start: threshold at step 0.
        end: threshold from step `steps` on.
        steps: length of the ramp, at least 1.
        decay: of the running means, in [0, 1).
    """
    # float32 by name: an int32 step would make the threshold weakly typed, and the
    # next step would be compiled anew.
    share = jnp.clip((step.astype(jnp.float32) + 1.0) / steps, 0.0, 1.0)
    return PaceState(
        threshold=start + share * (end - start),
        mastered=decay * pace.mastered + (1.0 - decay) * mastered,
        hardness=decay * pace.hardness + (1.0 - decay) * hardness,
    )
