"""The self-paced policy: how hard a sample is, how hard the next ones are to be.

Hardness is a share of bits, so that one threshold serves labelled and unlabelled
images and every K.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ssah_jax.similarity import arguments, cosine, unit_rows
from ssah_jax.types import PaceState

LARGEST = 0.5
"""The largest threshold, the share of bits that a code of chance has wrong."""

SHORTEST = 0.01
"""The shortest reach: where nothing is left to see of it, it can still come back."""


_PACE = arguments.record(
    PaceState,
    threshold=arguments.real(""),
    window=arguments.real(""),
    angle=arguments.real(""),
    recognised=arguments.real(""),
)


@arguments.takes(u_generated=arguments.codes("B K"), u_clean=arguments.codes("B K"))
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


@arguments.takes(
    u_generated=arguments.codes("B K"),
    u_clean=arguments.codes("B K"),
    others=arguments.codes("M K"),
    similar=arguments.flags("B M"),
    where=arguments.flags("B M"),
)
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


@arguments.takes(
    start=arguments.number("(0, 0.5]"),
    target=arguments.number("[0, 1]"),
    reach=arguments.number("(0, 1]"),
)
def init_pace(start: float, target: float, *, reach: float) -> PaceState:
    """The policy before the first step.

    Args:
        start: threshold, a share of bits in (0, 0.5].
        target: see `follow_recognition`.
        reach: of occlusions and rotations, a share of the family's in (0, 1].
    """
    # Distinct buffers: what is donated may stand in a state only once.
    return PaceState(
        threshold=jnp.asarray(start, jnp.float32),
        window=jnp.full((), reach, jnp.float32),
        angle=jnp.full((), reach, jnp.float32),
        recognised=jnp.full((), target, jnp.float32),
    )


@arguments.takes(
    pace=_PACE,
    occluded=arguments.real(""),
    rotated=arguments.real(""),
    rate=arguments.number("[0, inf)"),
)
def follow_hardness(
    pace: PaceState,
    occluded: Float[Array, ""],
    rotated: Float[Array, ""],
    *,
    rate: float,
) -> PaceState:
    """Widen what is easier than the threshold, narrow what is harder.

    The logarithm of each reach moves by `rate (lambda - h) / max(lambda, |h|)`, a
    relative gap within [-2, 1], so that it rests where that kind of sample is as hard
    as lambda, or at the whole family. So the temperature of soft actor-critic finds
    its entropy (https://arxiv.org/abs/1812.05905); range by range, automatic domain
    randomisation finds what a robot can (https://arxiv.org/abs/1910.07113).

    Args:
        pace: the policy so far.
        occluded: mean hardness of this step's occluded samples, a share of bits; the
            threshold itself where there are none.
        rotated: of its rotated samples.
        rate: of the logarithm of the reach.
    """

    def moved(reach: Float[Array, ""], hardness: Float[Array, ""]) -> Float[Array, ""]:
        gap = pace.threshold - hardness
        gap /= jnp.maximum(pace.threshold, jnp.abs(hardness))
        return jnp.clip(reach * jnp.exp(rate * gap), SHORTEST, 1.0)

    return pace.replace(
        window=moved(pace.window, occluded), angle=moved(pace.angle, rotated)
    )


@arguments.takes(
    pace=_PACE,
    recognised=arguments.real(""),
    evidence=arguments.real(""),
    target=arguments.number("[0, 1]"),
    rate=arguments.number("[0, inf)"),
    decay=arguments.number("[0, 1)"),
)
def follow_recognition(
    pace: PaceState,
    recognised: Float[Array, ""],
    evidence: Float[Array, ""],
    *,
    target: float,
    rate: float,
    decay: float = 0.95,
) -> PaceState:
    """Raise the threshold while hard samples are still recognised, lower it while not.

    `log lambda` moves by `rate (r - target)`, r being the running mean of the share
    of hard samples that H-Net gives the class which the teacher is sure the clean
    image has. A digit 6 turned by 180 degrees is no hard 6: what is not recognised
    any longer teaches nothing.

    Args:
        pace: the policy so far.
        recognised: of this step's samples, [0, 1].
        evidence: share of images that this was seen on, [0, 1]; the running mean
            follows the less, the fewer there are, and not at all if there are none.
        target: share to be recognised, in [0, 1].
        rate: of the logarithm of the threshold.
        decay: of the running mean where all images count, in [0, 1).
    """
    step = (1.0 - decay) * evidence
    mean = pace.recognised + step * (recognised - pace.recognised)
    threshold = pace.threshold * jnp.exp(rate * (mean - target))
    return pace.replace(recognised=mean, threshold=jnp.minimum(threshold, LARGEST))
