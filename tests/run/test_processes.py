"""Several processes as one run: agreeing and ending, most of them real ones."""

import json
import re
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import ends, start_several, train, train_arguments

from ssah_jax.run import processes
from ssah_jax.run.workdir import Workdir


def test_one_process_is_the_first_and_has_everything():
    rows = np.arange(6).reshape(3, 2)
    assert processes.is_first() and processes.gather("a") == ["a"]
    assert rows[processes.share(3)].shape == (3, 2)
    assert processes.join_shares(rows, 3) is rows


@pytest.mark.parametrize("number", [0, 1, 5, 8, 9])
def test_shares_are_a_partition_in_order(number, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    rows = []
    for index in range(4):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        rows += list(range(number))[processes.share(number)]
    assert rows == list(range(number))


def test_processes_that_differ_are_told_where(monkeypatch):
    others = ['{"data": "a", "step": 1}', '{"data": "a", "step": 2}']
    monkeypatch.setattr(processes, "gather", lambda text: [text, *others])
    with pytest.raises(ValueError, match="step: found 1 in process 0 and 2 in pro"):
        processes.check_same({"data": "a", "step": 1})


def metrics(workdir: Path) -> list[dict[str, float]]:
    """The logged lines, without what a clock decides."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    clocks = ("seconds", "images_per_second", "data_wait")
    return [{k: v for k, v in line.items() if k not in clocks} for line in lines]


def results(workdir: Path) -> dict[str, object]:
    """The results, without what a clock decides."""
    found = json.loads((workdir / "results.json").read_text())
    return {k: v for k, v in found.items() if k not in ("wall_seconds", "seal")}


def assert_close(found: Path, wanted: Path) -> None:
    """Of two workdirs the same numbers to 1e-5; norms of gradients to 1e-4."""
    for one, two in zip(metrics(found), metrics(wanted), strict=True):
        # A-Net's is of differences in hardness, over a small threshold.
        norms = {name: two.pop(name) for name in [*two] if "gradient/" in name}
        assert {k: one.pop(k) for k in norms} == pytest.approx(norms, rel=1e-4)
        assert one == pytest.approx(two, rel=1e-5, abs=1e-5)
    one, two = results(found), results(wanted)
    assert one["map"] == pytest.approx(two["map"], abs=1e-5)
    assert one["split_digest"] == two["split_digest"]


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    """The workdir of one process with four devices."""
    workdir = tmp_path_factory.mktemp("processes") / "one"
    assert train(workdir, devices=4)[0] == 0
    return workdir


@pytest.mark.slow
def test_two_processes_train_and_evaluate_as_one(one, tmp_path):
    """Two devices each against four of one process; then the same again."""
    for name in ("two", "again"):
        arguments = train_arguments(tmp_path / name)
        first, second = ends(start_several("train.py", *arguments, processes=2))
        assert (first[0], second[0]) == (0, 0), (first, second)
        assert "training in 2 processes" in first[2] and "mAP" in first[1]
        assert second[1:] == ("", "") and "Gloo" not in first[1]
    assert_close(tmp_path / "two", one)
    assert metrics(tmp_path / "two") == metrics(tmp_path / "again")
    assert results(tmp_path / "two") == results(tmp_path / "again")
    trained = results(tmp_path / "two")
    (tmp_path / "two" / "results.json").unlink()
    arguments = [f"--workdir={tmp_path / 'two'}"]
    found = ends(start_several("eval.py", *arguments, processes=2))
    assert [each[0] for each in found] == [0, 0], found
    assert results(tmp_path / "two") == trained


@pytest.mark.slow
def test_four_processes_outlive_no_loss_and_two_resume(one, tmp_path):
    """One killed: the others end with one line; fewer processes go on."""
    workdir = tmp_path / "four"
    # Slow enough to be killed on the way, and the same numbers.
    arguments = train_arguments(workdir)
    alive = start_several("train.py", *arguments, processes=4, devices=1)
    deadline = time.monotonic() + 240
    while not list(workdir.glob("checkpoints/[0-9]")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    alive[2].kill()
    killed = time.monotonic()
    found = ends(alive)
    # The heartbeat's ten seconds, and what a busy machine needs.
    assert time.monotonic() - killed < 40
    assert not (workdir / "results.json").exists()
    for index in (0, 1, 3):
        status, _, err = found[index]
        assert status in (processes.LOST, -6), found
        # Above it stands what was understood of the data, and that training began.
        assert "Traceback" not in err, err
        assert [each for each in err.splitlines() if each.startswith("error: ")] == [
            "error: another process was lost; the same command resumes"
        ]
    found = ends(start_several("train.py", *arguments, processes=2))
    assert [each[0] for each in found] == [0, 0], found
    assert "training from step" in found[0][2]
    assert_close(workdir, one)


@pytest.mark.slow
def test_a_mistake_in_one_process_ends_all_before_anything_is_written(tmp_path):
    workdir = tmp_path / "run"
    arguments = train_arguments(workdir)
    only = {1: "--config.seed=9"}
    for status, _, err in ends(
        start_several("train.py", *arguments, processes=2, only=only)
    ):
        assert status == 2
        error = err.splitlines()[-1]
        assert error.startswith("error: ") and "config.seed: found" in error
    only = {1: "--data=elsewhere"}
    own, other = "--data: found 'elsewhere'", "process 1: --data: found"
    found = ends(start_several("train.py", *arguments, processes=2, only=only))
    for (status, _, err), said in zip(found, (other, own), strict=True):
        assert status == 2 and err.splitlines()[-1].startswith(f"error: {said}"), err
        assert err.count("error: ") == 1
    assert not workdir.exists()


@pytest.mark.slow
def test_ctrl_c_at_one_of_two_processes_stops_both_at_one_step(tmp_path):
    workdir = tmp_path / "run"
    alive = start_several("train.py", *train_arguments(workdir), processes=2)
    deadline = time.monotonic() + 240
    while not list(workdir.glob("checkpoints/[0-9]")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    alive[1].send_signal(signal.SIGINT)
    found = ends(alive)
    assert [each[0] for each in found] == [130, 130], found
    stopped = re.search(r"stopped at step (\d+); the same command", found[0][2])
    assert stopped is not None and "Traceback" not in found[0][2] + found[1][2]
    assert Workdir(workdir).saved_steps()[-1] == int(stopped[1])
    assert not (workdir / "results.json").exists()


@pytest.mark.slow
def test_processes_that_count_differently_end_before_anything_is_written(tmp_path):
    arguments = train_arguments(tmp_path / "run")
    only = {1: "--processes=3"}
    alive = start_several("train.py", *arguments, processes=2, only=only)
    for status, _, err in ends(alive):
        assert status == 2
        assert "--processes: found 3 in process 1 and 2 in process" in err
        assert err.count("error: ") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_of_two_processes_with_one_number_one_is_told_at_once(tmp_path):
    arguments, only = train_arguments(tmp_path / "run"), {2: "--process=1"}
    alive = start_several("train.py", *arguments, processes=3, only=only)
    try:
        while alive[1].poll() is None and alive[2].poll() is None:
            time.sleep(0.05)
        told = next(each for each in alive[1:] if each.poll() is not None)
        assert told.communicate()[1] == (
            "error: --process: found 1 in several processes, accepted is a number of "
            "its own for each\n"
        )
        assert told.returncode not in (0, None)
    finally:
        for each in alive:
            each.kill()
            each.communicate()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_sigterm_ends_a_process_that_is_still_setting_up(tmp_path):
    """JAX's runtime takes it for itself, and nobody asks it."""
    arguments = train_arguments(tmp_path / "run")
    alive = start_several("train.py", *arguments, processes=2)
    assert alive[0].stderr is not None and alive[0].stderr.readline()
    alive[1].terminate()
    found = ends(alive)
    assert found[1][0] == -signal.SIGTERM
    assert found[0][0] in (processes.LOST, -6) and found[0][2].count("error: ") == 1


@pytest.mark.slow
def test_a_workdir_that_processes_do_not_share_is_told(tmp_path):
    """Of their own each, or finished at one of them alone; nothing is left."""
    arguments, other = train_arguments(tmp_path / "one"), tmp_path / "two"
    only = {1: f"--workdir={other}"}
    alive = start_several("train.py", *arguments, processes=2, only=only)
    for status, _, err in ends(alive):
        assert status == 2
        line = f"--workdir: found {tmp_path / 'one'} in process 0 and {other} in proc"
        assert line in err.splitlines()[-1] and err.count("error: ") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_processes_do_not_evaluate_different_checkpoints(one):
    results = (one / "results.json").read_bytes()
    arguments, only = [f"--workdir={one}"], {1: "--step=9"}
    alive = start_several("eval.py", *arguments, processes=2, only=only)
    for status, out, err in ends(alive):
        assert (status, out) == (2, "") and "weights: found" in err.splitlines()[-1]
    assert (one / "results.json").read_bytes() == results
