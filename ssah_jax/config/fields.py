"""How a field and a rule between fields are written, and how they are found.

A group is a frozen dataclass whose fields are made by `field`: type, default, accepted
values and the sentence that explains it stand in one place. Validation, `--help`,
docs/config.md and the JSON schema are all made by walking them.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, get_type_hints

from ssah_jax.config.constraints import Constraint

T = TypeVar("T")


class ConfigError(ValueError):
    """A user's configuration is wrong; the message is one line that says where."""


def wrong(name: str, found: object, accepted: str) -> ConfigError:
    """The error of a field; `accepted` begins with its verb."""
    return ConfigError(f"config.{name}: found {found}, accepted {accepted}")


class Field(NamedTuple):
    """A field as it was written, for those who walk them.

    Attributes:
        name: full, such as "data.source".
        kind: bool, int, float, str, or a tuple of ints or floats of any length.
        default: its value where nobody sets it.
        sentence: what it is.
        constraints: that a value, or each item of a tuple, must hold.
    """

    name: str
    kind: Any
    default: Any
    sentence: str
    constraints: tuple[Constraint, ...]

    @property
    def accepted(self) -> str:
        """What it accepts beside its type, in words; empty for anything."""
        return ", ".join(x.accepted for x in self.constraints)

    def check(self, value: Any) -> None:
        """Raise ConfigError unless the constraints hold; a tuple has an item."""
        items = value if isinstance(value, tuple) else (value,)
        for constraint in self.constraints:
            if not items or not all(map(constraint.holds, items)):
                raise wrong(self.name, repr(value), f"is {constraint.accepted}")


def field(default: T, sentence: str, *constraints: Constraint) -> T:
    """A field of a group.

    Args:
        default: of the field's type.
        sentence: what it is, without the last full stop.
        *constraints: what its values, or the items of a tuple, must hold.
    """
    metadata = {"sentence": sentence, "constraints": constraints}
    return dataclasses.field(default=default, metadata=metadata)


def is_group(kind: Any) -> bool:
    """Whether the type of a field is a group."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def walk(cls: type, prefix: str = "") -> Iterator[Field]:
    """All fields of a group and of the groups in it, in the order of their writing."""
    hints = get_type_hints(cls)
    for found in dataclasses.fields(cls):
        name, kind = prefix + found.name, hints[found.name]
        if is_group(kind):
            yield from walk(kind, f"{name}.")
        else:
            yield Field(name, kind, found.default, **found.metadata)


Rule = Callable[..., None]

RULES: list[Rule] = []
"""The rules between fields, in the order in which they are checked."""


def rule(check: Rule) -> Rule:
    """Enter a check of several fields, which stands beside the group it concerns.

    Its parameters are named like fields of `Config` and get their values; it raises a
    ConfigError where these do not fit together.
    """
    RULES.append(check)
    return check


def check_rules(config: Any) -> None:
    """Raise ConfigError at the first rule that a configuration breaks."""
    for check in RULES:
        check(**{x: getattr(config, x) for x in inspect.signature(check).parameters})


def get(config: Any, name: str) -> Any:
    """The value of a field by its full name."""
    for part in name.split("."):
        config = getattr(config, part)
    return config
