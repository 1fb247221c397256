"""A run's card, and its encoder sent to a hub and loaded from there."""

import hashlib
import json
import shutil

import hub as stand_in
import numpy as np
import pytest
from commands import ROOT
from docs_cases import read_record
from file_server import serving
from huggingface_hub import constants
from report_cases import make_results
from search_cases import call, mistake

from ssah_jax.data.sealed import sealed, unsealed
from ssah_jax.retrieval.code_files import read_codes
from ssah_jax.run.encoder import Encoder
from ssah_jax.run.encoder_file import SHIPPED, read_encoder_file
from ssah_jax.run.evaluators import mean_interval
from ssah_jax.run.report.card import as_text, write_card
from ssah_jax.run.workdir import Workdir

NAME = "a|b](http://x)\n<script>*_`日"


@pytest.fixture
def finished(run, tmp_path):
    """A copy of the run with results, of a source with a name of a stranger's."""
    copy = tmp_path / "run"
    shutil.copytree(run.workdir, copy)
    results = make_results() | {"source": NAME, "split_digest": "d1", "steps": 2}
    results["map_interval"] = [0.7, 0.72]
    (copy / "results.json").write_text(json.dumps(sealed(results)))
    return copy


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving(stand_in.Hub) as running:
        # Read from HF_ENDPOINT when the client is imported, which others have done.
        template = running.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
        yield running


def test_the_card_says_what_was_measured_and_runs_nothing(finished):
    text = write_card(Workdir(finished)).read_text()
    assert text == write_card(Workdir(finished)).read_text()
    for said in ("0.7123", "0.7000 to 0.7200", "`d1`", "8 x 8 pixels, grey", "1,500"):
        assert said in text
    for unsafe in ("<script>", "](http", "|b]", str(finished), "61.25"):
        assert unsafe not in text
    assert as_text(NAME) in text and as_text("a_b") == r"a\_b"


def test_interval_of_a_mean():
    values = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    mean = sum(values) / 5
    variance = sum((value - mean) ** 2 for value in values) / 4
    half = 1.959964 * (variance / 5) ** 0.5
    np.testing.assert_allclose(mean_interval(values), [mean - half, mean + half])
    assert mean_interval(values[:1]) == [0.0, 0.0]


@pytest.mark.slow
def test_push_and_load_again(finished, hub, run, tmp_path):
    assert call("push", "--workdir", finished, "--to", "me/digits") == 0
    files = hub.repositories["me/digits"]
    assert files.keys() == {"model.safetensors", "README.md"}
    assert files["README.md"] == (finished / "model_card.md").read_bytes()
    assert Encoder.load("hf:me/digits").fingerprint == run.encoder.fingerprint
    out = tmp_path / "codes.parquet"
    photo = run.photos / run.names[0]
    assert call("encode", "--model", "hf:me/digits", photo, "--out", out) == 0
    assert read_codes(out).fingerprint == run.encoder.fingerprint


@pytest.mark.slow
def test_what_was_pushed_is_a_workdir_to_those_that_only_read(
    finished, hub, run, tmp_path, capsys
):
    """Encoded, exported and evaluated again, it is the run."""
    assert call("eval", "--workdir", finished) == 0
    # The run of the tests calls its first state step 2.
    ours = unsealed(json.loads((finished / "results_step_0.json").read_text()))
    (finished / "results.json").write_text(json.dumps(sealed(ours | {"steps": 2})))
    assert call("push", "--workdir", finished, "--to", "me/digits") == 0
    pushed = ["--workdir", "hf:me/digits"]
    out = tmp_path / "codes.parquet"
    assert call("encode", *pushed, run.photos / run.names[0], "--out", out) == 0
    assert read_codes(out).fingerprint == run.encoder.fingerprint
    out = tmp_path / "encoder.safetensors"
    assert call("export", *pushed, "--to", "safetensors", "--out", out) == 0
    again = read_encoder_file(out)
    assert again.fingerprint == run.encoder.fingerprint
    assert again.measured["map"] == ours["map"]
    out = tmp_path / "results.json"
    capsys.readouterr()
    assert call("eval", *pushed, "--out", out) == 0
    said = capsys.readouterr()
    assert f"mAP {ours['map']:.6f}" in said.out and str(out) in said.out
    assert f"published: mAP {ours['map']:.6f}" in said.err and "warning" not in said.err
    theirs = json.loads(out.read_text())
    for name in ("map", "map_stable", "split_digest", "steps", "num_query"):
        assert theirs[name] == ours[name]
    boast = ours | {"steps": 2, "map": 0.5}
    (finished / "results.json").write_text(json.dumps(sealed(boast)))
    assert call("push", "--workdir", finished, "--to", "me/boaster") == 0
    capsys.readouterr()
    words = ["eval", "--workdir", "hf:me/boaster", "--out", out]
    assert "--overwrite" in mistake(capsys, *words)
    assert call(*words, "--overwrite") == 0
    assert "warning: published: mAP 0.500000, found " in capsys.readouterr().err


def test_a_pushed_run_is_no_directory(finished, hub, tmp_path, capsys):
    assert call("push", "--workdir", finished, "--to", "me/digits") == 0
    capsys.readouterr()
    pushed = ["--workdir", "hf:me/digits"]
    out = tmp_path / "out"
    assert "--out: " in mistake(capsys, "eval", *pushed)
    assert "--out: " in mistake(capsys, "eval", "--workdir", finished, "--out", out)
    said = mistake(capsys, "eval", *pushed, "--step", "best", "--out", out)
    assert "--step: found 'best'" in said
    for words in (
        ["show", *pushed, "--out", out],
        ["push", *pushed, "--to", "me/again"],
        ["train", "--config", "digits:smoke", *pushed],
    ):
        assert "accepted here is a directory" in mistake(capsys, *words)
    missing = ["export", "--workdir", "hf:me/nothing", "--to", "onnx", "--out", out]
    assert "me/nothing" in mistake(capsys, *missing)
    assert not out.exists() and hub.repositories.keys() == {"me/digits"}


def test_mistakes_are_one_line(finished, hub, run, capsys):
    words = ["push", "--workdir", finished, "--to"]
    assert "accepted is OWNER/NAME" in mistake(capsys, *words, "digits")
    unfinished = ["push", "--workdir", run.workdir, "--to", "me/digits"]
    assert "accepted is a finished run" in mistake(capsys, *unfinished)
    hub.refuses = True
    assert "--to me/digits: " in mistake(capsys, *words, "me/digits")
    assert hub.repositories == {}


def test_the_small_encoder_of_the_package(tmp_path, run):
    out = tmp_path / "codes.parquet"
    assert call("encode", "--model", "small", run.photos, "--out", out) == 0
    found = read_codes(out)
    assert found.fingerprint == Encoder.load("small").fingerprint
    assert len(found.ids) == len(run.names)


def test_the_record_is_of_the_small_encoder():
    record = read_record("small")
    content = SHIPPED["small"].read_bytes()
    assert hashlib.sha256(content).hexdigest() == record["sha256"]
    text = " ".join((ROOT / "docs/export.md").read_text().split())
    low, high = record["map_interval"]
    assert f"mAP is {record['map']:.3f} ({low:.3f} to {high:.3f})" in text
    assert f"precision at 100 {record['precision_at']['100']:.3f}" in text
    assert f"{record['map']:.4f} |" in SHIPPED["small"].with_suffix(".md").read_text()
