"""Each field: its type, what it accepts and what it refuses, found by walking them."""

import dataclasses
import math
import re

import pytest
from config_values import FIELDS, nested, refusal

from ssah_jax import config as config_lib
from ssah_jax.config import Config, ConfigError, from_config_dict
from ssah_jax.config.constraints import at_least
from ssah_jax.config.fields import get, walk

RANGED = [name for name, field in FIELDS.items() if field.constraints]


def number(text):
    base, _, power = text.partition("**")
    return int(base) ** int(power or 1) if base.lstrip("-").isdigit() else float(text)


def step(bound, kind):
    """The nearest other value of a type, upwards and downwards of a bound."""
    if kind is int:
        return 1
    return 1e-9 * max(1.0, abs(bound))


def borders(accepted, kind):
    """Values just outside and just inside of what an accepted text says, read here."""
    if match := re.fullmatch(r"at least (\S+)", accepted):
        low = number(match[1])
        return [low - step(low, kind)], [low]
    if match := re.fullmatch(r"more than (\S+)", accepted):
        low = number(match[1])
        return [low], [low + step(low, kind)]
    if match := re.fullmatch(r"in ([\[(])(\S+), (\S+)([\])])", accepted):
        low, high = number(match[2]), number(match[3])
        below, above = low - step(low, kind), high + step(high, kind)
        first, last = low + step(low, kind), high - step(high, kind)
        outside = (
            [below, above] + [low] * (match[1] == "(") + [high] * (match[4] == ")")
        )
        inside = [
            low if match[1] == "[" else first,
            high if match[4] == "]" else last,
        ]
        return outside, inside
    if accepted.startswith("one of "):
        words = accepted.removeprefix("one of ").split(", ")
        return ["", words[0] + "x", words[0].upper() + "?"], words
    if match := re.fullmatch(r"(\d+) or (\d+)", accepted):
        words = [int(match[1]), int(match[2])]
        return [words[0] - 1, words[0] + 1, words[1] + 1], words
    if accepted == "a square number (1, 4, 9, ...)":
        return [2, 3, 8, 10], [1, 4, 9, 16]
    assert accepted == "0 to the backbone's stages, or -1 for all"
    return [], [-1, 0, 3]


def fitting(name, value):
    """The values of a field with what its rules ask of other fields."""
    tree = nested(name, value)
    with_it = {
        "data.crop_size": {"data": {"image_size": 0}},
        "data.num_validation": {"eval": {"every": 0}},
        "loss.bank": {"loss": {"name": "dsh"}},
    }
    for group, values in with_it.get(name, {}).items():
        tree[group] = values | tree.get(group, {})
    if name == "batch.labelled" and not value:
        tree |= {"anet": {"kind": "none"}}
        tree |= {"loss": {"consistent": 0.0, "cross_view": 1.0}}
    if value == "stored":
        tree |= {"data": {"source": "features"}, "hnet": {"backbone": "features"}}
    if value == "features" and name in ("data.source", "hnet.backbone"):
        tree = {"data": {"source": value}, "hnet": {"backbone": value}}
        tree["anet"] = {"kind": "none"}
    return tree


@pytest.mark.parametrize("name", RANGED)
def test_just_outside_is_refused_by_name_and_just_inside_is_accepted(name):
    field = FIELDS[name]
    several = field.kind in (tuple[int, ...], tuple[float, ...])
    kind = field.kind.__args__[0] if several else field.kind
    for i, constraint in enumerate(field.constraints):
        outside, inside = borders(constraint.accepted, kind)
        for value in map(kind, outside):
            found = (value,) if several else value
            wanted = (
                f"config.{name}: found {found!r}, accepted is {constraint.accepted}"
            )
            assert refusal(nested(name, found)) == wanted
            if several:
                # One bad item among good ones, and none at all.
                mixed = (*field.default, value)
                assert refusal(nested(name, mixed)).startswith(
                    f"config.{name}: found ("
                )
                assert refusal(nested(name, ())).startswith(f"config.{name}: found ()")
        if i == len(field.constraints) - 1:
            for value in map(kind, inside):
                found = (value,) if several else value
                assert get(from_config_dict(fitting(name, found)), name) == found


def test_constraints_are_checked_in_their_order():
    assert refusal({"anet": {"blocks": -4}}).endswith("accepted is at least 1")


def test_every_number_has_a_constraint_and_every_field_a_sentence():
    for name, field in FIELDS.items():
        assert field.constraints or field.kind in (bool, str), name
        assert len(field.sentence) >= 5 and not field.sentence.endswith("."), name
        field.check(field.default)
        if field.kind in (bool, int, float, str):
            assert type(field.default) is field.kind


def test_the_default_of_every_field_stands_once():
    config = Config()
    assert [get(config, name) for name in FIELDS] == [
        field.default for field in FIELDS.values()
    ]
    assert set(FIELDS) == set(config_lib.flatten(dataclasses.asdict(config)))


# Types.

BAD = {
    bool: (1, 0.0, "True", None),
    int: (1.0, True, "1", None),
    float: (True, "0.5", None),
    str: (1, True, ("a",), None),
}


@pytest.mark.parametrize("name", FIELDS)
def test_another_type_is_refused_with_its_name(name):
    kind = FIELDS[name].kind
    several = kind not in BAD
    kind = kind.__args__[0] if several else kind
    for value in BAD[kind]:
        for found in [value] + [(value,)] * several:
            message = refusal(nested(name, found))
            assert message.startswith(f"config.{name}: found {value!r} (")
            assert message.endswith(f"accepted is {kind.__name__}")
    if kind is float:
        for value in (math.nan, math.inf, -math.inf, 10**400):
            message = refusal(nested(name, value))
            assert message.startswith(f"config.{name}: found ")
            assert message.endswith("accepted is a finite number")


def test_an_int_becomes_a_float_and_one_value_a_tuple():
    config = from_config_dict({"loss": {"hard": 2}, "data": {"std": (1,)}})
    assert type(config.loss.hard) is float
    assert type(config.data.std[0]) is float
    for value in ([4, 8], (4, 8)):
        assert from_config_dict({"hnet": {"widths": value}}).hnet.widths == (4, 8)
    assert from_config_dict({"hnet": {"widths": 4}}).hnet.widths == (4,)
    assert refusal({"hnet": {"widths": (4, 8.5)}}) == (
        "config.hnet.widths: found 8.5 (float), accepted is int"
    )


# What the fields say of themselves.


def test_each_line_of_the_description_is_of_a_field():
    lines = config_lib.describe()
    assert len(lines) == len(FIELDS)
    for line, (name, field) in zip(lines, FIELDS.items(), strict=True):
        parts = line.split("  ")
        assert (parts[0], parts[2]) == (name, repr(field.default))
        assert parts[-1] == field.sentence
        assert not field.accepted or field.accepted in parts
    assert lines[1] == "bits  int  32  at least 1  K, the length of a code"


def allows(schema, value):
    """What of JSON Schema the project writes, in a few lines."""
    if "anyOf" in schema:
        return any(allows(x, value) for x in schema["anyOf"])
    types = {"boolean": bool, "integer": int, "string": str, "array": list}
    if schema["type"] == "object":
        known = schema["properties"]
        return set(value) <= set(known) and all(
            allows(known[k], value[k]) for k in value
        )
    if schema["type"] == "number":
        if type(value) not in (int, float):
            return False
    elif type(value) is not types[schema["type"]]:
        return False
    if schema["type"] == "array":
        return bool(value) and all(allows(schema["items"], x) for x in value)
    return (
        value in schema.get("enum", [value])
        and not value < schema.get("minimum", value)
        and not value > schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
    )


@pytest.mark.parametrize("name", RANGED)
def test_the_schema_says_what_the_constraints_do(name):
    field, schema = FIELDS[name], config_lib.json_schema()
    several = field.kind not in (bool, int, float, str)
    kind = field.kind.__args__[0] if several else field.kind
    for constraint in field.constraints:
        outside, inside = borders(constraint.accepted, kind)
        # A square number is beyond it.
        refused = [(value, False) for value in outside if constraint.schema]
        for value, wanted in [*refused, *((value, True) for value in inside)]:
            value = [kind(value)] if several else kind(value)
            assert allows(schema, nested(name, value)) == wanted, value


def test_the_schema_names_each_field_with_its_default_and_sentence():
    schema = config_lib.json_schema()
    assert not allows(schema, {"bit": 1}) and not allows(schema, {"loss": {"bit": 1}})
    for name, field in FIELDS.items():
        place = schema
        for part in name.split("."):
            place = place["properties"][part]
        assert place["description"] == field.sentence
        assert place["default"] in (field.default, list_of(field.default))


def list_of(value):
    return list(value) if isinstance(value, tuple) else value


def test_a_group_may_be_walked_by_itself():
    found = {field.name for field in walk(type(Config().pace))}
    assert found == {n[5:] for n in FIELDS if n.startswith("pace.")}
    assert at_least(2).accepted == "at least 2"


@pytest.mark.parametrize(
    ("group", "values"),
    [
        # Said here again: the tests above read what the fields themselves say.
        ("optim", {"ema_decay": 1.0}),
        ("batch", {"labelled": 1}),
        ("data", {"channels": 2}),
        ("data", {"unseen_share": 1.0}),
        ("pace", {"start": 0.0}),
    ],
)
def test_some_borders_are_where_they_were(group, values):
    with pytest.raises(ConfigError, match=f"config.{group}.{next(iter(values))}: "):
        from_config_dict({group: values})


@pytest.mark.parametrize(("asked", "cores", "found"), [(0, 7, 7), (3, 7, 3)])
def test_no_number_of_threads_is_one_a_core(monkeypatch, asked, cores, found):
    monkeypatch.setattr(
        "os.sched_getaffinity", lambda _: set(range(cores)), raising=False
    )
    assert config_lib.DataConfig(threads=asked).num_threads == found
