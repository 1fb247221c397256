"""The files that are shipped, and what follows the colon."""

import importlib.util

import pytest
from commands import ROOT
from config_values import FIELDS

from ssah_jax import config as config_lib
from ssah_jax.config import ConfigError, from_config_dict, presets
from ssah_jax.config.fields import get

FILES = sorted((ROOT / "configs").glob("[!_]*.py"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_files():
    assert {path.stem for path in FILES} >= {
        *("digits", "fashion_mnist", "cifar10", "nuswide", "cub200"),
        *("stanford_dogs", "folder"),
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_smoke_and_variants(path):
    module = load(path)
    plain = from_config_dict(module.get_config())
    assert from_config_dict(module.get_config("")) == plain
    smoke = from_config_dict(module.get_config("smoke"))
    assert smoke.steps <= 20 and smoke.batch.labelled + smoke.batch.unlabelled <= 64
    changed = {x.partition(":")[0] for x in config_lib.differences(plain, smoke)}
    assert changed == {
        name
        for name, value in (presets.SMOKE | module.SMOKE).items()
        if get(plain, name) != value
    }
    rival = from_config_dict(module.get_config("supervised,loss.name=orthohash"))
    assert (rival.anet.kind, rival.loss.name) == ("none", "orthohash")
    tuned = from_config_dict(module.get_config("fine_tune"))
    assert (tuned.hnet.frozen, tuned.hnet.backbone) == (6, "efficientnet_lite0")
    assert (tuned.data, tuned.loss, tuned.anet) == (plain.data, plain.loss, plain.anet)
    # The last one wins.
    assert from_config_dict(module.get_config("smoke,steps=7")).steps == 7
    assert from_config_dict(module.get_config("steps=7,smoke")).steps == smoke.steps


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_is_valid_and_says_how_to_run_it(path):
    module = load(path)
    values = module.get_config()
    assert values.is_locked
    config = from_config_dict(values)
    assert config_lib.from_json(config_lib.to_json(config)) == config
    assert f"python train.py --config configs/{path.name}" in module.__doc__
    assert module.get_config.__doc__
    # What the commands of the docstring set, exists.
    for word in module.__doc__.replace("`", " ").split():
        if word.startswith("--config."):
            assert word.removeprefix("--config.").partition("=")[0] in FIELDS
        if word.startswith(f"configs/{path.name}:"):
            from_config_dict(module.get_config(word.partition(":")[2]))


def applied(words, **smoke):
    return presets.with_presets(config_lib.default(), words, smoke=smoke)


def test_fields_by_full_and_short_name():
    wanted = applied("bits=64, hnet.backbone=alexnet,data.flip=True,hnet.widths=(4,8)")
    assert applied("widths=[4,8],bits=64,backbone=alexnet,flip=True") == wanted
    config = from_config_dict(wanted)
    assert (config.bits, config.hnet.backbone) == (64, "alexnet")
    assert (config.data.flip, config.hnet.widths) == (True, (4, 8))


def test_a_name_that_several_groups_have_needs_to_be_full():
    with pytest.raises(ConfigError, match="found the preset 'batch=2'"):
        applied("batch=2")
    assert applied("eval.batch=2").eval.batch == 2


def test_options_of_hash_losses_take_no_short_name_from_others():
    for short, full in (
        ("alpha", "graph.alpha"),
        ("rate", "pace.rate"),
        ("every", "eval.every"),
    ):
        value = {"every": 7}.get(short, 0.375)
        assert config_lib.flatten(applied(f"{short}={value}").to_dict())[full] == value
    config = from_config_dict(applied("loss.name=dch,loss.dch.gamma=10.0"))
    assert config.loss.hash_options["gamma"] == 10.0
    with pytest.raises(ConfigError, match="found the preset 'gamma=10'"):
        applied("gamma=10")


def test_commas_in_quotes_and_brackets_do_not_separate():
    config = applied(
        "loss.name=dhn,loss.options='alpha=0.5,quantisation=0.2',hnet.widths=(4,8),bits=16"
    )
    assert config.loss.options == "alpha=0.5,quantisation=0.2"
    assert config.loss.dhn == config_lib.default().loss.dhn
    assert tuple(config.hnet.widths) == (4, 8)
    assert config.bits == 16


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tiny", "found the preset 'tiny', accepted are smoke, random, paced, "),
        ("bit=3", "found the preset 'bit=3', accepted are smoke, random, "),
        ("bits=many", "config.bits: found 'many', accepted is int, such as 32"),
    ],
)
def test_a_preset_that_does_not_exist_is_one_line(text, found):
    with pytest.raises(ConfigError) as caught:
        applied(text)
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_preset_random_draws_at_random():
    values = presets.with_presets(config_lib.default(), "random", smoke={})
    assert values.anet.kind == "random"
