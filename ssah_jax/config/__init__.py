"""Configuration: a ConfigDict at the edge, frozen dataclasses within.

A file in `configs/` starts from `default()`, a locked `ConfigDict`, and changes what
differs. `from_config_dict` turns it into a validated `Config` before anything
compiles; the library itself sees only the frozen dataclasses below.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from ml_collections import ConfigDict

from ssah_jax.data.images import RESIZES
from ssah_jax.data.protocols import PROTOCOLS
from ssah_jax.losses.by_name import METHODS, POINTWISE, parse_options
from ssah_jax.networks.backbones import BACKBONES, SPECS, num_stages
from ssah_jax.networks.layers import NORMS
from ssah_jax.networks.weight_tables import CONVERTIBLE
from ssah_jax.pacing import WEIGHT_KINDS

SOURCES = (
    *("digits", "idx", "synthetic", "folder", "list", "nus_wide", "tfds"),
    "features",
)
"""Accepted words for where images come from."""


class ConfigError(ValueError):
    """A user's configuration is wrong; the message is one line that says where."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are split.

    Attributes:
        source: "digits", "idx", "synthetic", "folder", "list", "nus_wide", "tfds", or
            "features" of images instead of these.
        name: of a "tfds" data set, such as "cifar10".
        path: of an "idx", "folder", "list" or "nus_wide" source: its directory, or
            for "folder" a table of paths and labels (.csv, .tsv, .parquet); of a
            "tfds" source, where it was prepared (empty for TFDS's own default); of
            "features", the directory of `ssah features`.
        images: directory of the images that a list or table names, if not its own;
            relative to that.
        label: name of the label feature of a "tfds" data set that has several.
        separator: between the labels of an image in a table.
        concepts: of "nus_wide": the 21 most frequent ones or all 81.
        image_size: images become squares of so many pixels a side when they are
            read; 0 leaves them as stored.
        resize: how they do: "crop" (shorter side resized, middle kept) or "squash".
        channels: 3, or 1 for grey images; of sources that decode files.
        crop_size: weak augmentation cuts a random square of so many pixels a side,
            evaluation the middle one; 0 for none.
        store: "disk" reads images when they are asked for, "memory" decodes them once,
            "device" also keeps them on every device. Results are the same.
        threads: that decode batches ahead, for each stream.
        on_error: what an image that cannot be read does: "raise" or "skip".
        max_skipped: share of images that may be missing or skipped; training stops
            beyond.
        protocol: named split; see `ssah_jax.data.protocols`.
        num_queries: images that are queries; 0 takes the whole official test part, with
            protocols that draw them from it.
        num_validation: images that are validation queries.
        num_labelled: labelled images of the protocol "nus_wide_81".
        unseen_share: of classes that the protocol "unseen" holds out.
        mean: of each channel in [0, 1]; one value serves all channels.
        std: of each channel.
        max_shift: weak augmentation shifts by up to so many pixels.
        flip: weak augmentation mirrors half of the images.
        multi_label: whether an image may have several labels.
    """

    source: str = "digits"
    name: str = ""
    path: str = ""
    images: str = ""
    label: str = ""
    separator: str = "|"
    concepts: int = 21
    image_size: int = 0
    resize: str = "crop"
    channels: int = 3
    crop_size: int = 0
    store: str = "disk"
    threads: int = 4
    on_error: str = "raise"
    max_skipped: float = 0.01
    protocol: str = "low_label"
    num_queries: int = 1000
    num_validation: int = 1000
    num_labelled: int = 0
    unseen_share: float = 0.25
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    max_shift: int = 2
    flip: bool = False
    multi_label: bool = False


@dataclasses.dataclass(frozen=True)
class BatchConfig:
    """Images in a step, over all devices.

    Attributes:
        labelled: L.
        unlabelled: U.
    """

    labelled: int = 64
    unlabelled: int = 128


@dataclasses.dataclass(frozen=True)
class HNetConfig:
    """The hashing network; see `ssah_jax.networks.hnet.HNet`.

    Attributes:
        backbone: one of `ssah_jax.networks.backbones.SPECS`; "features" goes with
            the source of that name.
        widths: channels of the blocks of "small_conv".
        norm: "batch", "group" or "none".
        share_stats: let clean and generated images share batch statistics.
        weights: where the backbone starts from: a file, a URL, "hf:OWNER/NAME" or
            "torchvision:NAME" as in `ssah_jax.networks.pretrained.locate`, "default"
            for the backbone's own, or the workdir of a run; empty for random values.
        frozen: leading stages of the backbone that do not learn; -1 for all.
        dtype: of the backbone's computation: "float32" or "bfloat16".
        image_size: images are resized to squares of so many pixels a side before the
            backbone; 0 leaves them.
    """

    backbone: str = "small_conv"
    widths: tuple[int, ...] = (32, 64, 128)
    norm: str = "batch"
    share_stats: bool = False
    weights: str = ""
    frozen: int = 0
    dtype: str = "float32"
    image_size: int = 0

    @property
    def frozen_stages(self) -> int:
        """How many stages of the backbone do not learn, from 0."""
        stages = num_stages(self.backbone, widths=self.widths)
        return stages if self.frozen == -1 else self.frozen


@dataclasses.dataclass(frozen=True)
class ANetConfig:
    """The adversarial network and the deformations it may choose.

    Attributes:
        kind: "anet" learns deformations, "random" draws them uniformly from the same
            family, "none" makes no hard samples.
        candidates: deformations that kind "random" draws for each image; the hardest
            that H-Net accepts is taken, at the price of as many forward passes.
        trainer: estimator of A-Net's gradient through the draw: "straight_through",
            or "score" (the score function, which tries instead of extrapolating).
        width: channels of its trunk.
        scales: window sides as shares of the image's.
        grid: G, window positions a side.
        blocks: A, rotated blocks: 1, 4, 9, ...
        angle_bins: N.
        max_degrees: largest angle, in degrees.
        temperature: of the Gumbel-softmax relaxation.
        fill: what a window shows: "zero", "mean" or "noise".
        border: what lies outside a rotated image: "zeros" or "edge".
        entropy_floor: least entropy of each image's choices, a share of the maximum.
        scale_entropy_floor: least entropy of the scales' mean over the batch.
        position_entropy_floor: the same of window positions.
        angle_entropy_floor: the same of angles.
        entropy_weight: of both penalties beside the pursuit of the threshold.
    """

    kind: str = "anet"
    candidates: int = 1
    trainer: str = "score"
    width: int = 16
    scales: tuple[float, ...] = (0.2, 0.35, 0.5)
    grid: int = 7
    blocks: int = 1
    angle_bins: int = 7
    max_degrees: float = 30.0
    temperature: float = 1.0
    fill: str = "zero"
    border: str = "zeros"
    entropy_floor: float = 0.3
    scale_entropy_floor: float = 0.98
    position_entropy_floor: float = 0.98
    angle_entropy_floor: float = 0.98
    entropy_weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights (0 leaves a term out) and shapes of H-Net's losses.

    Attributes:
        name: hash loss on labelled images, one of `ssah_jax.losses.by_name.METHODS`;
            "ssah" takes the six fields from `pair` to `quantisation`.
        options: of any other hash loss where they are not its preset, such as
            "scale=10,margin=0.3".
        bank: earlier labelled codes that pairs are also taken with; 0 for none.
        balance: weight of the balance of bits over the batch.
        independence: weight of the independence of bits over the batch.
        pair: weight of the balanced logistic pair loss.
        pair_alpha: logit of two equal codes.
        point: weight of the pointwise loss towards class centres.
        point_scale: inverse temperature of its softmax.
        point_margin: margin on the cosine to the true centre.
        quantisation: weight of the quantisation loss.
        hard: weight of similarity on paced generated labelled images.
        consistent: weight of the consistent loss towards class centres.
        consistent_pair: weight of the consistent loss on pairs with labelled images.
        consistent_teacher: weight of the squared error of pair probabilities, as in
            SSDPH.
        consistent_graph: weight of contrastive pairs of neighbours, as in SSDH.
        consistent_spread: weight of the consistent loss of images themselves towards
            what labels say that spread over the graph of images; see `GraphConfig`.
        fade: share of all steps over which that weight falls to 0, in (0, 1].
        label_offset: cosine to a centre at which a label is as likely as not, where
            images have several labels.
        gate: probability from which the teacher is believed.
        align: align the teacher's class distribution with the labels'.
        ramp: share of all steps over which the consistent losses ramp up.
    """

    name: str = "ssah"
    options: str = ""
    bank: int = 0
    balance: float = 0.0
    independence: float = 0.0
    pair: float = 0.5
    pair_alpha: float = 8.0
    point: float = 1.0
    point_scale: float = 10.0
    point_margin: float = 0.2
    quantisation: float = 0.1
    hard: float = 1.0
    consistent: float = 1.0
    consistent_pair: float = 0.0
    consistent_teacher: float = 0.0
    consistent_graph: float = 0.0
    consistent_spread: float = 0.0
    fade: float = 0.8
    label_offset: float = 0.3
    gate: float = 0.9
    align: bool = True
    ramp: float = 0.2


@dataclasses.dataclass(frozen=True)
class GraphConfig:
    """The graph over which labels spread before training; see `label_graph`.

    Attributes:
        features: what images are alike in: "pixels", or the directory of
            `ssah features` of the same images.
        neighbours: of each image.
        alpha: share that an image takes from its neighbours, in [0, 1).
    """

    features: str = "pixels"
    neighbours: int = 10
    alpha: float = 0.99


@dataclasses.dataclass(frozen=True)
class PaceConfig:
    """The self-paced policy; see `ssah_jax.pacing`.

    Attributes:
        rule: "schedule" (linear over the run) or "feedback".
        weight: self-paced regulariser: "hard", "linear" or "log".
        start: threshold at the first step, a share of bits.
        end: largest threshold.
        rate: feedback's change of a step.
        slack: H-Net accepts samples up to (1 + slack) times the threshold.
        target: feedback aims at this share of samples no harder than the threshold.
        tolerance: feedback raises the threshold while that share is within this of
            `target`, and lowers it when the share is larger.
    """

    rule: str = "schedule"
    weight: str = "hard"
    start: float = 0.1
    end: float = 0.15
    rate: float = 5e-4
    slack: float = 5.0
    target: float = 0.6
    tolerance: float = 0.1


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Both optimisers (AdamW for H-Net, Adam for A-Net) and the teacher.

    Attributes:
        learning_rate: H-Net's largest; warms up linearly, falls as a cosine to 0.
        anet_learning_rate: A-Net's, constant.
        warmup: share of all steps of the warm-up.
        weight_decay: of H-Net's matrices and kernels.
        clip_norm: largest global norm of either gradient.
        ema_decay: of the teacher, reached gradually: min(decay, (1 + t) / (10 + t)).
        backbone_rate: factor on the learning rate of the backbone's parameters; 0.05
            to 0.1 is common with pretrained weights.
    """

    learning_rate: float = 2e-3
    anet_learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 5e-4
    clip_norm: float = 5.0
    ema_decay: float = 0.995
    backbone_rate: float = 1.0


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Validation in training, and the final evaluation.

    Attributes:
        every: steps between evaluations on validation queries; 0 for never.
        batch: images encoded at once, over all devices.
        top_k: cut-off of mAP; 0 ranks the whole database.
        precision_at: ranks at which precision is reported.
        max_database: validation ranks at most so many database images; the final
            evaluation ranks all.
    """

    every: int = 500
    batch: int = 512
    top_k: int = 0
    precision_at: tuple[int, ...] = (100, 500, 1000)
    max_database: int = 10_000


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides a run. Two runs with equal configs are equal.

    Attributes:
        seed: of the split, the initial parameters and every random draw.
        bits: K.
        labels_per_class: labelled images of each class; 0 for all there are.
        steps: training steps.
        log_every: steps between lines of metrics.jsonl.
        checkpoint_every: steps between checkpoints.
        data: see `DataConfig`.
        batch: see `BatchConfig`.
        hnet: see `HNetConfig`.
        anet: see `ANetConfig`.
        loss: see `LossConfig`.
        graph: see `GraphConfig`.
        pace: see `PaceConfig`.
        optim: see `OptimConfig`.
        eval: see `EvalConfig`.
    """

    seed: int = 0
    bits: int = 32
    labels_per_class: int = 50
    steps: int = 2000
    log_every: int = 20
    checkpoint_every: int = 500
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    batch: BatchConfig = dataclasses.field(default_factory=BatchConfig)
    hnet: HNetConfig = dataclasses.field(default_factory=HNetConfig)
    anet: ANetConfig = dataclasses.field(default_factory=ANetConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    graph: GraphConfig = dataclasses.field(default_factory=GraphConfig)
    pace: PaceConfig = dataclasses.field(default_factory=PaceConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)


def default() -> ConfigDict:
    """The default configuration as a locked ConfigDict, for files in `configs/`."""
    return ConfigDict(dataclasses.asdict(Config())).lock()


def from_config_dict(values: Mapping[str, Any] | ConfigDict) -> Config:
    """Convert and validate.

    Args:
        values: a ConfigDict or any nested mapping of `Config`'s fields; what is left
            out keeps its default.

    Raises:
        ConfigError: on an unknown field, a wrong type or a value out of range.
    """
    config = _build(Config, values, prefix="")
    _validate(config)
    return config


def to_json(config: Config) -> str:
    """The configuration as JSON; `from_json` inverts it."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str) -> Config:
    """Read what `to_json` wrote, with the same checks as `from_config_dict`."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"config: found no JSON ({error}), accepted is JSON"
        ) from None
    config = _build(Config, values, prefix="")
    _validate(config)
    return config


def differences(found: Config, wanted: Config) -> list[str]:
    """One line `field: found value, wanted value` for each field that differs."""
    a, b = flatten(dataclasses.asdict(found)), flatten(dataclasses.asdict(wanted))
    return [f"{k}: {a[k]!r} there, {b[k]!r} asked for" for k in a if a[k] != b[k]]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields of nested groups by their full names, `{"data.name": ...}`."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


T = TypeVar("T")


def _build(cls: type[T], values: Any, *, prefix: str) -> T:
    if isinstance(values, ConfigDict):
        values = values.to_dict()
    if not isinstance(values, Mapping):
        where = f"config.{prefix}".rstrip(".")
        raise ConfigError(f"{where}: found {values!r}, accepted is a group of fields")
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(
            f"config.{prefix}{unknown[0]}: no such field; "
            f"accepted are {', '.join(sorted(hints))}"
        )
    fields = {}
    for name, value in values.items():
        kind = hints[name]
        where = f"config.{prefix}{name}"
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            fields[name] = _build(kind, value, prefix=f"{prefix}{name}.")
        else:
            fields[name] = _convert(value, kind, where)
    return cls(**fields)


def _convert(value: Any, kind: Any, where: str) -> Any:
    if kind in (tuple[float, ...], tuple[int, ...]):
        item = float if kind == tuple[float, ...] else int
        if isinstance(value, list | tuple):
            return tuple(_convert(v, item, where) for v in value)
        return (_convert(value, item, where),)
    if kind is float and type(value) in (int, float):
        # Also false for NaN.
        if not abs(value) <= sys.float_info.max:
            raise ConfigError(f"{where}: found {value}, accepted is a finite number")
        return float(value)
    if isinstance(value, ConfigDict):
        value = value.to_dict()  # Its repr takes several lines.
    if type(value) is not kind:
        raise ConfigError(
            f"{where}: found {value!r} ({type(value).__name__}), "
            f"accepted is {kind.__name__}"
        )
    return value


def _validate(config: Config) -> None:
    """Raise ConfigError at the first field whose value cannot work."""

    def check(ok: Callable[[Any], bool], accepted: str, *names: str) -> None:
        for name in names:
            value: Any = config
            for part in name.split("."):
                value = getattr(value, part)
            values = value if isinstance(value, tuple) else (value,)
            if not values or not all(ok(v) for v in values):
                raise ConfigError(
                    f"config.{name}: found {value!r}, accepted is {accepted}"
                )

    def one_of(name: str, words: tuple[str, ...]) -> None:
        check(lambda v: v in words, "one of " + ", ".join(words), name)

    positive = "bits steps log_every checkpoint_every data.threads"
    check(lambda v: v >= 1, "at least 1", *positive.split())
    check(
        lambda v: v >= 1,
        "at least 1",
        *[
            "hnet.widths",
            "anet.width",
            "anet.candidates",
            "anet.grid",
        ],
        *["anet.blocks", "anet.angle_bins", "eval.batch", "eval.precision_at"],
        *["eval.max_database", "graph.neighbours"],
    )
    # Of one image there are no pairs, and batch moments make its code 0.
    check(lambda v: v >= 2, "at least 2", "batch.labelled", "batch.unlabelled")
    check(
        lambda v: v >= 0,
        "at least 0",
        *["data.num_validation", "data.max_shift", "eval.every", "eval.top_k"],
        *["labels_per_class", "data.num_queries", "data.num_labelled"],
        *["data.image_size", "data.crop_size", "hnet.image_size"],
        "optim.backbone_rate",
        *[
            "loss.pair",
            "loss.point",
            "loss.quantisation",
            "loss.hard",
            "loss.consistent",
        ],
        *["loss.consistent_pair", "loss.consistent_teacher", "loss.consistent_graph"],
        "loss.consistent_spread",
        *["loss.bank", "loss.balance", "loss.independence"],
        *["loss.point_margin", "anet.entropy_weight"],
        *["pace.rate", "pace.slack", "optim.weight_decay", "optim.anet_learning_rate"],
    )
    check(
        lambda v: v > 0,
        "more than 0",
        *["data.std", "loss.pair_alpha", "loss.point_scale", "anet.temperature"],
        *["optim.learning_rate", "optim.clip_norm"],
    )
    check(
        lambda v: 0 <= v <= 1,
        "in [0, 1]",
        *[
            "data.mean",
            "data.max_skipped",
            "loss.ramp",
            "optim.warmup",
            "pace.target",
            "pace.tolerance",
        ],
        *["anet.entropy_floor", "anet.scale_entropy_floor"],
        *["anet.position_entropy_floor", "anet.angle_entropy_floor"],
    )
    check(lambda v: 0 <= v < 1, "in [0, 1)", "optim.ema_decay", "graph.alpha")
    check(lambda v: 0.5 <= v <= 1, "in [0.5, 1]", "loss.gate")
    check(lambda v: -1 <= v <= 1, "in [-1, 1]", "loss.label_offset")
    check(lambda v: 0 < v <= 1, "in (0, 1]", "loss.fade")
    check(lambda v: 0 < v < 1, "in (0, 1)", "anet.scales", "pace.start", "pace.end")
    check(lambda v: 0 < v < 1, "in (0, 1)", "data.unseen_share")
    check(lambda v: 0 <= v < 2**32, "in [0, 2**32)", "seed")
    check(lambda v: v in (1, 3), "1 or 3", "data.channels")
    check(lambda v: v in (21, 81), "21 or 81", "data.concepts")
    check(lambda v: 0 <= v <= 180, "in [0, 180]", "anet.max_degrees")
    check(
        lambda v: round(v**0.5) ** 2 == v,
        "a square number (1, 4, 9, ...)",
        "anet.blocks",
    )
    one_of("data.source", SOURCES)
    one_of("data.protocol", tuple(PROTOCOLS))
    one_of("data.resize", RESIZES)
    one_of("data.store", ("disk", "memory", "device"))
    one_of("data.on_error", ("raise", "skip"))
    one_of("hnet.backbone", BACKBONES)
    one_of("hnet.norm", NORMS)
    one_of("hnet.dtype", ("float32", "bfloat16"))
    one_of("anet.kind", ("anet", "random", "none"))
    one_of("anet.trainer", ("score", "straight_through"))
    one_of("anet.fill", ("zero", "mean", "noise"))
    one_of("anet.border", ("zeros", "edge"))
    one_of("loss.name", tuple(METHODS))
    one_of("pace.rule", ("feedback", "schedule"))
    one_of("pace.weight", WEIGHT_KINDS)
    _check_backbone(config)
    if config.anet.candidates > 1 and config.anet.kind != "random":
        raise ConfigError(
            f"config.anet.candidates: found {config.anet.candidates}, accepted is 1 "
            f"with anet.kind = {config.anet.kind!r}"
        )
    if config.pace.start > config.pace.end:
        raise ConfigError(
            f"config.pace.start: found {config.pace.start}, accepted is at most "
            f"config.pace.end = {config.pace.end}"
        )
    loss = config.loss
    if loss.name == "ssah" and loss.options:
        raise ConfigError(
            f"config.loss.options: found {loss.options!r}, accepted is '' for ssah, "
            "whose options are fields of config.loss"
        )
    try:
        parse_options(loss.name, loss.options)
    except ValueError as error:
        raise ConfigError(f"config.loss.options: {error}") from None
    if loss.bank and loss.name in POINTWISE:
        raise ConfigError(
            f"config.loss.bank: found {loss.bank}, accepted is 0 with {loss.name}, "
            "which compares no codes"
        )
    data = config.data
    if data.image_size and data.crop_size > data.image_size:
        raise ConfigError(
            f"config.data.crop_size: found {data.crop_size}, accepted is at most "
            f"config.data.image_size = {data.image_size}"
        )
    if config.eval.every and not config.data.num_validation:
        raise ConfigError(
            "config.data.num_validation: found 0, accepted is at least 1 while "
            f"config.eval.every is {config.eval.every}"
        )
    if len(config.data.mean) != len(config.data.std):
        raise ConfigError(
            f"config.data.std: found {len(config.data.std)} values, accepted are as "
            f"many as in config.data.mean, {len(config.data.mean)}"
        )


def _check_backbone(config: Config) -> None:
    """Raise ConfigError if fields of H-Net do not fit its backbone."""
    hnet = config.hnet
    name, spec = hnet.backbone, SPECS[hnet.backbone]
    stages = num_stages(name, widths=hnet.widths)
    if not -1 <= hnet.frozen <= stages:
        raise ConfigError(
            f"config.hnet.frozen: found {hnet.frozen}, accepted for {name} are 0 to "
            f"{stages} stages, or -1 for all"
        )
    anet = config.anet
    learns = anet.kind == "anet" and anet.trainer == "straight_through"
    if hnet.frozen and learns:
        # No gradient reaches the images through a frozen stage.
        raise ConfigError(
            f"config.anet.trainer: found {anet.trainer}, accepted is score while "
            f"config.hnet.frozen is {hnet.frozen}"
        )
    if hnet.image_size:
        check_side(hnet.image_size, hnet.image_size, backbone=name, where="")
    if re.match("default$|hf:|torchvision:|https?:", hnet.weights):
        check_others_weights(config)
    if hnet.weights == "default" and not spec.weights:
        raise ConfigError(
            f"config.hnet.weights: found default, accepted for {name} is a file or a "
            "workdir, as it has no default weights"
        )
    if (name == "features") != (config.data.source == "features"):
        raise ConfigError(
            f"config.hnet.backbone: found {name} with the data source "
            f"{config.data.source}, accepted is features with features, and no other"
        )
    if name == "features":
        for field, value in (
            ("anet.kind", "none"),
            ("data.crop_size", 0),
            ("hnet.image_size", 0),
            ("hnet.weights", ""),
        ):
            group, _, last = field.partition(".")
            found = getattr(getattr(config, group), last)
            if found != value:
                raise ConfigError(
                    f"config.{field}: found {found!r}, accepted is {value!r} with "
                    "stored features"
                )


def check_others_weights(config: Config) -> None:
    """Check that weights of others can be the backbone's.

    Raises:
        ConfigError: none exist for the backbone, or not for its normalisation.
    """
    hnet = config.hnet
    if hnet.backbone not in CONVERTIBLE:
        raise ConfigError(
            f"config.hnet.weights: found {hnet.weights!r}, accepted for "
            f"{hnet.backbone} is none or the workdir of a run; others' weights exist "
            f"for {', '.join(CONVERTIBLE)}"
        )
    if SPECS[hnet.backbone].normalised and hnet.norm != "batch":
        raise ConfigError(
            f"config.hnet.norm: found {hnet.norm}, accepted is batch with weights of "
            f"{hnet.backbone}"
        )


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
    field, hint = "hnet.image_size", ""
    if where:
        field, hint = "hnet.backbone", "; config.hnet.image_size resizes them"
    if min(height, width) < spec.smallest:
        raise ConfigError(
            f"config.{field}: {backbone} accepts images of at least {spec.smallest} "
            f"pixels, found {found}{hint}"
        )
    if height % spec.multiple or width % spec.multiple:
        raise ConfigError(
            f"config.{field}: {backbone} accepts sides that are multiples of "
            f"{spec.multiple} pixels, found {found}{hint}"
        )
