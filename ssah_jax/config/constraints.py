"""What a field accepts: named objects that can say it and check it."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Constraint:
    """What one value of a field may be, beside being of its type.

    Attributes:
        accepted: in words that follow "accepted is".
        holds: whether a value is that.
        schema: the same as keywords of JSON Schema, as far as these can say it.
    """

    accepted: str
    holds: Callable[[Any], bool]
    schema: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def at_least(least: int | float) -> Constraint:
    """A number that is not below `least`."""
    return Constraint(f"at least {least:g}", lambda x: x >= least, {"minimum": least})


def more_than(bound: int | float) -> Constraint:
    """A number above `bound`."""
    return Constraint(
        f"more than {bound:g}", lambda x: x > bound, {"exclusiveMinimum": bound}
    )


def between(low: int | float, high: int | float, ends: str = "[]") -> Constraint:
    """A number of an interval; `ends` are its brackets, round where it is open."""
    above, below = "[(".index(ends[0]), "])".index(ends[1])
    return Constraint(
        f"in {ends[0]}{low:g}, {high:g}{ends[1]}",
        lambda x: (
            (low < x if above else low <= x) and (x < high if below else x <= high)
        ),
        {
            ("minimum", "exclusiveMinimum")[above]: low,
            ("maximum", "exclusiveMaximum")[below]: high,
        },
    )


def one_of(*words: str) -> Constraint:
    """One of some words."""
    return Constraint(
        f"one of {', '.join(words)}", lambda x: x in words, {"enum": list(words)}
    )


def either(*numbers: int) -> Constraint:
    """One of some numbers."""
    return Constraint(
        " or ".join(map(str, numbers)), lambda x: x in numbers, {"enum": list(numbers)}
    )


def by_rule(accepted: str) -> Constraint:
    """What a rule checks, as it depends on other fields; this only says it."""
    return Constraint(accepted, lambda x: True)


SEED = Constraint(
    "in [0, 2**32)",
    lambda x: 0 <= x < 2**32,
    {"minimum": 0, "exclusiveMaximum": 2**32},
)
"""What seeds a random generator."""

SQUARE = Constraint(
    "a square number (1, 4, 9, ...)", lambda x: x >= 0 and math.isqrt(x) ** 2 == x
)
"""As many as fill a square."""
