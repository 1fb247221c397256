"""From A-Net's logits to a hard sample: draw a deformation, then apply it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ssah_jax.similarity import arguments
from ssah_jax.transforms.occlusion import occlude, occlusion_mask
from ssah_jax.transforms.rotation import rotate_blocks
from ssah_jax.types import Deformation, DeformationLogits

_logits = arguments.record(
    DeformationLogits,
    scale=arguments.real("S"),
    position=arguments.real("S G G"),
    angle=arguments.real("A N"),
)
_deformation = arguments.record(
    Deformation,
    scale=arguments.real("S", "[0, 1]"),
    position=arguments.real("S G G", "[0, 1]"),
    angle=arguments.angle("A"),
)
_bound = arguments.number("[0, pi]")


@arguments.takes(
    key=arguments.key,
    logits=arguments.real("..."),
    temperature=arguments.number("(0, inf)"),
)
def straight_through_gumbel(
    key: Key[Array, ""],
    logits: Float[Array, "..."],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    axis: int | tuple[int, ...] = -1,
) -> Float[Array, "..."]:
    """Draws one-hot samples, with the gradient of their relaxation.

    Forward: the exact one-hot of argmax(logits + g), g standard Gumbel noise, which is
    a sample of softmax(logits) whatever the temperature. Backward: the gradient of
    softmax((logits + g) / temperature) with the same g; a lower temperature brings it
    closer to the sample and makes its variance larger.

    See "Categorical Reparameterization with Gumbel-Softmax" by Jang et al.
    (https://arxiv.org/abs/1611.01144) and "The Concrete Distribution" by Maddison et
    al. (https://arxiv.org/abs/1611.00712).

    Args:
        key: a typed PRNG key; it is consumed.
        logits: unnormalised log-probabilities of any shape; -inf forbids a category.
        temperature: of the relaxation, greater than 0.
        axis: the axis of the categories; several are drawn over jointly, so that one
            entry of their product is 1. The remaining axes are independent draws.

    Returns:
        The samples, in {0, 1}, shaped like `logits`; they sum to 1 over `axis`.
    """
    axes = (axis,) if isinstance(axis, int) else axis
    last = tuple(range(-len(axes), 0))
    noisy = logits + jax.random.gumbel(key, logits.shape, logits.dtype)
    soft = jax.nn.softmax(noisy / temperature, axis=axes)

    moved = jnp.moveaxis(noisy, axes, last)
    flat = moved.reshape(*moved.shape[: -len(axes)], -1)
    hard = jax.nn.one_hot(jnp.argmax(flat, axis=-1), flat.shape[-1], dtype=soft.dtype)
    hard = jnp.moveaxis(hard.reshape(moved.shape), last, axes)

    # The parentheses matter: the difference is exactly 0, so the sum is exactly hard.
    return hard + (soft - jax.lax.stop_gradient(soft))


@arguments.takes(
    key=arguments.key,
    logits=_logits,
    max_angle=_bound,
    temperature=arguments.number("(0, inf)"),
)
def draw_deformation(
    key: Key[Array, ""],
    logits: DeformationLogits,
    *,
    max_angle: float | Float[Array, ""],
    temperature: float | Float[Array, ""] = 1.0,
) -> Deformation:
    """Draws one deformation of one image from A-Net's logits.

    The N angle bins of a block are equally wide and tile [-max_angle, max_angle]. A
    bin is drawn, then a point uniformly inside it, so every angle of the range can
    come up: the angle is `sum_n onehot[n] * (centre[n] + jitter[n])`, differentiable in
    the logits through the straight-through one-hot.

    Args:
        key: a typed PRNG key; it is consumed.
        logits: unbatched: scale `[S]`, position `[S, G, G]`, angle `[A, N]`.
        max_angle: bound of the angles, in radians, at least 0.
        temperature: of the relaxations, greater than 0; see `straight_through_gumbel`.

    Returns:
        A deformation: scale one-hot `[S]`, position one-hot over each scale's grid
        `[S, G, G]`, angle in radians `[A]`.
    """
    scale_key, position_key, bin_key, jitter_key = jax.random.split(key, 4)
    scale = straight_through_gumbel(scale_key, logits.scale, temperature=temperature)
    position = straight_through_gumbel(
        position_key, logits.position, temperature=temperature, axis=(-2, -1)
    )
    angle_bin = straight_through_gumbel(bin_key, logits.angle, temperature=temperature)

    shape, dtype = logits.angle.shape, logits.angle.dtype
    # centre + jitter, written as a share of the whole range: rounding cannot carry
    # the share beyond [-1, 1], nor so the angle beyond the bound.
    index = jax.lax.broadcasted_iota(dtype, shape, len(shape) - 1)
    point = index + jax.random.uniform(jitter_key, shape, dtype)
    candidate = max_angle * (2 * point / shape[-1] - 1)
    return Deformation(
        scale=scale,
        position=position,
        angle=jnp.sum(angle_bin * candidate, axis=-1),
    )


@arguments.takes(key=arguments.key, deformation=_deformation)
def window_or_rotation(key: Key[Array, ""], deformation: Deformation) -> Deformation:
    """Keeps the window or the rotation of a deformation, by a fair coin.

    What is left out is 0: no scale is chosen, or no block turns. A sample that is both
    occluded and turned must be little of each to be no harder than another.

    Args:
        key: a typed PRNG key; it is consumed.
        deformation: unbatched: scale `[S]`, position `[S, G, G]`, angle `[A]`.

    Returns:
        The same deformation, its scale or its angles all 0.
    """
    turn = jax.random.bernoulli(key)
    return deformation.replace(
        scale=jnp.where(turn, 0.0, deformation.scale),
        angle=jnp.where(turn, deformation.angle, 0.0),
    )


@arguments.takes(logits=_logits, deformation=_deformation, max_angle=_bound)
def deformation_log_probability(
    logits: DeformationLogits,
    deformation: Deformation,
    *,
    max_angle: float | Float[Array, ""],
) -> Float[Array, ""]:
    """Log-probability that `draw_deformation` makes the choices of a deformation.

    Of the window's scale, of its position at that scale, and of each block's angle
    bin; what had no effect does not count: positions at scales that were not drawn,
    and what `window_or_rotation` left out.
    Differentiable in the logits; the deformation is a constant of the gradient, so
    that `loss * grad(log p)` is the score-function estimate of the gradient of an
    expected loss ("Simple Statistical Gradient-Following Algorithms for Connectionist
    Reinforcement Learning", Williams, Machine Learning 8, 1992).

    Args:
        logits: unbatched: scale `[S]`, position `[S, G, G]`, angle `[A, N]`.
        deformation: drawn from them: scale `[S]`, position `[S, G, G]`, angle `[A]`.
        max_angle: bound of the angles that it was drawn with, in radians; 0 for no
            rotation, which goes with N = 1.

    Returns:
        A scalar, at most 0.
    """
    deformation = jax.lax.stop_gradient(deformation)
    scale = jax.nn.log_softmax(logits.scale)
    position = jax.nn.log_softmax(logits.position, axis=(-2, -1))
    chosen = deformation.scale[:, None, None] * deformation.position
    angle = jax.nn.log_softmax(logits.angle, axis=-1)
    bins = logits.angle.shape[-1]
    bound = jnp.where(max_angle == 0.0, 1.0, max_angle)
    share = (deformation.angle / bound + 1.0) / 2.0
    index = jnp.clip(jnp.floor(share * bins), 0, bins - 1).astype(jnp.int32)
    turned = deformation.angle[:, None] != 0.0
    return (
        jnp.sum(deformation.scale * scale)
        + jnp.sum(chosen * position)
        + jnp.sum(turned * jnp.take_along_axis(angle, index[:, None], axis=-1))
    )


@arguments.takes(
    image=arguments.image(),
    deformation=_deformation,
    scales=arguments.shares,
    fill=arguments.fill,
    border=arguments.word("zeros", "edge"),
    reach=arguments.number("(0, 1]"),
)
def deform(
    image: Float[Array, "H W ch"],
    deformation: Deformation,
    *,
    scales: Sequence[float],
    fill: float | Float[Array, ""] | Float[Array, "ch"] | Float[Array, "H W ch"],
    border: str = "zeros",
    reach: float | Float[Array, ""] = 1.0,
) -> Float[Array, "H W ch"]:
    """Makes a hard sample: occludes an image, then rotates it block by block.

    Mask first, then rotation, is the order of "A-Fast-RCNN: Hard Positive Generation
    via Adversary for Object Detection" (Wang et al., https://arxiv.org/abs/1704.03414).

    Args:
        image: `[H, W, ch]`.
        deformation: unbatched: scale `[S]`, position `[S, G, G]`, angle `[A]`.
        scales: sizes of the windows as shares of the sides, S values in (0, 1].
        fill: what the window shows: a scalar, `[ch]` or `[H, W, ch]`, in [0, 1].
        border: "zeros" or "edge", what the rotation brings in from outside.
        reach: multiplies the windows' sizes, (0, 1]; it has no gradient.

    Returns:
        The deformed image, `[H, W, ch]`, differentiable in the image and in every
        field of the deformation.

    Raises:
        ValueError: as `occlusion_mask` and `rotate_blocks` do.
    """
    height, width, _ = image.shape
    mask = occlusion_mask(
        deformation.scale,
        deformation.position,
        scales=scales,
        height=height,
        width=width,
        reach=reach,
    )
    occluded = occlude(image, mask, fill=fill)
    return rotate_blocks(occluded, deformation.angle, border=border)
