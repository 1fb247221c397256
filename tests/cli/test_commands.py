"""Training and evaluation as users run them: results, restarts, signals, mistakes.

Processes of their own where a process is what is tested: its end, its devices.
"""

import json
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import ROOT, here, run, start, train, train_arguments

from ssah_jax.run import train_state
from ssah_jax.run.checkpointing import open_checkpoints
from ssah_jax.run.experiment import prepare
from ssah_jax.run.workdir import Workdir

KEYS = {
    "map",
    "map_stable",
    "map_per_class",
    "ndcg",
    "code_statistics",
    "precision_at",
    "pr_curve",
    "precision_radius2",
    "protocol",
    "bits",
    "num_query",
    "num_database",
    "num_labelled",
    "seed",
    "steps",
    "versions",
    "wall_seconds",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The workdir of a small run, from start to end without interruption."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    status, out, err = train(workdir)
    assert status == 0, err
    assert "mAP" in out
    return workdir


def final_state(workdir: Path):
    """Every leaf of the last checkpoint, typed keys as their words."""
    experiment = prepare(Workdir(workdir).read_config())
    with open_checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        like = jax.eval_shape(lambda: train_state.init_state(experiment))
        state = checkpoints.restore(like)
    state = state.replace(key=jax.random.key_data(state.key))
    return jax.tree.leaves(jax.device_get(state))


def tree_of(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, with its content."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_workdir_holds_what_is_promised(finished):
    results = json.loads((finished / "results.json").read_text())
    assert results.keys() >= KEYS
    assert results["steps"] == 12
    assert results["num_labelled"] == 100
    assert results["wall_seconds"] > 0
    assert 0 < results["map"] <= 1
    lines = [
        json.loads(x) for x in (finished / "metrics.jsonl").read_text().split("\n")[:-1]
    ]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    assert {"loss/total", "pace/threshold", "pace/reach_window"} <= lines[0].keys()
    assert "validation/map" in lines[2] and "validation/map" not in lines[0]
    assert "<html" in (finished / "report.html").read_text()
    assert json.loads((finished / "gallery" / "gallery.json").read_text())
    assert len(list((finished / "strips").glob("*.png"))) == 2
    assert json.loads((finished / "config.json").read_text())["bits"] == 16


@pytest.mark.slow
@pytest.mark.parametrize("lost", [("model_card.md",), ("report.html", "model_card.md")])
def test_pages_that_were_not_written_are_made_up_for(finished, lost, capsys):
    before = {name: (finished / name).read_text() for name in lost}
    for name in lost:
        (finished / name).unlink()
    status, out, err = here(capsys, "train", *train_arguments(finished))
    assert status == 0, err
    assert "finished" in out
    assert "No results yet" not in (finished / "report.html").read_text()
    assert (finished / "model_card.md").read_text() == before["model_card.md"]


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
def test_eval_repeats_the_results_of_training(finished, devices, capsys):
    before = tree_of(finished / "checkpoints")
    results = (finished / "results.json").read_text()
    arguments = [f"--workdir={finished}"]
    if devices == 1:
        status, out, err = run("eval.py", *arguments)
    else:
        status, out, err = here(capsys, "eval", *arguments)
    assert status == 0, err
    again = json.loads((finished / "results.json").read_text())
    assert round(again["map"], 6) == round(json.loads(results)["map"], 6)
    assert f"{again['map']:.6f}" in out
    if devices == 1:
        assert (finished / "results.json").read_text() == results
    assert tree_of(finished / "checkpoints") == before


@pytest.mark.slow
def test_eval_of_another_checkpoint_keeps_the_results(finished, capsys):
    results = (finished / "results.json").read_text()
    status, _, err = here(capsys, "eval", f"--workdir={finished}", "--step=best")
    assert status == 0, err
    assert (finished / "results.json").read_text() == results
    path = finished / "checkpoints" / "12"
    status, _, err = here(capsys, "eval", f"--checkpoint={path}")
    assert status == 0, err


@pytest.mark.slow
def test_finished_run_says_so(finished, capsys):
    before = tree_of(finished)
    status, out, _ = here(capsys, "train", *train_arguments(finished))
    assert status == 0
    assert "finished" in out
    assert tree_of(finished) == before


@pytest.mark.slow
def test_killed_run_ends_bit_identical(finished, tmp_path):
    workdir = tmp_path / "killed"
    process = start("train.py", *train_arguments(workdir))
    deadline = time.monotonic() + 300
    while not list(workdir.glob("checkpoints/6/state")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (workdir / "results.json").exists()
    status, _, err = train(workdir)
    assert status == 0, err
    for found, wanted in zip(final_state(workdir), final_state(finished), strict=True):
        np.testing.assert_array_equal(found, wanted)
    results, whole = (
        json.loads((each / "results.json").read_text()) for each in (workdir, finished)
    )
    for each in (results, whole):
        del each["wall_seconds"], each["seal"]
    assert results == whole
    steps = [
        json.loads(line)["step"]
        for line in (workdir / "metrics.jsonl").read_text().split("\n")[:-1]
    ]
    assert steps == [2, 4, 6, 8, 10, 12]


def test_interrupt_while_setting_up_is_a_word():
    # Raised, not sent: whoever runs this in the background may ignore the signal.
    code = """import signal, sys
from ssah_jax import cli
from ssah_jax.cli import eval as command
command.run = lambda options: signal.raise_signal(signal.SIGINT)
sys.exit(cli.main(["eval"]))"""
    assert run("-c", code) == (130, "", "interrupted\n")


@pytest.mark.slow
def test_interrupted_run_stops_cleanly_and_resumes(finished, tmp_path, capsys):
    workdir = tmp_path / "interrupted"
    process = start("train.py", *train_arguments(workdir))
    deadline = time.monotonic() + 300
    while not (workdir / "metrics.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    # What schedulers send first; Ctrl-C and SIGTERM are the same request.
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "the same command resumes" in err
    assert "Traceback" not in err
    # To evaluate what is there does not make the run a finished one.
    status, _, err = here(capsys, "eval", f"--workdir={workdir}")
    assert status == 0, err
    assert not (workdir / "results.json").exists()
    status, _, err = train(workdir)
    assert status == 0, err
    for found, wanted in zip(final_state(workdir), final_state(finished), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow
def test_eight_devices_train_to_the_same_result(finished, tmp_path):
    workdir = tmp_path / "eight"
    status, _, err = train(workdir, devices=8)
    assert status == 0, err
    # Twelve steps of Adam from equal gradients, up to the order of sums.
    for found, wanted in zip(final_state(workdir), final_state(finished), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0.05, atol=2e-2)


MISTAKES = {
    "no config": (["--config=configs/none.py"], ["--config", "configs/none.py"]),
    "no Python": (["--config=README.md"], ["--config", "README.md"]),
    "argument": (["digits"], ["'digits'"]),
    "unknown field": (["--config.bitz=3"], ["config.bitz: no such field", " bits, "]),
    "unknown field of a group": (
        ["--config.loss.nam=dsh"],
        ["config.loss.nam: no such field; accepted are ", " name, "],
    ),
    "wrong type": (["--config.bits=many"], ["bits"]),
    "too few bits": (["--config.bits=0"], ["config.bits", "0", "at least 1"]),
    "unknown word": (["--config.anet.kind=slow"], ["config.anet.kind", "slow"]),
    "devices": (["--config.batch.labelled=12"], ["config.batch.labelled", "12", "8"]),
    "labels": (["--config.labels_per_class=1000"], ["1000"]),
    "no such file": (
        ["--config.data.source=idx", "--config.data.path=/no/such/place"],
        ["/no/such/place"],
    ),
    "preset": (["--config=configs/folder.py:tiny"], ["--config", "'tiny'", "smoke"]),
    "workdir": (["--workdir=/proc/nope"], ["/proc/nope"]),
    "unknown flag": (["--wordkir=x"], ["wordkir"]),
    "queries": (["--config.data.num_queries=5000"], ["5000"]),
    "backbone": (["--config.hnet.backbone=alexnet"], ["alexnet", "63", "8 x 8"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line_and_leave_no_trace(name, tmp_path, capsys):
    arguments, words = MISTAKES[name]
    workdir = tmp_path / "untouched"
    status, out, err = here(capsys, "train", *train_arguments(workdir, *arguments))
    assert status == 2, err
    assert out == ""
    # Before it, what was understood of the data, if it came so far.
    *understood, error = err.splitlines()
    assert error.startswith("error: ") and len(understood) <= 2, err
    assert all(line.startswith(("digits: ", "protocol ")) for line in understood), err
    for word in words:
        assert word in error
    assert not workdir.exists()


def test_truncated_idx_file_is_one_line(tmp_path, capsys):
    for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
        (tmp_path / name).write_bytes(b"\0\0\x08\x03\0\0\0\x05\0\0\0\x1c\0\0\0\x1cabc")
    for name in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
        (tmp_path / name).write_bytes(b"\0\0\x08\x01\0\0\0\x05\0\1\2\3\4")
    status, _, err = here(
        capsys,
        "train",
        *train_arguments(tmp_path / "w"),
        "--config.data.source=idx",
        f"--config.data.path={tmp_path}",
    )
    assert status == 2
    assert err.count("\n") == 1 and "train-images-idx3-ubyte" in err
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_workdir_of_another_config_is_refused(finished, capsys):
    before = tree_of(finished)
    status, _, err = here(
        capsys, "train", *train_arguments(finished), "--config.seed=5"
    )
    assert status == 2
    assert err.count("\n") == 1 and "seed: 0 there, 5 asked for" in err
    assert tree_of(finished) == before


@pytest.mark.slow
def test_incompatible_checkpoint_is_one_line(finished, tmp_path, capsys):
    workdir = tmp_path / "edited"
    shutil.copytree(finished, workdir)
    config = json.loads((workdir / "config.json").read_text())
    config["bits"] = 32
    (workdir / "config.json").write_text(json.dumps(config))
    status, _, err = here(capsys, "eval", f"--workdir={workdir}")
    assert status == 2
    assert err.count("\n") == 1 and "hash/kernel" in err, err
    assert "16]" in err and "32]" in err, err


@pytest.mark.parametrize("arguments", [[], ["--workdir=/no/such/run"]])
def test_eval_without_a_run_is_one_line(arguments, capsys):
    status, _, err = here(capsys, "eval", *arguments)
    assert status == 2
    assert err.count("\n") == 1 and err.startswith("error: ")


@pytest.mark.slow
def test_help_names_the_flags():
    status, out, _ = run("train.py", "--help")
    assert status == 0
    assert "--config" in out and "--workdir" in out and "resumes" in out


def test_scripts_are_short():
    for name in ("train.py", "eval.py"):
        assert len((ROOT / name).read_text().splitlines()) <= 12
