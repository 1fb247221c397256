"""Trackers: TensorBoard read back, restarts, failures, what the state sees of them."""

import json
import struct
import typing

import jax
import numpy as np
import pytest
from small_runs import config, trained
from tensorboardX.proto.event_pb2 import Event, SessionLog

from ssah_jax import cli
from ssah_jax.run import tracker_kinds, trackers
from ssah_jax.run.experiment import prepare
from ssah_jax.run.report.pictures import draw_picture
from ssah_jax.run.workdir import Workdir

PNG = draw_picture(np.full((4, 6, 1), 9, np.uint8))


def read_events(directory):
    """Summaries by tag and step, as TensorBoard shows them after restarts."""
    found = {}
    for path in sorted((directory / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            if event.session_log.status == SessionLog.START:
                found = {key: v for key, v in found.items() if key[1] < event.step}
            for value in event.summary.value:
                assert (value.tag, event.step) not in found or event.step == 0
                found[value.tag, event.step] = value
    return found


class Recorder:
    """A tracker that keeps what it is told, and may fail at it."""

    told: typing.ClassVar[list] = []
    fails = ""

    def __init__(self, place):
        self.place = place
        self("open")

    def __call__(self, what, *values, **step):
        if what == self.fails:
            raise SystemExit("no\nmore")
        self.told.append((what, *values, *step.values()))

    def __getattr__(self, name):
        return lambda *values, **step: self(name, *values, **step)


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setitem(
        tracker_kinds.KINDS, "recorder", tracker_kinds._Kind(Recorder, "json")
    )
    monkeypatch.setattr(Recorder, "told", [])
    return Recorder


def log(directory, *, first, last, words=("tensorboard", "recorder"), lines=()):
    with trackers.open_trackers(words, directory, step=first, lines=lines) as opened:
        opened.log_hyperparameters({"bits": 16, "hnet": {"widths": (4, 8)}})
        for step in range(first + 1, last + 1):
            line = {"step": step, "loss/total": step + 0.5, "validation/map": None}
            opened.log_image("strip", PNG, step=step)
            opened.log_scalars(line, step=step)


def test_tensorboard_reads_what_was_written(tmp_path, recorder):
    log(tmp_path, first=0, last=3)
    found = read_events(tmp_path)
    scalars = {key: v.simple_value for key, v in found.items() if "loss" in key[0]}
    assert scalars == {("loss/total", step): step + 0.5 for step in (1, 2, 3)}
    image = found["strip", 2].image
    assert image.encoded_image_string == PNG and (image.width, image.height) == (96, 64)
    text = found["config/text_summary", 0].tensor.string_val[0].decode()
    assert "| bits | 16 |" in text and "| hnet.widths | (4, 8) |" in text


def test_a_restart_doubles_and_loses_no_step(tmp_path, recorder):
    # Killed at step 5, of which steps 4 and 5 were after the last checkpoint.
    log(tmp_path, first=0, last=5)
    log(tmp_path, first=3, last=7)
    steps = [step for tag, step in read_events(tmp_path) if tag == "loss/total"]
    assert sorted(steps) == [1, 2, 3, 4, 5, 6, 7]
    told = [what[-1] for what in recorder.told if what[0] == "log_scalars"]
    assert told == [1, 2, 3, 4, 5, 6, 7]
    assert [what[-1] for what in recorder.told if what[0] == "log_image"] == told
    # A kill before any checkpoint.
    log(tmp_path, first=0, last=2)
    steps = [step for tag, step in read_events(tmp_path) if tag == "loss/total"]
    assert sorted(steps) == [1, 2]


def test_who_comes_late_is_told_what_was_logged(tmp_path, recorder):
    log(tmp_path, first=0, last=2, words=["recorder"])
    lines = [{"step": step, "loss/total": step + 0.5} for step in (1, 2)]
    log(tmp_path, first=2, last=3, lines=lines)
    found = read_events(tmp_path)
    assert sorted(step for tag, step in found if tag == "loss/total") == [1, 2, 3]
    told = [what[1:] for what in recorder.told if what[0] == "log_scalars"]
    assert told == [({"loss/total": step + 0.5}, step) for step in (1, 2, 3)]


@pytest.mark.parametrize("what", ["open", "log_scalars", "log_image", "finish"])
def test_one_that_fails_is_left_out_with_one_warning(
    tmp_path, recorder, monkeypatch, capsys, what
):
    monkeypatch.setattr(recorder, "fails", what)
    log(tmp_path, first=0, last=3)
    err = capsys.readouterr().err
    assert err.startswith("warning: --log recorder failed") and "(no more)" in err
    assert err.count("\n") == 1
    assert [tag for tag, _ in read_events(tmp_path)].count("loss/total") == 3


def test_words(monkeypatch, capsys, tmp_path):
    assert tracker_kinds.read_words("") == ()
    assert tracker_kinds.read_words(" tensorboard,,tensorboard") == ("tensorboard",)
    absent = tracker_kinds._Kind(Recorder, "no_such_package")
    monkeypatch.setitem(tracker_kinds.KINDS, "wandb", absent)
    words = ["train", "--config=digits", f"--workdir={tmp_path / 'run'}"]
    for given, said in (
        ("tensorbord", "--log: found 'tensorbord', accepted are tensorboard, wandb, "),
        ("wandb", "pip install 'ssah-jax[wandb]' brings it"),
    ):
        assert cli.main([*words, "--log", given]) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_is_told_and_its_state_does_not_change(tmp_path, recorder):
    plain = {"consistent": 0.0, "hard": 0.0}
    experiment = prepare(config(anet={"kind": "none"}, loss=plain))
    states = []
    for words in ((), ("tensorboard", "recorder")):
        workdir = Workdir(tmp_path / f"run{len(words)}")
        results, state = trained(experiment, workdir, log=words)
        states.append(state)
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert not (tmp_path / "run0" / "trackers.json").exists()
    lines = (workdir.path / "metrics.jsonl").read_text().splitlines()
    found = read_events(workdir.path)
    for line in map(json.loads, lines):
        assert found["loss/total", line["step"]].simple_value == np.float32(
            line["loss/total"]
        )
    assert found["test/map", 10].simple_value == np.float32(results["map"])
    told = [what[0] for what in recorder.told]
    assert told[:2] == ["open", "log_hyperparameters"]
    assert told[-4:] == ["log_summary", "log_artifact", "log_artifact", "finish"]


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    log(tmp_path, first=0, last=3, words=["wandb"])
    log(tmp_path, first=2, last=5, words=["wandb"])
    steps = []
    for path in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")):
        # Of LevelDB's log: a header of 7 bytes, then records with one each.
        content = path.read_bytes()[7:]
        while content:
            (length,) = struct.unpack("<H", content[4:6])
            for item in Record.FromString(content[7 : 7 + length]).history.item:
                if "loss/total" in (item.key, *item.nested_key):
                    steps.append(json.loads(item.value_json) - 0.5)
            content = content[7 + length :]
    assert steps == [1, 2, 3, 4, 5]
