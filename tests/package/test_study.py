"""`benchmarks/study.py` gives no cell another's numbers, and loses none."""

import dataclasses
import importlib
import itertools
import json

import numpy as np
import pytest
from absl import flags
from commands import ROOT

from ssah_jax import config as config_lib
from ssah_jax.cli.config_option import read_config

RESULTS = ROOT / "benchmarks/results"


@pytest.fixture
def study(monkeypatch):
    """The script, and its flags as they are where none is given."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("study")
    flags.FLAGS(["study.py"])
    yield module
    flags.FLAGS.unparse_flags()


@pytest.fixture
def small(study, monkeypatch, tmp_path):
    """A study of two rows and two seeds that trains nothing; its record's directory."""
    asked = study.Study(
        config="configs/digits.py",
        presets="steps=5",
        rows={"a": "", "b": "bits=8"},
        columns={"x": ""},
        baseline="a",
        seeds=2,
    )
    monkeypatch.setitem(study.STUDIES, "small", asked)
    monkeypatch.setattr(importlib.import_module("records"), "RESULTS", tmp_path)
    flags.FLAGS(["study.py", "--finished", "--runs", str(tmp_path / "runs")])
    return tmp_path


def finish(study, row, seed, presets, mean):
    """A finished run, as `train.py` leaves it."""
    directory = study.directory_of("small", study.Cell(row, "x", seed))
    directory.mkdir(parents=True)
    spec = f"{ROOT}/configs/digits.py:steps=5,seed={seed}{presets}"
    (directory / "config.json").write_text(config_lib.to_json(read_config(spec)))
    results = {"map": mean, "ndcg": 0.5, "wall_seconds": 1.0}
    (directory / "results.json").write_text(json.dumps(results))


def test_no_two_cells_of_a_study_share_a_directory(study):
    """Else the second would be the first one's numbers under another name."""
    for name, each in study.STUDIES.items():
        cells = [
            study.Cell(row, column, 0)
            for row, column in itertools.product(each.rows, each.columns)
        ]
        assert len(set(map(study.title, cells))) == len(cells), name


def test_a_finished_run_of_another_configuration_is_not_taken(study, small):
    finish(study, "a", 0, "", 0.5)
    finish(study, "b", 0, ",bits=16", 0.9)
    with pytest.raises(SystemExit, match="b_x_0: holds another run: bits: 16 there, 8"):
        study.main(["study.py", "small"])
    assert not (small / "small.json").exists()


def test_a_record_keeps_the_cells_whose_runs_are_gone(study, small):
    finish(study, "a", 0, "", 0.5)
    finish(study, "b", 0, ",bits=8", 0.6)
    study.main(["study.py", "small"])
    (small / "runs").rename(small / "gone")
    finish(study, "a", 0, "", 0.7)
    finish(study, "b", 1, ",bits=8", 0.4)
    study.main(["study.py", "small"])
    a, b = json.loads((small / "small.json").read_text())["cells"]
    assert (a["seeds"], a["map"]) == ([0], [0.7])
    assert (b["seeds"], b["map"], b["ndcg"]) == ([0, 1], [0.6, 0.4], [0.5, 0.5])
    np.testing.assert_allclose(b["difference"], -0.1)


@pytest.mark.parametrize("changed", ["presets", "rows"])
def test_but_not_of_a_study_that_has_changed(changed, study, small, monkeypatch):
    finish(study, "b", 0, ",bits=8", 0.6)
    study.main(["study.py", "small"])
    value = "steps=6" if changed == "presets" else {"a": "", "b": "bits=12"}
    other = dataclasses.replace(study.STUDIES["small"], **{changed: value})
    monkeypatch.setitem(study.STUDIES, "small", other)
    (small / "runs").rename(small / "gone")
    with pytest.raises(SystemExit, match="remove the record to begin anew"):
        study.main(["study.py", "small"])


def test_records_are_what_their_cells_make(study):
    """What reads a record back is the inverse of what wrote it."""
    record_of = importlib.import_module("study_record")
    read = 0
    for name, each in study.STUDIES.items():
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        record = json.loads(path.read_text())
        if record["presets"] != each.presets:
            continue
        table = record_of.summarise(each, record_of.cells_of(name, each))
        for found, wanted in zip(table, record["cells"], strict=True):
            for key in ("wall_seconds", "mean", "sd", "difference", "difference_ci95"):
                assert (found[key] is None) == (wanted[key] is None)
                if found[key] is not None:
                    np.testing.assert_allclose(found[key], wanted[key], rtol=1e-6)
                found[key] = wanted[key]
            assert found | wanted == found, (name, wanted["row"])
        read += 1
    assert read > 10


def test_differences_are_paired_by_seed(study, small, capsys):
    line = {"column": "x", "difference": None, "difference_ci95": None}
    cells = [
        line | {"row": "a", "seeds": [0, 1, 2], "map": [0.1, 0.2, 0.3]},
        line
        | {"row": "b", "seeds": [2, 4], "map": [0.35, 0.9], "occluded": [0.3, 0.4]},
        line | {"row": "c", "seeds": [0, 2], "map": [0.11, 0.33]},
    ]
    cells[0]["occluded"] = [0.1, 0.2, None]
    (small / "small.json").write_text(json.dumps({"cells": cells}))
    flags.FLAGS(["study.py", "--minus", "a"])
    study.main(["study.py", "small"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| b | x | +5.0 (1) |  |"
    # Of 1 and 3 points: 2, and 12.706 times their standard error, 1.
    assert lines[3] == "| c | x | +2.0 ± 12.7 (2) |  |"
    with pytest.raises(SystemExit, match="found 'd', accepted is one of 'a', 'b', 'c'"):
        flags.FLAGS(["study.py", "--minus", "d"])
        study.main(["study.py", "small"])
