"""Configuration: what is accepted, what is refused and in which words."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import get_type_hints

import pytest
from ml_collections import ConfigDict

from ssah_jax import config as config_lib
from ssah_jax.config import Config, ConfigError, from_config_dict, presets
from ssah_jax.data.protocols import PROTOCOLS
from ssah_jax.losses.by_name import HASH_LOSSES as METHODS
from ssah_jax.networks import BACKBONES

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").glob("*.py"))


def nested(name, value):
    """`nested("a.b", 1)` is `{"a": {"b": 1}}`."""
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def fields(cls=Config, prefix=""):
    """All fields with a value, as (dotted name, type)."""
    for name, kind in get_type_hints(cls).items():
        if dataclasses.is_dataclass(kind):
            yield from fields(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, kind


FIELDS = {name: kind for name, kind in fields() if name.count(".") < 2}


def get(config, name):
    for part in name.split("."):
        config = getattr(config, part)
    return config


def refusal(values):
    """The one line with which `values` are refused."""
    with pytest.raises(ConfigError) as caught:
        from_config_dict(values)
    message = str(caught.value)
    assert "\n" not in message
    assert isinstance(caught.value, ValueError)
    return message


# The default, and the way there and back.


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
        config.loss.pair = 1.0
    assert hash(config) == hash(from_config_dict({}))


def test_a_config_dict_may_be_nested_in_a_mapping_and_the_reverse():
    group = ConfigDict({"pair": 2.0})
    assert from_config_dict({"loss": group}).loss.pair == 2.0
    assert from_config_dict(ConfigDict({"loss": {"pair": 2.0}})).loss.pair == 2.0


def test_what_is_left_out_keeps_its_default():
    config = from_config_dict({"bits": 64, "loss": {"pair": 0.25}})
    wanted = Config(bits=64)
    wanted = dataclasses.replace(
        wanted, loss=dataclasses.replace(wanted.loss, pair=0.25)
    )
    assert config == wanted


def changed(name, kind):
    """A value of the field that is valid and not the default."""
    value = get(Config(), name)
    accepted = RANGES[name][2] if name in RANGES else ""
    if accepted.startswith("one of "):
        words = accepted.removeprefix("one of ").split(", ")
        return next(word for word in words if word != value)
    special = {
        "anet.blocks": 9,
        "data.concepts": 81,
        "data.channels": 1,
        "hnet.image_size": 32,
    }
    if name in special:
        return special[name]
    if kind is bool:
        return not value
    if kind is int:
        return value + 1
    if kind is float:
        return value * 0.99 if value else 0.125
    if kind is str:
        return value + "x"
    assert kind in (tuple[int, ...], tuple[float, ...])
    return (*value[:-1], value[-1] * (2 if kind == tuple[int, ...] else 0.99))


# Accepted only beside another loss or adversary than the default; see
# tests/losses/test_by_name.py and test_fields_that_must_fit_together.
@pytest.mark.parametrize(
    "name", [name for name in FIELDS if name not in ("loss.options", "anet.candidates")]
)
def test_each_field_can_be_set_and_survives_json(name):
    value = changed(name, FIELDS[name])
    config = from_config_dict(nested(name, value))
    assert get(config, name) == value
    assert type(get(config, name)) is type(get(Config(), name))
    assert config != Config()
    text = config_lib.to_json(config)
    assert config_lib.from_json(text) == config
    assert text.endswith("\n")
    assert get_in(json.loads(text), name) in (value, list_of(value))
    (difference,) = config_lib.differences(Config(), config)
    assert difference.startswith(f"{name}: ")
    assert repr(get(Config(), name)) in difference
    assert repr(value) in difference
    assert "\n" not in difference


def get_in(tree, name):
    for part in name.split("."):
        tree = tree[part]
    return tree


def list_of(value):
    return list(value) if isinstance(value, tuple) else value


def test_equal_configs_have_no_differences():
    assert config_lib.differences(Config(), from_config_dict({})) == []
    two = from_config_dict({"bits": 64, "eval": {"top_k": 5}})
    assert len(config_lib.differences(two, Config())) == 2


def test_every_field_is_documented():
    for line in config_lib.describe():
        assert len(line.split("  ")[-1]) > 5, line


# Types.


@pytest.mark.parametrize("name", [n for n, kind in FIELDS.items() if kind is float])
def test_an_int_is_a_float_but_a_bool_or_a_word_is_not(name):
    for value in (True, "0.5", None):
        message = refusal(nested(name, value))
        assert message.startswith(f"config.{name}: found {value!r} (")
        assert message.endswith("accepted is float")


def test_an_int_becomes_a_float():
    config = from_config_dict({"loss": {"pair": 2}, "data": {"std": (1,)}})
    assert config.loss.pair == 2.0
    assert type(config.loss.pair) is float
    assert type(config.data.std[0]) is float


@pytest.mark.parametrize("name", [n for n, kind in FIELDS.items() if kind is int])
def test_a_float_or_a_bool_is_not_an_int(name):
    for value in (1.0, True, "1", None):
        message = refusal(nested(name, value))
        assert message.startswith(f"config.{name}: found {value!r} (")
        assert message.endswith("accepted is int")


@pytest.mark.parametrize("name", [n for n, kind in FIELDS.items() if kind is bool])
def test_only_a_bool_is_a_bool(name):
    for value in (1, 0.0, "True", None):
        message = refusal(nested(name, value))
        assert message.startswith(f"config.{name}: found {value!r} (")
        assert message.endswith("accepted is bool")


@pytest.mark.parametrize("name", [n for n, kind in FIELDS.items() if kind is str])
def test_only_a_word_is_a_word(name):
    for value in (1, True, ("a",), None):
        message = refusal(nested(name, value))
        assert message.startswith(f"config.{name}: found {value!r} (")
        assert message.endswith("accepted is str")


def test_tuples_may_be_lists_or_single_values_of_the_right_type():
    for value in ([4, 8], (4, 8)):
        assert from_config_dict({"hnet": {"widths": value}}).hnet.widths == (4, 8)
    assert from_config_dict({"hnet": {"widths": 4}}).hnet.widths == (4,)
    three = from_config_dict({"data": {"mean": [0, 0.5, 1], "std": [1, 1, 1]}})
    assert three.data.mean == (0.0, 0.5, 1.0)
    assert refusal({"hnet": {"widths": (4, 8.5)}}).startswith(
        "config.hnet.widths: found 8.5 (float), accepted is int"
    )
    assert refusal({"hnet": {"widths": (4, True)}}).endswith("accepted is int")
    assert refusal({"data": {"std": "0.5"}}).endswith("accepted is float")


@pytest.mark.parametrize("name", [n for n, kind in FIELDS.items() if kind is float])
def test_floats_are_finite(name):
    for value in (float("nan"), float("inf"), float("-inf"), 10**400):
        message = refusal(nested(name, value))
        assert message.startswith(f"config.{name}: found ")
        assert message.endswith("accepted is a finite number")


# Names.


@pytest.mark.parametrize("name", ["bit", "loss.pairs", "eval.precision", "data.std.x"])
def test_an_unknown_field_is_named_with_those_there_are(name):
    message = refusal(nested(name, 1))
    if name == "data.std.x":
        assert message == "config.data.std: found {'x': 1} (dict), accepted is float"
        return
    assert message.startswith(f"config.{name}: no such field; accepted are ")
    group = get(Config(), name.rpartition(".")[0]) if "." in name else Config()
    for field in dataclasses.fields(group):
        assert field.name in message


def test_a_group_is_not_a_value_and_a_value_is_not_a_group():
    assert refusal({"loss": 3}) == (
        "config.loss: found 3, accepted is a group of fields"
    )
    message = refusal({"bits": {"a": 1}})
    assert message == "config.bits: found {'a': 1} (dict), accepted is int"
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


# Ranges: (bad values, values at the border that are good, what is accepted).

AT_LEAST_1 = ([0, -1], [1], "at least 1")
AT_LEAST_2 = ([1, 0], [2], "at least 2")
AT_LEAST_0 = ([-1], [0], "at least 0")
WEIGHT = ([-0.1], [0.0], "at least 0")
MORE_THAN_0 = ([0.0, -1.0], [1e-6], "more than 0")
SHARE = ([-0.1, 1.1], [0.0, 1.0], "in [0, 1]")
OPEN = ([0.0, 1.0, -0.5, 1.5], [0.5], "in (0, 1)")
RANGES = {
    "bits": AT_LEAST_1,
    "labels_per_class": AT_LEAST_0,
    "steps": AT_LEAST_1,
    "log_every": AT_LEAST_1,
    "checkpoint_every": AT_LEAST_1,
    "seed": ([-1, 2**32], [0, 2**32 - 1], "in [0, 2**32)"),
    "data.source": (
        ["imagenet", ""],
        ["tfds"],
        "one of digits, idx, synthetic, folder, list, nus_wide, tfds, features",
    ),
    "data.protocol": (["random"], ["54k"], f"one of {', '.join(PROTOCOLS)}"),
    "data.resize": (["pad"], ["squash"], "one of crop, squash"),
    "data.store": (["gpu"], ["device"], "one of disk, memory, device"),
    "data.on_error": (["ignore"], ["skip"], "one of raise, skip"),
    "data.concepts": ([0, 80], [21, 81], "21 or 81"),
    "data.channels": ([0, 2, 4], [1, 3], "1 or 3"),
    "data.image_size": AT_LEAST_0,
    "data.crop_size": AT_LEAST_0,
    "data.threads": AT_LEAST_1,
    "data.max_skipped": SHARE,
    "data.num_labelled": AT_LEAST_0,
    "data.unseen_share": OPEN,
    "data.num_queries": AT_LEAST_0,
    "data.num_validation": ([-1], [1], "at least 0"),
    "data.max_shift": AT_LEAST_0,
    "data.mean": ([(-0.1,), (1.1,), ()], [(0.0,), (1.0,)], "in [0, 1]"),
    "data.std": ([(0.0,), (-1.0,), ()], [(1e-6,)], "more than 0"),
    "batch.labelled": AT_LEAST_2,
    "batch.unlabelled": AT_LEAST_2,
    "hnet.widths": ([(0,), (8, -1), ()], [(1,)], "at least 1"),
    "hnet.backbone": (["vgg", ""], ["small_conv"], f"one of {', '.join(BACKBONES)}"),
    "hnet.dtype": (["float16", ""], ["bfloat16"], "one of float32, bfloat16"),
    "hnet.image_size": ([-1], [0, 8], "at least 0"),
    "hnet.frozen": (
        [-2, 4],
        [-1, 0, 3],
        "for small_conv are 0 to 3 stages, or -1 for all",
    ),
    "hnet.norm": (["layer"], ["none"], "one of batch, group, none"),
    "anet.kind": (["best"], ["none"], "one of anet, random, none"),
    "anet.trainer": (["reinforce"], ["score"], "one of score, straight_through"),
    "anet.fill": (["black"], ["mean"], "one of zero, mean, noise"),
    "anet.border": (["zero"], ["edge"], "one of zeros, edge"),
    "anet.width": AT_LEAST_1,
    "anet.candidates": ([0, -1], [1], "at least 1"),
    "anet.grid": AT_LEAST_1,
    "anet.angle_bins": AT_LEAST_1,
    "anet.scales": ([(0.0,), (0.5, 1.0), ()], [(0.5,)], "in (0, 1)"),
    "anet.max_degrees": ([-1.0, 181.0], [0.0, 180.0], "in [0, 180]"),
    "anet.temperature": MORE_THAN_0,
    "anet.entropy_floor": SHARE,
    "anet.entropy_weight": WEIGHT,
    "loss.pair": WEIGHT,
    "loss.point": WEIGHT,
    "loss.quantisation": WEIGHT,
    "loss.hard": WEIGHT,
    "loss.consistent": WEIGHT,
    "loss.consistent_pair": WEIGHT,
    "loss.consistent_teacher": WEIGHT,
    "loss.consistent_graph": WEIGHT,
    "loss.consistent_spread": WEIGHT,
    "loss.fade": ([0.0, 1.01], [0.01, 1.0], "in (0, 1]"),
    "graph.neighbours": AT_LEAST_1,
    "graph.alpha": ([-0.01, 1.0], [0.0, 0.99], "in [0, 1)"),
    "loss.balance": WEIGHT,
    "loss.independence": WEIGHT,
    "loss.bank": AT_LEAST_0,
    "loss.name": (["softmax", ""], ["dsh"], f"one of {', '.join(METHODS)}"),
    "loss.point_margin": WEIGHT,
    "loss.pair_alpha": MORE_THAN_0,
    "loss.point_scale": MORE_THAN_0,
    "loss.gate": ([0.49, 1.01], [0.5, 1.0], "in [0.5, 1]"),
    "loss.label_offset": ([-1.1, 1.1], [-1.0, 1.0], "in [-1, 1]"),
    "loss.ramp": SHARE,
    "pace.rule": (["none"], ["schedule"], "one of feedback, schedule"),
    "pace.weight": (["soft"], ["linear"], "one of hard, linear, log"),
    "pace.start": ([0.0, -0.1], [1e-6], "in (0, 1)"),
    "pace.end": ([1.0, 1.5], [0.99], "in (0, 1)"),
    "pace.rate": WEIGHT,
    "pace.slack": WEIGHT,
    "pace.target": SHARE,
    "pace.tolerance": SHARE,
    "optim.backbone_rate": WEIGHT,
    "optim.learning_rate": MORE_THAN_0,
    "optim.clip_norm": MORE_THAN_0,
    "optim.anet_learning_rate": WEIGHT,
    "optim.weight_decay": WEIGHT,
    "optim.warmup": SHARE,
    "optim.ema_decay": ([-0.1, 1.0], [0.0, 0.999], "in [0, 1)"),
    "eval.every": AT_LEAST_0,
    "eval.batch": AT_LEAST_1,
    "eval.top_k": AT_LEAST_0,
    "eval.precision_at": ([(0,), (10, -1), ()], [(1,)], "at least 1"),
    "eval.max_database": AT_LEAST_1,
} | {name: SHARE for name in FIELDS if name.endswith("_entropy_floor")}


@pytest.mark.parametrize("name", RANGES)
def test_a_value_out_of_range_is_refused_and_the_border_is_not(name):
    bad, good, accepted = RANGES[name]
    for value in bad:
        message = refusal(nested(name, value))
        verb = "" if name == "hnet.frozen" else "is "
        assert message == f"config.{name}: found {value!r}, accepted {verb}{accepted}"
    for value in good:
        assert get(from_config_dict(nested(name, value)), name) == value


def test_blocks_are_a_square_number():
    for value in (1, 4, 9, 16):
        assert from_config_dict({"anet": {"blocks": value}}).anet.blocks == value
    for value in (2, 3, 8):
        assert refusal({"anet": {"blocks": value}}).startswith(
            f"config.anet.blocks: found {value}, accepted is a square number"
        )
    assert refusal({"anet": {"blocks": -4}}).endswith("at least 1")


def test_every_number_has_a_range_or_a_reason():
    # Words are checked against what the sources and protocols know, in their modules.
    free = {"anet.blocks"}
    numbers = {name for name, kind in FIELDS.items() if kind not in (bool, str)}
    assert numbers - set(RANGES) == free


def test_fields_that_must_fit_together():
    message = refusal({"pace": {"start": 0.4, "end": 0.3}})
    assert message.startswith("config.pace.start: found 0.4, accepted is at most ")
    assert "config.pace.end = 0.3" in message
    assert from_config_dict({"pace": {"start": 0.3, "end": 0.3}}).pace.start == 0.3

    message = refusal({"data": {"num_validation": 0}, "eval": {"every": 10}})
    assert message.startswith("config.data.num_validation: found 0, accepted is at le")
    assert "config.eval.every is 10" in message
    from_config_dict({"data": {"num_validation": 0}, "eval": {"every": 0}})

    message = refusal({"data": {"image_size": 32, "crop_size": 33}})
    assert message == (
        "config.data.crop_size: found 33, accepted is at most "
        "config.data.image_size = 32"
    )
    from_config_dict({"data": {"image_size": 32, "crop_size": 32}})

    message = refusal({"hnet": {"frozen": 2}, "anet": {"trainer": "straight_through"}})
    assert message == (
        "config.anet.trainer: found straight_through, accepted is score while "
        "config.hnet.frozen is 2"
    )
    for kind in ("random", "none"):
        anet = {"trainer": "straight_through", "kind": kind}
        from_config_dict({"hnet": {"frozen": 2}, "anet": anet})

    message = refusal({"anet": {"candidates": 4}})
    assert message == (
        "config.anet.candidates: found 4, accepted is 1 with anet.kind = 'anet'"
    )
    from_config_dict({"anet": {"candidates": 4, "kind": "random"}})

    message = refusal({"data": {"mean": (0.1, 0.2, 0.3)}})
    assert message.startswith("config.data.std: found 1 values, accepted are as many ")


@pytest.mark.parametrize(
    ("hnet", "message"),
    [
        (
            {"backbone": "resnet18", "image_size": 31},
            "config.hnet.image_size: resnet18 accepts images of at least 32 pixels, "
            "found 31",
        ),
        (
            {"backbone": "vit_s14", "image_size": 225},
            "config.hnet.image_size: vit_s14 accepts sides that are multiples of 14 "
            "pixels, found 225",
        ),
        (
            {"backbone": "resnet50", "frozen": 6},
            "config.hnet.frozen: found 6, accepted for resnet50 are 0 to 5 stages, or "
            "-1 for all",
        ),
        (
            {"weights": "default"},
            "config.hnet.weights: found 'default', accepted for small_conv is none or "
            "the workdir of a run; others' weights exist for alexnet, vgg16, ",
        ),
        (
            {"weights": "hf:timm/resnet18.a1_in1k", "backbone": "vgg_f"},
            "config.hnet.weights: found 'hf:timm/resnet18.a1_in1k', accepted for vgg_f",
        ),
        (
            {"weights": "default", "backbone": "resnet18", "norm": "group"},
            "config.hnet.norm: found group, accepted is batch with weights of resnet18",
        ),
        (
            {"backbone": "features"},
            "config.hnet.backbone: found features with the data source digits",
        ),
    ],
)
def test_a_backbone_and_what_does_not_fit_it(hnet, message):
    assert refusal({"hnet": hnet}).startswith(message)


def test_stored_features_take_no_images():
    data, anet = {"source": "features"}, {"kind": "none"}
    hnet = {"backbone": "features"}
    from_config_dict({"data": data, "anet": anet, "hnet": hnet})
    assert refusal({"data": data}).startswith(
        "config.hnet.backbone: found small_conv with the data source features"
    )
    for group, fields, accepted in (
        ("anet", {"kind": "random"}, "anet.kind: found 'random', accepted is 'none'"),
        ("data", {"crop_size": 1}, "data.crop_size: found 1, accepted is 0"),
        ("hnet", {"image_size": 8}, "hnet.image_size: found 8, accepted is 0"),
        ("hnet", {"weights": "x"}, "hnet.weights: found 'x', accepted is ''"),
    ):
        values = {"data": data, "anet": anet, "hnet": hnet}
        message = refusal(values | {group: values[group] | fields})
        assert message == f"config.{accepted} with stored features"


def test_frozen_stages_are_counted():
    for hnet, count in (
        ({"frozen": -1}, 3),
        ({"frozen": -1, "widths": (4, 8)}, 2),
        ({"frozen": 1}, 1),
        ({"frozen": -1, "backbone": "resnet18"}, 5),
        ({"frozen": -1, "backbone": "vit_b16"}, 14),
    ):
        assert from_config_dict({"hnet": hnet}).hnet.frozen_stages == count


# The files that are shipped.


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_files():
    assert {path.stem for path in FILES} == {
        "digits",
        "fashion_mnist",
        "cifar10",
        "nuswide",
        "cub200",
        "stanford_dogs",
        "folder",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_presets(path):
    module = load(path)
    plain = from_config_dict(module.get_config())
    assert from_config_dict(module.get_config("")) == plain
    smoke = from_config_dict(module.get_config("smoke"))
    assert smoke.steps <= 20 and smoke.batch.labelled + smoke.batch.unlabelled <= 64
    changed = {x.partition(":")[0] for x in config_lib.differences(plain, smoke)}
    assert changed == {
        name for name, value in module.SMOKE.items() if get(plain, name) != value
    }
    config = from_config_dict(
        module.get_config("bits=64, backbone=alexnet,data.flip=False,widths=(4,8)")
    )
    assert config == from_config_dict(
        module.get_config("widths=[4,8],bits=64,backbone=alexnet,flip=False")
    )
    assert (config.bits, config.hnet.backbone) == (64, "alexnet")
    assert (config.data.flip, config.hnet.widths) == (False, (4, 8))
    rival = from_config_dict(module.get_config("supervised,loss.name=orthohash"))
    assert (rival.anet.kind, rival.loss.name) == ("none", "orthohash")
    # The last one wins.
    assert from_config_dict(module.get_config("smoke,steps=7")).steps == 7
    assert from_config_dict(module.get_config("steps=7,smoke")).steps == smoke.steps
    for text, found in (
        ("tiny", "found the preset 'tiny', accepted are smoke, random, "),
        ("bit=3", "found the preset 'bit=3', accepted are smoke, random, "),
        ("bits=many", "config.bits: found 'many', accepted is int, such as 32"),
    ):
        with pytest.raises(ConfigError) as caught:
            module.get_config(text)
        assert found in str(caught.value)
        assert "\n" not in str(caught.value)
    # The commands of the docstring use presets that exist.
    for word in module.__doc__.split():
        if word.startswith(f"configs/{path.name}:"):
            from_config_dict(module.get_config(word.partition(":")[2]))


def test_a_preset_keeps_commas_in_quotes_and_brackets():
    config = config_lib.default()
    words = "loss.options='alpha=0.5,quantisation=0.2',hnet.widths=(4,8),bits=16"
    presets.with_presets(config, words, smoke={})
    assert config.loss.options == "alpha=0.5,quantisation=0.2"
    assert config.loss.quantisation == config_lib.default().loss.quantisation
    assert tuple(config.hnet.widths) == (4, 8)
    assert config.bits == 16


@pytest.mark.parametrize("option", ["dch:gamma=0", "hashnet:every=0.5"])
def test_options_that_may_not_be_0(option):
    name, _, text = option.partition(":")
    message = refusal({"loss": {"name": name, "options": text}})
    assert message.startswith(f"config.loss.options: found {text!r}, accepted for ")


def test_a_preset_field_that_several_groups_have_needs_its_full_name():
    config = config_lib.default()
    with pytest.raises(ConfigError, match="found the preset 'batch=2'"):
        presets.with_presets(config, "batch=2", smoke={})
    presets.with_presets(config, "eval.batch=2", smoke={})
    assert config.eval.batch == 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_is_valid_and_says_how_to_run_it(path):
    module = load(path)
    values = module.get_config()
    assert values.is_locked
    config = from_config_dict(values)
    assert config_lib.from_json(config_lib.to_json(config)) == config
    assert f"python train.py --config configs/{path.name}" in module.__doc__
    assert module.get_config.__doc__
    # What the docstring of the file overrides in its commands exists.
    for word in module.__doc__.replace("`", " ").split():
        if word.startswith("--config."):
            assert word.removeprefix("--config.").partition("=")[0] in FIELDS
