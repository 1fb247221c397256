"""A configuration there and back: mappings, JSON, and JSON of earlier versions."""

import dataclasses
import json

import pytest
from config_values import FIELDS, nested, refusal
from ml_collections import ConfigDict

from ssah_jax import config as config_lib
from ssah_jax.config import Config, ConfigError, from_config_dict
from ssah_jax.config.fields import get
from ssah_jax.config.loss import OPTION_GROUPS, _Terms
from ssah_jax.losses.by_name import HASH_LOSSES
from ssah_jax.losses.hash_loss import parse_options


def test_the_default_is_valid_locked_and_complete():
    default = config_lib.default()
    assert from_config_dict(default) == Config()
    assert from_config_dict({}) == Config()
    assert from_config_dict(default.to_dict()) == Config()
    with pytest.raises(AttributeError):
        default.bit = 64
    with pytest.raises(AttributeError):
        default.loss.pairs = 1.0
    with pytest.raises(TypeError):
        default.bits = "many"


def test_configs_are_frozen_and_hashable():
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.bits = 64
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.loss.hard = 1.0
    assert hash(config) == hash(from_config_dict({}))


def test_what_is_left_out_keeps_its_default_and_mappings_may_be_mixed():
    wanted = dataclasses.replace(
        Config(bits=64), loss=dataclasses.replace(Config().loss, hard=0.25)
    )
    for values in (
        {"bits": 64, "loss": {"hard": 0.25}},
        {"bits": 64, "loss": ConfigDict({"hard": 0.25})},
        ConfigDict({"bits": 64, "loss": {"hard": 0.25}}),
    ):
        assert from_config_dict(values) == wanted


BESIDE = {
    "data.source": {"data": {"source": "idx"}},
    "hnet.backbone": {"hnet": {"backbone": "alexnet"}},
    "hnet.image_size": {"hnet": {"image_size": 32}},
    "anet.blocks": {"anet": {"blocks": 9}},
    "data.concepts": {"data": {"concepts": 81}},
    "data.channels": {"data": {"channels": 1}},
    "loss.bank": {"loss": {"name": "hashnet", "bank": 1}},
}
"""Fields whose next value would not do."""


def changed(name):
    """Values in which a field has a valid value that is not its default."""
    field = FIELDS[name]
    if name in BESIDE:
        return BESIDE[name]
    value = field.default
    for constraint in field.constraints:
        if words := constraint.schema.get("enum"):
            return nested(name, next(word for word in words if word != value))
    if field.kind is bool:
        return nested(name, not value)
    if field.kind is int:
        return nested(name, value + 1)
    if field.kind is float:
        return nested(name, value * 0.99 if value else 0.125)
    if field.kind is str:
        return nested(name, value + "x")
    last = value[-1] * (2 if field.kind == tuple[int, ...] else 0.99)
    return nested(name, (*value[:-1], last))


@pytest.mark.parametrize("name", [x for x in FIELDS if x != "loss.options"])
def test_each_field_can_be_set_and_survives_json(name):
    values = changed(name)
    config = from_config_dict(values)
    value = get_in(values, name)
    assert get(config, name) == value
    assert type(get(config, name)) is type(FIELDS[name].default)
    text = config_lib.to_json(config)
    assert text.endswith("\n")
    assert config_lib.from_json(text) == config
    written = get_in(json.loads(text), name)
    assert written == (list(value) if isinstance(value, tuple) else value)
    found = config_lib.differences(Config(), config)
    wanted = f"{name}: {FIELDS[name].default!r} there, {value!r} asked for"
    assert wanted in found
    other_loss = name.count(".") == 2 or name == "loss.bank"
    assert len(found) == (2 if other_loss and config.loss.name != "dpn" else 1)


def get_in(tree, name):
    for part in name.split("."):
        tree = tree[part]
    return tree


# Names and shapes.


@pytest.mark.parametrize("name", ["bit", "loss.pairs", "eval.precision", "loss.dch.x"])
def test_an_unknown_field_is_named_with_those_there_are(name):
    message = refusal(nested(name, 1))
    assert message.startswith(f"config.{name}: no such field; accepted are ")
    group = name.rpartition(".")[0]
    for field in dataclasses.fields(get(Config(), group) if group else Config()):
        assert field.name in message


def test_a_group_is_not_a_value_and_a_value_is_not_a_group():
    assert refusal({"loss": 3}) == "config.loss: found 3, accepted is a group of fields"
    assert refusal({"bits": {"a": 1}}) == (
        "config.bits: found {'a': 1} (dict), accepted is int"
    )
    assert refusal({"data": {"std": {"x": 1}}}) == (
        "config.data.std: found {'x': 1} (dict), accepted is float"
    )
    # A ConfigDict prints on several lines, its refusal does not.
    assert refusal({"bits": ConfigDict({"a": 1, "b": {"c": 2}})}).startswith(
        "config.bits: found {"
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '{"bits": 0}', "{'bits': 1}"]
)
def test_bad_json_is_refused_in_one_line(text):
    with pytest.raises(ConfigError) as caught:
        config_lib.from_json(text)
    assert str(caught.value).startswith("config")
    assert "\n" not in str(caught.value)


# Options of a hash loss: fields, or one line.


def test_one_line_of_options_is_the_same_as_fields():
    line = {"name": "dch", "options": "gamma=10, quantisation=0.5"}
    fields = {"name": "dch", "dch": {"gamma": 10.0, "quantisation": 0.5}}
    config = from_config_dict({"loss": line})
    assert config == from_config_dict({"loss": fields})
    assert config.loss.options == ""
    assert config.loss.hash_options == fields["dch"]
    assert config_lib.to_json(config) == config_lib.to_json(
        from_config_dict({"loss": fields})
    )


def test_no_hash_loss_is_called_like_a_field():
    # Its group of options would take the place of the field.
    assert {field.name for field in dataclasses.fields(_Terms)}.isdisjoint(
        OPTION_GROUPS
    )
    assert set(OPTION_GROUPS) == set(HASH_LOSSES)


def test_options_are_what_the_hash_loss_takes():
    config = from_config_dict({"loss": {"name": "dsh", "options": "balanced=1"}})
    assert config.loss.hash_options == {
        "margin": 2.0,
        "quantisation": 0.1,
        "balanced": True,
    }
    found = from_config_dict({"loss": {"name": "mihash", "options": "bins=8"}})
    assert found.loss.hash_options == {"bins": 8}
    assert type(found.loss.hash_options["bins"]) is int
    for name, hash_loss in HASH_LOSSES.items():
        options = from_config_dict({"loss": {"name": name}}).loss.hash_options
        assert options == {k: v.default for k, v in hash_loss.options.items()}


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            {"name": "dch", "options": "gamma=10", "dch": {"gamma": 5}},
            "config.loss.options: found 'gamma=10', accepted is '' beside "
            "config.loss.dch.gamma = 5.0",
        ),
        (
            {"name": "dch", "options": "gamma=0"},
            "config.loss.options: found 'gamma=0', accepted for dch are numbers of at "
            "least 0.001, by default gamma=20, quantisation=0.1",
        ),
        (
            {"name": "hashnet", "options": "every=0.5"},
            "config.loss.options: found 'every=0.5', accepted for hashnet are whole "
            "numbers of at least 1, by default alpha=10, rate=0.005, every=200",
        ),
        (
            {"name": "mihash", "options": "bins=8.5"},
            "config.loss.options: found 'bins=8.5', accepted for mihash are whole ",
        ),
        (
            {"name": "dsh", "options": "balanced=2"},
            "config.loss.options: found 'balanced=2', accepted for dsh are ",
        ),
    ],
)
def test_options_that_are_refused(loss, message):
    assert refusal({"loss": loss}).startswith(message)


def test_a_bound_may_be_open():
    with pytest.raises(ValueError, match="are numbers of more than 0, by default"):
        parse_options("ssah", "point_scale=0")
    assert parse_options("ssah", "point_scale=1e-9") == {"point_scale": 1e-9}


# Workdirs of before.


def test_a_config_json_without_the_groups_of_options_is_read():
    tree = json.loads(config_lib.to_json(Config()))
    del tree["loss"]["dpn"]
    assert not set(tree["loss"]) & set(HASH_LOSSES)
    tree["loss"] |= {"name": "orthohash", "options": "scale=12,margin=0.3"}
    del tree["graph"], tree["loss"]["independence"]
    config = config_lib.from_json(json.dumps(tree))
    assert config.loss.hash_options["scale"] == 12.0
    # The command that made it finds its run again.
    same = {"name": "orthohash", "options": "scale=12,margin=0.3"}
    assert config_lib.differences(config, from_config_dict({"loss": same})) == []


def test_only_the_options_of_the_own_hash_loss_are_written():
    # So that another preset of another hash loss is no difference to a run.
    text = config_lib.to_json(from_config_dict({"loss": {"name": "dsh"}}))
    assert set(json.loads(text)["loss"]) & set(HASH_LOSSES) == {"dsh"}
