"""Arguments, configurations and their fields: what is read, which mistakes are told."""

import dataclasses
from pathlib import Path

import pytest
from commands import ROOT

from ssah_jax import cli
from ssah_jax.cli import config_option
from ssah_jax.config import ConfigError


@pytest.mark.parametrize(
    "spec", ["digits:smoke,bits=12", "configs/digits.py:smoke,bits=12"]
)
@pytest.mark.parametrize(
    "fields",
    [
        ["--config.hnet.widths=(8, 12)", "--config.data.flip"],
        [
            *("--config.hnet.widths", "8", "--config.hnet.widths=12"),
            "--config.data.flip=1",
        ],
    ],
)
def test_config_and_its_fields(spec, fields, monkeypatch):
    monkeypatch.chdir(ROOT)
    found, others = config_option.split_fields([*fields, "--check"])
    assert (found, others) == (fields, ["--check"])
    config = config_option.read_config(spec, found)
    assert config.steps == 20 and config.bits == 12
    assert config.hnet.widths == (8, 12) and config.data.flip is True
    where = config_option.default_workdir(spec, config)
    assert where.parent == Path("runs") and where.name.startswith("digits-")
    other = dataclasses.replace(config, bits=24)
    assert config_option.default_workdir(spec, other) != where


def test_shipped_configurations_are_found_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {path.stem for path in (ROOT / "configs").glob("*.py")}
    assert config_option.shipped().keys() == names
    for name in names:
        assert config_option.read_config(name).steps >= 1
    with pytest.raises(ConfigError) as told:
        config_option.read_config("digit")
    assert all(name in str(told.value) for name in names)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def get_config(:\n", "own.py, line 1: "),
        ("import no_such_module\n", "own.py, line 1: ModuleNotFoundError: No module"),
        ("def get_config():\n    return 1 / 0\n", "own.py, line 2: ZeroDivisionError"),
        (
            "def get_config():\n    raise ValueError('a\\nb')\n",
            "line 2: ValueError: a b",
        ),
        ("x = 1\n", "own.py: AttributeError: module "),
        ("def get_config():\n    return {}\n", "own.py: found dict from get_config()"),
    ],
)
def test_mistakes_in_a_configuration_file(tmp_path, capsys, content, message):
    (tmp_path / "own.py").write_text(content)
    assert cli.main(["train", "--config", str(tmp_path / "own.py")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--config", "digits", "x"], "found the argument 'x', accepted are"),
        (["train", "--config", "digits", "--wordkir=x"], "did you mean --workdir"),
        (["train", "--config"], "--config: expected one argument"),
        (["train", "--config=digits", "--config.bits"], "config.bits: found no value"),
        (["train", "--config=digits", "--work=x"], "unrecognized arguments: --work=x"),
        (["train"], "--config: found none"),
        (["train", "--config.bits=8"], "--config: found none"),
        (["eval", "--workdir=a", "--checkpoint=b"], "found both"),
        (["eval", "--checkpoint=a/checkpoints/best"], "is DIR/checkpoints/STEP"),
        (["eval", "--checkpoint=a/6"], "accepted is DIR/checkpoints/STEP"),
    ],
)
def test_mistakes_in_arguments(capsys, words, message):
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert message in err
