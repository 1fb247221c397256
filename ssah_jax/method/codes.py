"""H-Net as a function of images, and how far a deformation moves its codes."""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ssah_jax import pacing, similarity
from ssah_jax.config import Config
from ssah_jax.losses.reduce import all_rows, first_row
from ssah_jax.networks import Domain, HNet
from ssah_jax.networks.backbones import SPECS
from ssah_jax.networks.weight_tables import CONVERTIBLE
from ssah_jax.types import HashOutputs, Params


class CleanCodes(NamedTuple):
    """Codes of a batch before deformation, which hardness is measured against.

    Attributes:
        labelled: `[L, K]`.
        unlabelled: `[U, K]`; carries no gradient.
    """

    labelled: Float[Array, "L K"]
    unlabelled: Float[Array, "U K"]


def build_hnet(config: Config, *, axis_name: str | None = None) -> HNet:
    """H-Net as configured; batch moments are averaged over `axis_name`.

    Where the backbone begins with others' weights, its images are normalised as these
    expect, and not by the moments of the data set.
    """
    spec = SPECS[config.hnet.backbone]
    others = bool(config.hnet.weights) and config.hnet.backbone in CONVERTIBLE
    stored = config.hnet.backbone == "features"
    return HNet(
        bits=config.bits,
        mean=spec.mean if others or stored else config.data.mean,
        std=spec.std if others or stored else config.data.std,
        backbone=config.hnet.backbone,
        widths=config.hnet.widths,
        norm=config.hnet.norm,
        share_stats=config.hnet.share_stats,
        axis_name=axis_name,
        dtype=config.hnet.dtype,
        frozen=config.hnet.frozen_stages,
        image_size=config.hnet.image_size,
        channels=3 if others else 0,
    )


def hash_images(
    params: Params,
    stats: Params,
    images: Float[Array, "B H W ch"],
    *,
    domain: Domain,
    config: Config,
    axis_name: str | None,
) -> tuple[Float[Array, "B K"], Params]:
    """Hash images in training mode: codes, and the new running statistics.

    With `optim.accumulate` images pass in so many parts, one after another, of which
    one at a time is held for the gradient; with `hnet.remat` the gradient computes the
    network again. Codes are those of one pass, so whatever compares them still sees
    the whole batch.
    """

    def pass_(params: Params, images: Array) -> tuple[Array, Params]:
        outputs, updates = build_hnet(config, axis_name=axis_name).apply(
            {"params": params, "batch_stats": stats},
            images,
            domain=domain,
            train=True,
            mutable=["batch_stats"],
        )
        return outputs.code, updates.get("batch_stats", stats)

    parts = config.optim.accumulate
    if config.hnet.remat or parts > 1:
        pass_ = jax.checkpoint(pass_)
    if parts == 1:
        return pass_(params, images)
    # Moments of a part would not be those of the batch: set-up refuses such networks.
    split = images.reshape(parts, -1, *images.shape[1:])
    codes = jax.lax.map(lambda part: pass_(params, part)[0], split)
    return codes.reshape(len(images), -1), stats


def describe(
    params: Params, stats: Params, images: Float[Array, "B H W ch"], *, config: Config
) -> HashOutputs:
    """Codes and features of images by running statistics, not those of the batch."""
    variables = {"params": params, "batch_stats": stats}
    return cast(HashOutputs, build_hnet(config).apply(variables, images))


def encode(
    params: Params, stats: Params, images: Float[Array, "B H W ch"], *, config: Config
) -> Float[Array, "B K"]:
    """Real-valued codes of images, as of `describe`."""
    return describe(params, stats, images, config=config).code


def batch_hardness(
    hard: Float[Array, "B K"],
    clean: CleanCodes,
    label: Float[Array, "L C"],
    *,
    axis_name: str | None,
) -> Float[Array, "B"]:
    """Hardness of every generated sample, labelled first, `[L + U]`.

    Args:
        hard: codes of the generated samples, `[L + U, K]`.
        clean: codes of what they were generated from; constants.
        label: multi-hot `[L, C]`.
        axis_name: mapped axis; pairs are global.
    """
    others, similar, where = label_pairs(clean.labelled, label, axis_name)
    number = len(label)
    labelled = pacing.pair_hardness(
        hard[:number], clean.labelled, others, similar, where
    )
    unlabelled = pacing.bit_flips(hard[number:], clean.unlabelled)
    return jnp.concatenate([labelled, unlabelled])


def label_pairs(
    codes: Float[Array, "L K"], label: Float[Array, "L C"], axis_name: str | None
) -> tuple[Float[Array, "M K"], Bool[Array, "L M"], Bool[Array, "L M"]]:
    """Codes of all devices, which local rows they are similar to, and which count."""
    others = all_rows(codes, axis_name)
    similar = similarity.labels_overlap(label, all_rows(label, axis_name))
    rows = first_row(len(codes), axis_name)
    return others, similar, similarity.not_self(rows, len(codes), len(others))
