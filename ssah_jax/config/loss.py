"""H-Net's losses: the hash loss with its options, and what SSAH adds to it."""

import dataclasses
from typing import TYPE_CHECKING, Any

from ssah_jax.config.constraints import (
    Constraint,
    at_least,
    between,
    more_than,
    one_of,
)
from ssah_jax.config.data import BatchConfig
from ssah_jax.config.fields import ConfigError, field, rule, walk, wrong
from ssah_jax.config.networks import ANetConfig
from ssah_jax.losses.by_name import HASH_LOSSES
from ssah_jax.losses.hash_loss import Option, parse_options


def _option(option: Option) -> Any:
    """The field that an option of a hash loss is."""
    constraints: tuple[Constraint, ...] = ()
    if option.kind is not bool:
        bound = more_than if option.above else at_least
        constraints = (bound(option.least),)
    return field(option.default, option.sentence, *constraints)


@dataclasses.dataclass(frozen=True)
class _Terms:
    """Weights (0 leaves a term out) and shapes of H-Net's losses.

    Every hash loss has a group of its name with its options, such as `loss.dch.gamma`.
    """

    name: str = field("dpn", "hash loss on labelled images", one_of(*HASH_LOSSES))
    options: str = field(
        "",
        "options of the hash loss in one line, such as scale=10,margin=0.3, instead of "
        "those in its group",
    )
    bank: int = field(
        0,
        "earlier labelled codes that pairs are also taken with; 0 for none",
        at_least(0),
    )
    balance: float = field(
        0.0, "weight of the balance of bits over the batch", at_least(0)
    )
    independence: float = field(
        0.0, "weight of the independence of bits over the batch", at_least(0)
    )
    hard: float = field(
        0.2,
        "weight of the hash loss of hard samples of labelled images",
        at_least(0),
    )
    consistent: float = field(
        0.5,
        "weight of the consistent loss: the hash loss of hard samples of unlabelled "
        "images, with labels that the teacher is sure of",
        at_least(0),
    )
    consistent_teacher: float = field(
        0.0,
        "weight of the squared error of pair probabilities, as in SSDPH",
        at_least(0),
    )
    consistent_graph: float = field(
        0.0, "weight of contrastive pairs of neighbours, as in SSDH", at_least(0)
    )
    consistent_spread: float = field(
        0.0,
        "weight of the hash loss of unlabelled images themselves, with labels that "
        "spread over the graph of images; see `graph`",
        at_least(0),
    )
    cross_view: float = field(
        0.0,
        "weight of the agreement of codes of two views of an unlabelled image, for "
        "which no label is needed",
        at_least(0),
    )
    coding_rate: float = field(
        0.3,
        "of the coding rate that keeps these codes apart, beside their agreement",
        at_least(0),
    )
    fade: float = field(
        0.8, "share of all steps over which that weight falls to 0", between(0, 1, "(]")
    )
    posterior_scale: float = field(
        10.0,
        "inverse temperature of the teacher's posterior, on cosines to class centres",
        more_than(0),
    )
    label_offset: float = field(
        -0.2,
        "cosine to a centre at which a label is as likely as not, where images have "
        "several labels; the lower, the farther codes keep from centres of others",
        between(-1, 1),
    )
    gate: float = field(
        0.95, "probability from which the teacher is believed", between(0.5, 1)
    )
    align: bool = field(True, "align the teacher's class distribution with the labels'")
    ramp: float = field(
        0.2,
        "share of all steps over which the consistent losses ramp up",
        between(0, 1),
    )

    @property
    def hash_options(self) -> dict[str, Any]:
        """The options of the hash loss that is `name`, all of them."""
        return dataclasses.asdict(getattr(self, self.name))


def _options_group(name: str) -> type:
    """The group of a hash loss: its options as fields."""
    hash_loss = HASH_LOSSES[name]
    return dataclasses.make_dataclass(
        f"{name}_options",
        [(x, option.kind, _option(option)) for x, option in hash_loss.options.items()],
        frozen=True,
        namespace={"__doc__": hash_loss.terms.__doc__},
    )


OPTION_GROUPS = {name: _options_group(name) for name in HASH_LOSSES}
"""The group of options of each hash loss, a field of `LossConfig`."""

if TYPE_CHECKING:

    class LossConfig(_Terms):
        """`_Terms`, and a group of options for each hash loss."""

else:
    LossConfig = dataclasses.make_dataclass(
        "LossConfig",
        [
            (name, cls, dataclasses.field(default_factory=cls))
            for name, cls in OPTION_GROUPS.items()
        ],
        bases=(_Terms,),
        frozen=True,
        namespace={"__doc__": _Terms.__doc__, "__module__": __name__},
    )


@dataclasses.dataclass(frozen=True)
class GraphConfig:
    """The graph over which labels spread before training; see `label_graph`."""

    features: str = field(
        "pixels",
        'what images are alike in: "pixels", or the directory of `ssah features` of '
        "the same images",
    )
    neighbours: int = field(10, "neighbours of each image", at_least(1))
    alpha: float = field(
        0.99, "share that an image takes from its neighbours", between(0, 1, "[)")
    )


def with_options_read(loss: LossConfig) -> LossConfig:
    """The same with what `options` says in the hash loss's group instead.

    Raises:
        ConfigError: it says what the hash loss does not accept, or the group has values
            of its own.
    """
    if not loss.options:
        return loss
    try:
        found = parse_options(loss.name, loss.options)
    except ValueError as error:
        raise ConfigError(f"config.loss.options: {error}") from None
    for option in walk(OPTION_GROUPS[loss.name]):
        value = getattr(getattr(loss, loss.name), option.name)
        if value != option.default:
            raise wrong(
                "loss.options",
                repr(loss.options),
                f"is '' beside config.loss.{loss.name}.{option.name} = {value!r}",
            )
    options = OPTION_GROUPS[loss.name](**found)
    return dataclasses.replace(loss, **{"options": "", loss.name: options})


@rule
def options_are_of_the_hash_loss(loss: LossConfig) -> None:
    """Raise ConfigError if a hash loss has options that is not taken."""
    for name, cls in OPTION_GROUPS.items():
        for option in walk(cls) if name != loss.name else ():
            value = getattr(getattr(loss, name), option.name)
            if value != option.default:
                raise wrong(
                    f"loss.{name}.{option.name}",
                    repr(value),
                    f"is {option.default!r} while config.loss.name is {loss.name}",
                )


@rule
def something_learns_without_labels(
    loss: LossConfig, batch: BatchConfig, anet: ANetConfig
) -> None:
    """Raise ConfigError if a batch without labels has nothing to learn, or needs some.

    What hard samples may be, and the other consistent losses, hang on what the teacher
    has learnt from labels.
    """
    if batch.labelled:
        return
    for name in (
        "consistent",
        "consistent_teacher",
        "consistent_graph",
        "consistent_spread",
        "balance",
        "independence",
        "bank",
    ):
        if getattr(loss, name):
            raise wrong(
                f"loss.{name}",
                getattr(loss, name),
                "is 0 while config.batch.labelled is 0; the preset unsupervised sets "
                "all that goes together",
            )
    if anet.kind != "none":
        raise wrong("anet.kind", anet.kind, "is none while config.batch.labelled is 0")
    if not loss.cross_view:
        raise wrong(
            "loss.cross_view",
            loss.cross_view,
            "is more than 0 while config.batch.labelled is 0: nothing else learns "
            "without labels",
        )


@rule
def bank_is_of_pairs(loss: LossConfig) -> None:
    """Raise ConfigError if codes are kept for a hash loss that compares none."""
    if loss.bank and not HASH_LOSSES[loss.name].pairs:
        raise wrong(
            "loss.bank",
            loss.bank,
            f"is 0 with {loss.name}, which compares no codes",
        )
