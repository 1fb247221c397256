"""The workdir: whose it is, what survives a kill, and experiments' set-up checks."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ssah_jax.config import ConfigError, from_config_dict
from ssah_jax.data.sealed import sealed
from ssah_jax.run.experiment import check_devices, prepare
from ssah_jax.run.model_info import ModelInfo
from ssah_jax.run.results import is_finished
from ssah_jax.run.workdir import Workdir, WorkdirError

CONFIG = from_config_dict({})
INFO = ModelInfo((8, 8, 1), ("a", "b"), "0123")
SMALL = {"num_queries": 50, "num_validation": 50}


def test_new_and_own_directories_are_free(tmp_path):
    for name in ("missing", "empty"):
        workdir = Workdir(tmp_path / name)
        if name == "empty":
            workdir.path.mkdir()
        workdir.check_free_for(CONFIG)
        workdir.create(CONFIG, "{}", INFO)
        workdir.check_free_for(CONFIG)
        assert workdir.read_config() == CONFIG
        assert workdir.read_model_info() == INFO


def test_directories_of_others_are_refused(tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.create(CONFIG, "{}", INFO)
    other = from_config_dict({"bits": 64, "anet": {"grid": 3}})
    with pytest.raises(WorkdirError, match=r"bits: 32 there, 64 asked for \(and 1 mor"):
        workdir.check_free_for(other)
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="is a file"):
        Workdir(tmp_path / "file").check_free_for(CONFIG)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("")
    with pytest.raises(WorkdirError, match="holds files but no config"):
        Workdir(tmp_path / "photos").check_free_for(CONFIG)
    with pytest.raises(WorkdirError, match="not the workdir of a run"):
        Workdir(tmp_path / "photos").read_config()


def test_what_a_killed_creation_left_is_taken_over(tmp_path):
    for name in ("split.json", ".model.json.17.tmp", ".lock"):
        (tmp_path / name).write_text("{")
    workdir = Workdir(tmp_path)
    workdir.check_free_for(CONFIG)
    workdir.create(CONFIG, "{}", INFO)
    assert (tmp_path / "split.json").read_text() == "{}"


def test_two_processes_do_not_train_in_one_workdir(tmp_path):
    first, second = Workdir(tmp_path / "run"), Workdir(tmp_path / "run")
    with (
        first.locked(),
        pytest.raises(WorkdirError, match="another process is training here"),
        second.locked(),
    ):
        pass
    with second.locked():
        pass
    second.check_free_for(CONFIG)


def test_metrics_survive_a_torn_line_and_are_cut_at_the_checkpoint(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.read_metrics() == []
    assert workdir.drop_metrics_after(10) == 0.0
    for step in (5, 10, 15):
        workdir.log({"step": step, "seconds": step / 2})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "sec')
    assert [line["step"] for line in workdir.read_metrics()] == [5, 10, 15]
    assert workdir.seconds_at(12) == 5.0
    assert workdir.drop_metrics_after(12) == 5.0
    workdir.log({"step": 15, "seconds": 9.0})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 10, 15]


def test_damaged_records_are_one_line(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.log({"step": 5, "seconds": 2.0})
    whole = workdir.results.parent / "metrics.jsonl"
    for line in (b"\xff{}", b"{}", b"[1]", b'{"step": 5, "seconds": {}}', b"{"):
        whole.write_bytes(b'{"step": 1, "seconds": 1.0}\n' + line + b"\n")
        with pytest.raises(
            WorkdirError, match=r"metrics\.jsonl: found a damaged line 2"
        ):
            workdir.read_metrics()
    results = {
        "map": 0.25,
        "steps": 12,
        "pr_curve": ((1.0, 0.5), (0.25, 1.0)),
        "n": None,
    }
    text = json.dumps(sealed(results), indent=2)
    workdir.results.write_text(text)
    assert workdir.read_results() == json.loads(json.dumps(results))
    for changed in (
        text.replace("0.25,", "0.35,", 1),
        text[: len(text) // 2],
        json.dumps(results),
        "[]",
        "",
    ):
        workdir.results.write_text(changed)
        with pytest.raises(WorkdirError, match=r"results\.json: found a damaged file"):
            is_finished(workdir)


def test_prepare_splits_without_overlap():
    experiment = prepare(from_config_dict({"labels_per_class": 10, "data": SMALL}))
    split = experiment.split
    assert len(split.labelled) == 100
    assert len(split.query) == len(split.validation) == 50
    assert not np.intersect1d(split.labelled, split.database).size
    assert not np.intersect1d(split.query, split.validation).size
    np.testing.assert_array_equal(split.database, split.unlabelled)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hnet": {"backbone": "alexnet"}}, ["backbone", "63", "8 x 8"]),
        ({"data": {"mean": (0.1, 0.2), "std": (1.0, 1.0)}}, ["data.mean", "2", "1"]),
        ({"data": {"multi_label": True}}, ["data.multi_label", "True", "False"]),
        ({"anet": {"blocks": 81}}, ["anet.blocks", "81", "8 a side"]),
        ({"labels_per_class": 900}, ["labels_per_class", "900"]),
        ({"data": {"source": "cifar"}}, ["cifar", "digits"]),
    ],
)
def test_what_does_not_fit_the_images_is_one_line(fields, words):
    merged = {**fields, "data": {**SMALL, **fields.get("data", {})}}
    with pytest.raises(ValueError) as error:
        prepare(from_config_dict(merged))
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_batches_must_divide_over_devices():
    check_devices(from_config_dict({"batch": {"labelled": 16, "unlabelled": 8}}))
    with pytest.raises(ConfigError, match=r"config.batch.unlabelled: found 12, .* 8 d"):
        check_devices(from_config_dict({"batch": {"labelled": 8, "unlabelled": 12}}))


def test_a_workdir_without_its_model_is_refused(tmp_path):
    workdir = Workdir(tmp_path / "run")
    with pytest.raises(WorkdirError, match=r"model.json: found FileNotFoundError"):
        workdir.read_model_info()
    workdir.create(CONFIG, "{}", INFO)
    (workdir.path / "model.json").write_text("{}")
    with pytest.raises(WorkdirError, match=r"model.json: found KeyError"):
        workdir.read_model_info()


def test_data_that_changed_are_refused(tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.check_same_data(INFO)
    workdir.create(CONFIG, "{}", INFO)
    workdir.check_same_data(INFO)
    for changed in ({"data_digest": "4567"}, {"class_names": ("a", "c")}):
        with pytest.raises(WorkdirError, match="began with another data set"):
            workdir.check_same_data(dataclasses.replace(INFO, **changed))


def test_the_digest_of_an_experiment_sees_images_labels_and_split(tmp_path):
    def info(names, *, seed=0, swap=False):
        for index, name in enumerate(names):
            folder = tmp_path / str(len(names)) / "ab"[(index + swap) % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
        config = from_config_dict(
            {
                "seed": seed,
                "labels_per_class": 2,
                "data": {
                    "source": "folder",
                    "path": str(tmp_path / str(len(names))),
                    "image_size": 8,
                    "protocol": "pooled",
                    "num_queries": 2,
                    "num_validation": 2,
                },
            }
        )
        found = prepare(config).info
        shutil.rmtree(tmp_path / str(len(names)))
        return found

    names = [f"{index:02d}" for index in range(20)]
    whole = info(names)
    assert whole == info(names)
    assert whole != info([*names, "more", "most"])
    assert whole != info([*names[:-1], "renamed"])
    assert whole != info(names, swap=True)
    assert whole != info(names, seed=1)


def test_what_fails_before_it_is_a_run_leaves_no_directory(tmp_path):
    workdir = Workdir(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), workdir.locked():
        raise KeyboardInterrupt
    assert not workdir.path.exists()
    workdir.path.mkdir()
    with pytest.raises(KeyboardInterrupt), workdir.locked():
        raise KeyboardInterrupt
    assert workdir.path.exists()


def test_a_mark_is_seen_where_it_is_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("ssah_jax.run.workdir._BETWEEN_LOOKS", 0)
    one, other = Workdir(tmp_path / "one"), Workdir(tmp_path / "other")
    one.path.mkdir()
    mark = one.mark()
    assert one.sees(mark) and not other.sees(mark)
    one.unmark(mark)
    assert not one.sees(mark) and not list(one.path.iterdir())
