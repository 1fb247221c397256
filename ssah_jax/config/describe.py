"""What the fields say of themselves, for people and for programs."""

from typing import Any

from ssah_jax.config.fields import Field, walk
from ssah_jax.config.root import Config

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def describe() -> list[str]:
    """A line for each field: full name, type, default, accepted values, sentence."""
    return [
        f"{x.name}  {kind_name(x)}  {x.default!r}  "
        + (f"{x.accepted}  " if x.accepted else "")
        + x.sentence
        for x in walk(Config)
    ]


def kind_name(field: Field) -> str:
    """The type of a field as one writes it."""
    return field.kind.__name__ if field.kind in _TYPES else str(field.kind)


def json_schema() -> dict[str, Any]:
    """A JSON Schema of config.json, and of any mapping that `from_config_dict` takes.

    Rules between fields are not in it.
    """
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of a run of ssah_jax",
        **_empty(),
    }
    for field in walk(Config):
        *groups, name = field.name.split(".")
        place = schema
        for part in groups:
            place = place["properties"].setdefault(part, _empty())
        place["properties"][name] = _of_field(field)
    return schema


def _empty() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _of_field(field: Field) -> dict[str, Any]:
    several = field.kind not in _TYPES
    value: dict[str, Any] = {
        "type": _TYPES[field.kind.__args__[0] if several else field.kind]
    }
    for constraint in field.constraints:
        value |= constraint.schema
    if several:
        # One value stands for a tuple of one.
        value = {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}
    default = list(field.default) if several else field.default
    return {"description": field.sentence, "default": default, **value}
