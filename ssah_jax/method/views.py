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
from ssah_jax.networks import ANet
from ssah_jax.types import Batch, Deformation, DeformationLogits, Params, Record


class Views(Record):
    """The batch as the networks see it.

    Attributes:
        labelled: weakly augmented labelled images, `[L, H, W, ch]` in [0, 1].
        unlabelled: weakly augmented unlabelled images, `[U, H, W, ch]` in [0, 1].
        label: multi-hot `[L, C]`.
        spread: see `Batch`, `[U, C]`, or None.
        keys: one for each image, labelled first, `[L + U]`, for deformations.
    """

    labelled: Float[Array, "L H W ch"]
    unlabelled: Float[Array, "U H W ch"]
    label: Float[Array, "L C"]
    spread: Float[Array, "U C"] | None
    keys: Key[Array, "B"]


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
    """Images as evaluation sees them: float in [0, 1], cropped in the middle."""
    image, size = to_float(image), config.data.crop_size
    if not size:
        return image
    return jax.vmap(partial(transforms.centre_crop, size=size))(image)


def make_views(
    key: Key[Array, ""], batch: Batch, *, config: Config, axis_name: str | None = None
) -> Views:
    """Decode to float and augment weakly: crop, shift and flip, as configured.

    Args:
        key: of the step, the same on all devices; consumed.
        batch: this device's share.
        config: of the run.
        axis_name: mapped axis.
    """

    def one(key: Array, image: Array) -> tuple[Array, Array]:
        move, flip, rest = jax.random.split(key, 3)
        image, size = to_float(image), config.data.crop_size
        if size:
            move, cut = jax.random.split(move)
            image = transforms.random_crop(cut, image, size=size)
        image = transforms.random_shift(move, image, max_shift=config.data.max_shift)
        if config.data.flip:
            image = transforms.random_flip(flip, image)
        return image, rest

    def stream(key: Array, images: Array) -> tuple[Array, Array]:
        rows = first_row(len(images), axis_name) + jnp.arange(len(images))
        keys = jax.vmap(partial(jax.random.fold_in, key))(rows)
        return jax.vmap(one)(keys, images)

    labelled_key, unlabelled_key = jax.random.split(key)
    labelled, keys = stream(labelled_key, batch.image)
    unlabelled, more = stream(unlabelled_key, batch.unlabelled)
    keys = jnp.concatenate([keys, more])
    return Views(labelled, unlabelled, batch.label, batch.spread, keys)


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


def generate(anet_params: Params, views: Views, *, config: Config) -> Generated:
    """Draw a deformation of every image, a window or a rotation, and apply it."""
    options = config.anet
    images = jnp.concatenate([views.labelled, views.unlabelled])
    _, height, width, channels = images.shape
    logits = propose(anet_params, views, config=config)
    mean = jnp.broadcast_to(jnp.asarray(config.data.mean), (channels,))

    def one(
        key: Array, image: Array, logits: DeformationLogits
    ) -> tuple[Array, Deformation]:
        draw, keep, fill = jax.random.split(key, 3)
        deformation = transforms.draw_deformation(
            draw,
            logits,
            max_angle=max_angle(config),
        )
        if options.max_degrees:
            deformation = transforms.window_or_rotation(keep, deformation)
        hard = transforms.deform(
            image,
            deformation,
            scales=options.scales,
            fill=transforms.fill_value(
                fill, kind=options.fill, height=height, width=width, mean=mean
            ),
            border=options.border,
        )
        return hard, deformation

    hard, deformations = jax.vmap(one)(views.keys, images, logits)
    return Generated(hard, logits, deformations)


def max_angle(config: Config) -> float:
    """Largest angle of a deformation, in radians."""
    return math.radians(config.anet.max_degrees)
