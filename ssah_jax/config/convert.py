"""A configuration from a ConfigDict, a mapping or JSON, and back."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from ml_collections import ConfigDict

from ssah_jax.config.fields import ConfigError, check_rules, get, is_group, walk
from ssah_jax.config.loss import OPTION_GROUPS, with_options_read
from ssah_jax.config.root import Config


def default() -> ConfigDict:
    """The default configuration as a locked ConfigDict, for files in `configs/`."""
    return ConfigDict(dataclasses.asdict(Config())).lock()


def from_config_dict(values: Mapping[str, Any] | ConfigDict) -> Config:
    """Convert and validate.

    Args:
        values: a ConfigDict or any nested mapping of `Config`'s fields; what is left
            out keeps its default.

    Returns:
        The configuration; what `loss.options` says is in the hash loss's own group.

    Raises:
        ConfigError: on an unknown field, a wrong type or a value out of range.
    """
    return _checked(values)


def _checked(values: Any) -> Config:
    config = _build(Config, values, prefix="")
    for field in walk(Config):
        field.check(get(config, field.name))
    config = dataclasses.replace(config, loss=with_options_read(config.loss))
    check_rules(config)
    return config


def to_json(config: Config) -> str:
    """The configuration as JSON; `from_json` inverts it.

    Options of hash losses other than its own are left out: they are as always.
    """
    tree = dataclasses.asdict(config)
    for name in OPTION_GROUPS:
        if name != config.loss.name:
            del tree["loss"][name]
    return json.dumps(tree, indent=2) + "\n"


def from_json(text: str) -> Config:
    """Read what `to_json` wrote, with the same checks as `from_config_dict`."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"config: found no JSON ({error}), accepted is JSON"
        ) from None
    return _checked(values)


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
        if is_group(kind):
            fields[name] = _build(kind, value, prefix=f"{prefix}{name}.")
        else:
            fields[name] = _convert(value, kind, f"config.{prefix}{name}")
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
