"""What the networks see of a batch: weakly augmented images, and hard samples of them.

Randomness belongs to an image's global row in the batch, so that no view depends on
how many devices share the batch.
"""

import math
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from ssah_jax import transforms
from ssah_jax.config import Config
from ssah_jax.losses.reduce import first_row
from ssah_jax.method import stored_views
from ssah_jax.networks import ANet
from ssah_jax.types import (
    Batch,
    Deformation,
    DeformationLogits,
    PaceState,
    Params,
    Record,
)


class Views(Record):
    """The batch as the networks see it.

    Attributes:
        labelled: weakly augmented labelled images, `[L, H, W, ch]` in [0, 1].
        unlabelled: weakly augmented unlabelled images, `[U, H, W, ch]` in [0, 1].
        label: multi-hot `[L, C]`.
        spread: see `Batch`, `[U, C]`, or None.
        keys: one for each image, labelled first, `[L + U]`, for deformations.
        other: a second view of the unlabelled images, `[U, H, W, ch]`; None where
            nothing compares two.
        stored: hard samples that were stored with the images, labelled first,
            `[L + U, H, W, ch]`; None where they are made here, or not at all.
    """

    labelled: Float[Array, "L H W ch"]
    unlabelled: Float[Array, "U H W ch"]
    label: Float[Array, "L C"]
    spread: Float[Array, "U C"] | None
    keys: Key[Array, "B"]
    other: Float[Array, "U H W ch"] | None = None
    stored: Float[Array, "B H W ch"] | None = None


def build_anet(config: Config) -> ANet:
    """A-Net as configured."""
    return ANet(
        num_scales=len(config.anet.scales),
        grid=config.anet.grid,
        num_blocks=config.anet.blocks,
        # Without rotation there is no angle to choose.
        num_bins=config.anet.angle_bins if config.anet.max_degrees else 1,
        width=config.anet.width,
    )


def to_float(
    image: UInt8[Array, "*B H W ch"] | Float[Array, "*B H W ch"],
) -> Float[Array, "*B H W ch"]:
    """Images from uint8 to float32 in [0, 1]; features, float, keep their values."""
    if jnp.issubdtype(image.dtype, jnp.floating):
        return image.astype(jnp.float32)
    return image.astype(jnp.float32) / 255.0


def clean_view(
    image: UInt8[Array, "B H W ch"] | Float[Array, "B H W ch"], *, config: Config
) -> Float[Array, "B h w ch"]:
    """Images as evaluation sees them: float in [0, 1], cropped in the middle.

    Of images that are stored as features of several views, the first.
    """
    image, size = to_float(image), config.data.crop_size
    if config.data.source == "features":
        return image[:, :1]
    if not size:
        return image
    return jax.vmap(partial(transforms.centre_crop, size=size))(image)


def weak_view(
    keys: Key[Array, "2"],
    image: UInt8[Array, "H W ch"] | Float[Array, "H W ch"],
    *,
    config: Config,
) -> Float[Array, "h w ch"]:
    """An image weakly augmented: cropped, shifted and flipped, as configured.

    Args:
        keys: of where it moves, and of the flip; consumed.
        image: `[H, W, ch]`.
        config: of the run.
    """
    move, flip = keys
    image, size = to_float(image), config.data.crop_size
    if size:
        move, cut = jax.random.split(move)
        image = transforms.random_crop(cut, image, size=size)
    image = transforms.random_shift(move, image, max_shift=config.data.max_shift)
    if config.data.flip:
        image = transforms.random_flip(flip, image)
    return image


def make_views(
    key: Key[Array, ""], batch: Batch, *, config: Config, axis_name: str | None = None
) -> Views:
    """Decode to float and augment weakly: crop, shift and flip, as configured.

    Of images that are stored as features of several views, views are drawn instead.

    Args:
        key: of the step, the same on all devices; consumed.
        batch: this device's share.
        config: of the run.
        axis_name: mapped axis.
    """

    def keys_of(key: Array, number: int) -> Array:
        """Two for a view of each row, and one for its deformation: `[number, 3]`."""
        rows = first_row(number, axis_name) + jnp.arange(number)
        keys = jax.vmap(partial(jax.random.fold_in, key))(rows)
        return jax.vmap(partial(jax.random.split, num=3))(keys)

    labelled_key, unlabelled_key = jax.random.split(key)
    labelled_keys = keys_of(labelled_key, len(batch.image))
    unlabelled_keys = keys_of(unlabelled_key, len(batch.unlabelled))
    keys = jnp.concatenate([labelled_keys[:, 2], unlabelled_keys[:, 2]])
    compares, other, hard = config.loss.cross_view > 0, None, None
    if config.data.source == "features":
        draw = jax.vmap(stored_views.draw)
        first = draw(labelled_keys[:, 0], to_float(batch.image))
        second = draw(unlabelled_keys[:, 0], to_float(batch.unlabelled))
        labelled, unlabelled = first.weak, second.weak
        other = second.other if compares else None
        if config.anet.kind == "stored":
            hard = jnp.concatenate([first.hard, second.hard])
    else:
        weaken = jax.vmap(partial(weak_view, config=config))
        labelled = weaken(labelled_keys[:, :2], batch.image)
        unlabelled = weaken(unlabelled_keys[:, :2], batch.unlabelled)
        if compares:
            # A number that no row reaches.
            apart = jax.random.fold_in(unlabelled_key, 2**32 - 1)
            again = keys_of(apart, len(batch.unlabelled))[:, :2]
            other = weaken(again, batch.unlabelled)
    return Views(labelled, unlabelled, batch.label, batch.spread, keys, other, hard)


class Generated(NamedTuple):
    """Hard samples, and how they came about; labelled images first.

    Attributes:
        images: `[L + U, H, W, ch]`.
        logits: what the deformations were drawn from, `[L + U, ...]`.
        deformations: what was drawn, `[L + U, ...]`.
    """

    images: Float[Array, "B H W ch"]
    logits: DeformationLogits
    deformations: Deformation


def propose(anet_params: Params, views: Views, *, config: Config) -> DeformationLogits:
    """A-Net's logits for every image of the batch, labelled first.

    With `anet.kind = "random"` the logits are all equal and A-Net is not asked.
    """
    images = jnp.concatenate([views.labelled, views.unlabelled])
    ask = partial(build_anet(config).apply, {"params": anet_params})
    if config.anet.kind == "anet":
        return cast(DeformationLogits, ask(images))
    shapes = jax.eval_shape(ask, images)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def generate(
    anet_params: Params, views: Views, pace: PaceState, *, config: Config
) -> Generated:
    """Draw a deformation of every image, a window or a rotation, and apply it.

    Args:
        anet_params: A-Net's parameters.
        views: the batch.
        pace: how far windows and rotations reach.
        config: of the run.
    """
    logits = propose(anet_params, views, config=config)
    return draw_all(views, logits, pace, config=config)


def draw_all(
    views: Views, logits: DeformationLogits, pace: PaceState, *, config: Config
) -> Generated:
    """As `generate`, of logits that are known."""
    images = jnp.concatenate([views.labelled, views.unlabelled])
    draw = jax.vmap(partial(draw_hard, pace=pace, config=config))
    hard, deformations = draw(views.keys, images, logits)
    return Generated(hard, logits, deformations)


def draw_hard(
    key: Key[Array, ""],
    image: Float[Array, "H W ch"],
    logits: DeformationLogits,
    *,
    pace: PaceState,
    config: Config,
) -> tuple[Float[Array, "H W ch"], Deformation]:
    """A hard sample of an image, and the deformation that was drawn for it.

    Args:
        key: consumed.
        image: in [0, 1].
        logits: of the deformations of this image.
        pace: how far windows and rotations reach.
        config: of the family of deformations.
    """
    options, (height, width, channels) = config.anet, image.shape
    draw, keep, fill = jax.random.split(key, 3)
    deformation = transforms.draw_deformation(
        draw,
        logits,
        max_angle=max_angle(pace, config=config),
    )
    if options.max_degrees:
        deformation = transforms.window_or_rotation(keep, deformation)
    mean = jnp.broadcast_to(jnp.asarray(config.data.mean), (channels,))
    hard = transforms.deform(
        image,
        deformation,
        scales=options.scales,
        fill=transforms.fill_value(
            fill, kind=options.fill, height=height, width=width, mean=mean
        ),
        border=options.border,
        reach=pace.window,
    )
    return hard, deformation


def max_angle(pace: PaceState, *, config: Config) -> Float[Array, ""]:
    """Largest angle that a deformation reaches now, in radians."""
    return pace.angle * math.radians(config.anet.max_degrees)
