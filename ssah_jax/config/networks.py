"""The two networks, and which backbones, weights and images fit together."""

import dataclasses
import re

from ssah_jax.config.constraints import (
    SQUARE,
    at_least,
    between,
    by_rule,
    one_of,
)
from ssah_jax.config.data import DataConfig
from ssah_jax.config.fields import ConfigError, field, get, rule, wrong
from ssah_jax.networks.backbones import BACKBONES, SPECS, num_stages
from ssah_jax.networks.layers import NORMS
from ssah_jax.networks.weight_tables import CONVERTIBLE


@dataclasses.dataclass(frozen=True)
class HNetConfig:
    """The hashing network; see `ssah_jax.networks.hnet.HNet`."""

    backbone: str = field(
        "small_conv",
        'see docs/backbones.md; "features" goes with the data source of that name',
        one_of(*BACKBONES),
    )
    widths: tuple[int, ...] = field(
        (32, 64, 128), 'channels of the blocks of "small_conv"', at_least(1)
    )
    norm: str = field(
        "batch", "normalisation of the backbones that have any", one_of(*NORMS)
    )
    share_stats: bool = field(
        False, "let clean and generated images share batch statistics"
    )
    weights: str = field(
        "",
        'where the backbone starts from: a file, a URL, "hf:OWNER/NAME", '
        '"torchvision:NAME", "default" for the backbone\'s own, or the workdir of a '
        "run; empty for random values",
    )
    frozen: int = field(
        0,
        "leading stages of the backbone that do not learn",
        by_rule("0 to the backbone's stages, or -1 for all"),
    )
    dtype: str = field(
        "float32", "of the backbone's computation", one_of("float32", "bfloat16")
    )
    image_size: int = field(
        0,
        "images are resized to squares of so many pixels a side before the backbone; "
        "0 leaves them",
        at_least(0),
    )
    remat: bool = field(
        False, "compute activations again for the gradient instead of keeping them"
    )

    @property
    def frozen_stages(self) -> int:
        """How many stages of the backbone do not learn, from 0."""
        stages = num_stages(self.backbone, widths=self.widths)
        return stages if self.frozen == -1 else self.frozen


@dataclasses.dataclass(frozen=True)
class ANetConfig:
    """The adversarial network and the deformations it may choose."""

    kind: str = field(
        "anet",
        '"anet" learns deformations, "random" draws them uniformly from the same '
        'family, "stored" takes them from the stored views of features, "none" makes '
        "no hard samples",
        one_of("anet", "random", "stored", "none"),
    )
    width: int = field(16, "channels of its trunk", at_least(1))
    scales: tuple[float, ...] = field(
        (0.3, 0.5, 0.7),
        "window sides as shares of the image's",
        between(0, 1, "()"),
    )
    grid: int = field(7, "G, window positions a side", at_least(1))
    blocks: int = field(1, "A, rotated blocks", at_least(1), SQUARE)
    angle_bins: int = field(15, "N, bins of angles", at_least(1))
    max_degrees: float = field(90.0, "largest angle, in degrees", between(0, 180))
    draws: int = field(
        1,
        "deformations drawn for each image, of which the one is kept that flips most "
        "bits of the teacher's code",
        at_least(1),
    )
    fill: str = field("zero", "what a window shows", one_of("zero", "mean", "noise"))
    border: str = field(
        "zeros", "what lies outside a rotated image", one_of("zeros", "edge")
    )


@rule
def only_what_is_made_is_drawn(anet: ANetConfig) -> None:
    """Raise ConfigError if hard samples that nobody makes are to be drawn again."""
    if anet.draws > 1 and anet.kind not in ("anet", "random"):
        raise wrong("anet.draws", anet.draws, f"is 1 with anet.kind = {anet.kind!r}")


@rule
def frozen_stages_exist(hnet: HNetConfig) -> None:
    """Raise ConfigError if more stages are frozen than the backbone has."""
    stages = num_stages(hnet.backbone, widths=hnet.widths)
    if not -1 <= hnet.frozen <= stages:
        raise wrong(
            "hnet.frozen",
            hnet.frozen,
            f"for {hnet.backbone} are 0 to {stages} stages, or -1 for all",
        )


@rule
def backbone_takes_image_size(hnet: HNetConfig) -> None:
    """Raise ConfigError if images are resized to what the backbone does not take."""
    if hnet.image_size:
        side = hnet.image_size
        check_side(side, side, backbone=hnet.backbone, where="")


@rule
def weights_exist(hnet: HNetConfig) -> None:
    """Raise ConfigError if the backbone starts from what nobody has published."""
    if re.match("default$|hf:|torchvision:|https?:", hnet.weights):
        check_others_weights(hnet)
    if hnet.weights == "default" and not SPECS[hnet.backbone].weights:
        raise wrong(
            "hnet.weights",
            "default",
            f"for {hnet.backbone} is a file or a workdir, as it has no default weights",
        )


@rule
def features_go_together(hnet: HNetConfig, data: DataConfig) -> None:
    """Raise ConfigError unless stored features meet the backbone that passes them."""
    if (hnet.backbone == "features") != (data.source == "features"):
        raise wrong(
            "hnet.backbone",
            f"{hnet.backbone} with the data source {data.source}",
            "is features with features, and no other",
        )


@rule
def features_are_no_images(
    hnet: HNetConfig, anet: ANetConfig, data: DataConfig
) -> None:
    """Raise ConfigError if something would deform stored features."""
    if hnet.backbone != "features":
        if anet.kind == "stored":
            raise wrong("anet.kind", "'stored'", "is another without stored features")
        return
    if anet.kind not in ("none", "stored"):
        raise wrong(
            "anet.kind", repr(anet.kind), "are none and stored with stored features"
        )
    for name, group, wanted in (
        ("data.crop_size", data, 0),
        ("hnet.image_size", hnet, 0),
        ("hnet.weights", hnet, ""),
    ):
        found = get(group, name.partition(".")[2])
        if found != wanted:
            raise wrong(name, repr(found), f"is {wanted!r} with stored features")


def check_others_weights(hnet: HNetConfig) -> None:
    """Check that weights of others can be the backbone's.

    Raises:
        ConfigError: none exist for the backbone, or not for its normalisation.
    """
    if hnet.backbone not in CONVERTIBLE:
        raise wrong(
            "hnet.weights",
            repr(hnet.weights),
            f"for {hnet.backbone} is none or the workdir of a run; others' weights "
            f"exist for {', '.join(CONVERTIBLE)}",
        )
    if SPECS[hnet.backbone].normalised and hnet.norm != "batch":
        raise wrong("hnet.norm", hnet.norm, f"is batch with weights of {hnet.backbone}")


def check_side(height: int, width: int, *, backbone: str, where: str) -> None:
    """Check that a backbone takes images of a size.

    Args:
        height: of the images, in pixels.
        width: likewise.
        backbone: one of `BACKBONES`.
        where: what has images of this size; empty for `hnet.image_size`.

    Raises:
        ConfigError: they are too small, or no multiple of its patches.
    """
    spec = SPECS[backbone]
    found = f"{height} x {width} in {where}" if where else str(height)
    name, hint = "hnet.image_size", ""
    if where:
        name, hint = "hnet.backbone", "; config.hnet.image_size resizes them"
    if min(height, width) < spec.smallest:
        raise ConfigError(
            f"config.{name}: {backbone} accepts images of at least {spec.smallest} "
            f"pixels, found {found}{hint}"
        )
    if height % spec.multiple or width % spec.multiple:
        raise ConfigError(
            f"config.{name}: {backbone} accepts sides that are multiples of "
            f"{spec.multiple} pixels, found {found}{hint}"
        )
