"""What a run must know of a hash loss, and the list that they are entered in."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import NamedTuple, TypeVar, get_args

from ssah_jax.types import Metrics


class Option(NamedTuple):
    """An option of a hash loss; in a signature, its type and default stand there.

    Attributes:
        sentence: what it is.
        least: numbers are at least this.
        above: numbers are more than `least`.
        kind: float, int or bool.
        default: the preset.
    """

    sentence: str
    least: int | float = 0
    above: bool = False
    kind: type = float
    default: int | float = 0


@dataclasses.dataclass(frozen=True)
class HashLoss:
    """A hash loss, and what a run must know of it.

    Attributes:
        terms: of a `Labelled` and the options, the weighted terms by name.
        fixed_centres: it draws codes to fixed centres; otherwise centres are the
            running means of classes.
        classifier: it trains a classifier of codes, in the place of centres.
        pairs: it compares codes with each other, so that a bank is of use.
    """

    terms: Callable[..., Metrics]
    fixed_centres: bool = False
    classifier: bool = False
    pairs: bool = True

    @property
    def options(self) -> dict[str, Option]:
        """Its options by name, with their types and presets."""
        found = {}
        for name, parameter in inspect.signature(self.terms).parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                kind, option = get_args(parameter.annotation)
                found[name] = option._replace(kind=kind, default=parameter.default)
        return found


Terms = TypeVar("Terms", bound=Callable[..., Metrics])

HASH_LOSSES: dict[str, HashLoss] = {}
"""Accepted words of `config.loss.name`."""


def hash_loss(
    *, fixed_centres: bool = False, classifier: bool = False, pairs: bool = True
) -> Callable[[Terms], Terms]:
    """Enter a function into `HASH_LOSSES`, as a `HashLoss` with these attributes."""

    def enter(terms: Terms) -> Terms:
        HASH_LOSSES[terms.__name__] = HashLoss(terms, fixed_centres, classifier, pairs)
        return terms

    return enter


def parse_options(name: str, text: str) -> dict[str, int | float]:
    """Options of a hash loss from `"margin=0.3,scale=10"`.

    Raises:
        ValueError: if an option does not exist, or is no number that it accepts.
    """
    known = HASH_LOSSES[name].options
    found: dict[str, int | float] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        key, _, value = item.partition("=")
        option = known.get(key)
        number = None if option is None else _number(option, value)
        if number is None:
            accepted = ", ".join(f"{k}={v.default:g}" for k, v in known.items())
            option = option or Option("")
            whole = "whole " if option.kind is int else ""
            bound = "more than" if option.above else "at least"
            raise ValueError(
                f"found {item!r}, accepted for {name} are {whole}numbers of {bound} "
                f"{option.least:g}, by default {accepted}"
            )
        found[key] = number
    return found


def _number(option: Option, text: str) -> int | float | None:
    """What a text says of an option; None for what that does not accept."""
    try:
        number = float(text)
    except ValueError:
        return None
    if not option.least <= number < float("inf"):
        return None
    if option.above and number == option.least:
        return None
    # No half bins, no half truths.
    return option.kind(number) if option.kind(number) == number else None
