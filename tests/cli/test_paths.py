"""Paths from `~`, in every option and field that takes one."""

import os

import pytest
from commands import ROOT

from ssah_jax import cli
from ssah_jax.cli import arguments, config_option
from ssah_jax.config import from_config_dict
from ssah_jax.run.experiment import load_source
from ssah_jax.run.warm_start import load_backbone

PATHS = {
    "train": ["--workdir", "--data", "--from-run"],
    "eval": [
        *("--workdir", "--checkpoint", "--data", "--queries", "--database"),
        "--out",
    ],
    "prepare": ["--data-dir", "--from"],
    "features": ["--out", "--weights"],
    "encode": [
        "--workdir",
        "--out",
        "IMAGES",
        "--like",
        "--model",
        "--weights",
        "--fit",
        "--labels",
    ],
    "index": ["--out", "CODES", "--add", "--remove"],
    "search": [
        "--workdir",
        "--like",
        "--model",
        "--weights",
        "--index",
        "QUERY",
        "--features",
        "--html",
        "--root",
    ],
    "duplicates": [
        "FILE",
        "--new",
        "--workdir",
        "--like",
        "--model",
        "--weights",
        "--html",
        "--root",
    ],
    "serve": [
        *("--workdir", "--like", "--model", "--weights", "--index", "--features"),
        "--root",
    ],
    "export": ["--workdir", "--out"],
    "compare": ["RUN", "--out"],
    "show": ["--workdir", "--query", "--data", "--out"],
    "push": ["--workdir"],
    "weights": ["--out", "WEIGHTS"],
}


def test_every_path_expands_the_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of mine")
    for name, options in PATHS.items():
        parser = arguments.Parser()
        cli._module(name).add_arguments(parser)
        actions = {
            word: action
            for action in parser._actions
            for word in (action.option_strings or [action.metavar])
        }
        taking = {word for word, action in actions.items() if action.type is not None}
        numbers = {w for w, action in actions.items() if action.type is int}
        assert taking - numbers == set(options), name
        for word in options:
            assert actions[word].type("~/a") == "/home/of mine/a"
    assert arguments.as_images("@~/list") == "@/home/of mine/list"
    assert arguments.as_path("a~/b") == "a~/b"


def test_config_is_found_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.py").write_text((ROOT / "configs/digits.py").read_text())
    assert config_option.read_config("~/own.py:bits=12").bits == 12


def test_no_home_is_no_directory_called_tilde(monkeypatch, capsys):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cli.main(["eval", "--workdir=~/r"]) == 2
    assert "--workdir: found '~/r' and no home directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "source", ["idx", "folder", "list", "nus_wide", "tfds", "features"]
)
def test_fields_with_paths_expand_the_tilde(source, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    data = {"source": source, "path": "~/none", "name": "cifar10", "flip": False}
    fields = {"data": data}
    if source == "features":
        data["max_shift"] = 0
        fields |= {"hnet": {"backbone": "features"}, "anet": {"kind": "none"}}
    with pytest.raises(ValueError) as told:
        load_source(from_config_dict(fields))
    assert str(tmp_path / "none") in str(told.value) and "~" not in str(told.value)


def test_weights_and_features_expand_the_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = from_config_dict({"hnet": {"weights": "~/none"}})
    with pytest.raises(ValueError) as told:
        load_backbone(config, (8, 8, 1))
    assert str(tmp_path / "none") in str(told.value)
