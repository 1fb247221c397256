"""A folder of photographs that nobody has sorted: trained on, encoded, not measured."""

import json
import shutil

import jax
import numpy as np
import pytest
from commands import ROOT, here
from PIL import Image
from small_runs import trained

from ssah_jax.cli.config_option import read_config
from ssah_jax.config import ConfigError
from ssah_jax.data import DataError, features_source
from ssah_jax.run import opening, show, train_lib
from ssah_jax.run.checks import describe_data
from ssah_jax.run.encoder import Encoder
from ssah_jax.run.experiment import prepare
from ssah_jax.run.other_sets import other_sets
from ssah_jax.run.report.compare_page import comparison
from ssah_jax.run.workdir import Workdir

NUMBER = 24

SMALL = (
    "data.image_size=10,data.crop_size=8,bits=16,hnet.widths=[4,8],steps=4,log_every=2,"
    "checkpoint_every=2,batch.unlabelled=8,eval.every=2,eval.batch=16"
)


def photographs(directory, *, nested=False):
    """`NUMBER` different ones, in one folder or in two of dates below two of years."""
    rng = np.random.default_rng(0)
    for index in range(NUMBER):
        inside = f"{2019 + index % 2}/0{5 + index % 4}" if nested else "."
        path = directory / inside / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).save(path)
    return directory


def config(path, presets="unsupervised"):
    return read_config(f"{ROOT}/configs/folder.py:path={path},{presets},{SMALL}")


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("flat"))


@pytest.fixture(scope="module")
def finished(flat, tmp_path_factory):
    workdir = Workdir(tmp_path_factory.mktemp("runs") / "run")
    return workdir, *trained(prepare(config(flat)), workdir)


@pytest.mark.slow
def test_it_learns_from_all_and_says_that_nothing_is_measured(finished, capsys):
    workdir, results, _ = finished
    assert results["not_measured"] == "no labels"
    assert not {name for name in results if name.startswith(("map", "ndcg", "prec"))}
    assert (results["num_database"], results["num_labelled"]) == (NUMBER, 0)
    assert results["code_statistics"]["num_codes"] == NUMBER
    split = json.loads((workdir.path / "split.json").read_text())
    assert split["unlabelled"] == split["database"] == list(range(NUMBER))
    assert not (split["query"] or split["validation"] or split["labelled"])
    lines = workdir.read_metrics()
    assert [line["step"] for line in lines] == [2, 4]
    assert all(np.isfinite(line["loss/cross_view"]) for line in lines)
    assert not {name for line in lines for name in line if name.startswith("valid")}
    report = workdir.report.read_text()
    assert "Not measured</th><td>no labels<" in report and "nan" not in report.lower()
    assert "images without labels" in workdir.card.read_text()
    assert "Nothing was measured of the checkpoint of step 4: no labels." in (
        workdir.card.read_text()
    )
    assert "no labels" in comparison([workdir.path, workdir.path])
    status, out, err = here(capsys, "eval", f"--workdir={workdir.path}")
    assert status == 0, err
    assert out.startswith("no mAP: no labels; ") and out.count("\n") == 1
    assert "24 images without labels, to learn from; nothing can be measured" in err
    again = workdir.read_results()
    del again["wall_seconds"], results["wall_seconds"]
    assert again == results
    status, _, err = here(capsys, "eval", f"--workdir={workdir.path}", "--step=best")
    assert (status, err.count("error: ")) == (2, 1)


@pytest.mark.slow
def test_a_restart_is_bit_exact(finished, flat, tmp_path, monkeypatch):
    _, _, whole = finished
    workdir = Workdir(tmp_path / "half")

    class Interrupted(Exception):
        pass

    def stop(*_, **__):
        raise Interrupted

    with (
        pytest.raises(Interrupted),
        opening.open_run(prepare(config(flat)), workdir) as run,
    ):
        save = run.checkpoints.save
        monkeypatch.setattr(
            run.checkpoints, "save", lambda *a, **kw: (save(*a, **kw), stop())
        )
        train_lib.train(run)
    assert workdir.saved_steps() == [2]
    _, resumed = trained(prepare(config(flat)), workdir)
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)


@pytest.mark.slow
def test_it_encodes_searches_and_shows(finished, flat, tmp_path, capsys):
    workdir, _, _ = finished
    codes, index = tmp_path / "codes.parquet", tmp_path / "photos.index"
    first = flat / "00.png"
    for arguments in (
        ("encode", "--workdir", workdir.path, flat, "--out", codes),
        ("index", codes, "--out", index),
    ):
        status, _, err = here(capsys, *arguments)
        assert status == 0, err
    search = ("search", "--workdir", workdir.path, "--index", index, first, "-k", 1)
    status, out, err = here(capsys, *search, "--json")
    assert status == 0, err
    assert json.loads(out.splitlines()[0])["results"][0]["distance"] == 0
    encoder, experiment = Encoder.from_run(workdir.path), prepare(config(flat))
    queries = show.queries_of_run(experiment, workdir)
    shown = show.look(encoder, experiment, queries, sample=10)
    assert [answer.id for answer in shown.answers] == ["00.png", "01.png", "02.png"]
    assert {near["hit"] for near in shown.answers[0].neighbours} == {None}
    assert set(shown.classes) == {-1}


def test_folders_of_dates_are_classes_only_where_nobody_says_otherwise(tmp_path):
    photos = photographs(tmp_path / "photos", nested=True)
    none = prepare(config(photos, "labels=none,unsupervised"))
    assert (none.source.num_classes, len(none.split.unlabelled)) == (0, NUMBER)
    assert none.source.names[0] == "2019/05/00.png"
    few = "unsupervised,num_queries=4,num_validation=2"
    years = prepare(config(photos, few))
    assert years.source.class_names == ("2019", "2020")
    said = "\n".join(years.understanding.lines())
    assert "folders are taken for classes, to measure by; data.labels=none" in said
    labelled = few.replace("unsupervised", "batch.labelled=4")
    assert "data.labels" not in "\n".join(
        prepare(config(photos, labelled)).understanding.lines()
    )
    with pytest.raises(DataError, match=r"num_queries: found 100.*data\.labels=none"):
        prepare(config(photos))


WRONG = {
    "flat, labelled": (
        "smoke",
        r"^config\.batch\.labelled: found 16 and 24 images without labels in .*flat0?, "
        "accepted is 0, which the preset unsupervised sets; or labels: CLASS/ folders",
    ),
    "none, labelled": (
        "labels=none",
        r"^config\.batch\.labelled: found 32 and 24 images without labels",
    ),
    "none of it": (
        "labels=nothing,unsupervised",
        r"^config\.data\.labels: found 'nothing', accepted is one of auto, none",
    ),
    "another source": (
        "labels=none,unsupervised,data.source=digits",
        r"^config\.data\.labels: found 'none', accepted is 'auto' with the source dig",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_one_line(flat, name):
    presets, match = WRONG[name]
    with pytest.raises(ConfigError, match=match) as caught:
        prepare(config(flat, presets))
    assert "\n" not in str(caught.value)


def test_of_one_photograph_nothing_is_learnt(flat, tmp_path):
    shutil.copy(flat / "00.png", tmp_path)
    with pytest.raises(ValueError, match=r"found 1 images without .* at least 2"):
        prepare(config(tmp_path))


def test_smoke_asks_for_no_labels_after_unsupervised(flat):
    assert config(flat, "unsupervised,smoke").batch.labelled == 0
    assert config(flat, "smoke,unsupervised").batch.labelled == 0


def test_the_check_reads_all_and_compares_nothing(flat, tmp_path):
    photos = shutil.copytree(flat, tmp_path / "photos")
    (photos / "bad.jpg").write_bytes(b"no image")
    lines = list(describe_data(prepare(config(photos))))
    assert lines[0] == (
        "folder: 25 images without labels, to learn from; nothing can be measured"
    )
    assert "unreadable: 1" in lines and "bad.jpg" in lines[-1]
    assert not any("quer" in line for line in lines)


def test_other_sets_measure_it_if_they_have_labels(flat, tmp_path):
    experiment = prepare(config(flat, "labels=none,unsupervised"))
    sorted_ = str(photographs(tmp_path / "sorted", nested=True))

    def sets(queries, database):
        asked = {"queries": queries, "database": database}
        return other_sets(experiment.config, experiment.info, own=experiment, **asked)

    both = sets(sorted_, sorted_)
    assert (both.source.class_names, len(both.split.query)) == (("2019", "2020"), 24)
    for asked in ((sorted_, None), (None, sorted_)):
        with pytest.raises(DataError, match="alone and a run on images without labels"):
            sets(*asked)
    with pytest.raises(DataError, match="found images without labels, expected CLASS/"):
        sets(str(flat), sorted_)


@pytest.mark.slow
def test_a_head_on_features_of_unsorted_photographs(flat, tmp_path, capsys):
    from feature_cases import LITE0

    out, folder = tmp_path / "features", f"{ROOT}/configs/folder.py"
    status, _, err = here(
        capsys,
        *("features", f"{folder}:path={flat},data.image_size=36,data.crop_size=32"),
        *("--backbone=efficientnet_lite0", f"--weights={LITE0}", "--views=3"),
        *("--image-size=0", f"--out={out}"),
    )
    assert status == 0, err
    source = features_source(out)
    assert source.labels.shape == (NUMBER, 0) and source.class_names == ()
    asked = f"{folder}:features,unsupervised,path={out},bits=16,steps=2,eval.batch=16"
    run = tmp_path / "run"
    status, printed, err = here(capsys, "train", f"--config={asked}", "--workdir", run)
    assert status == 0, err
    assert printed.startswith("no mAP: no labels; ")
    codes = tmp_path / "codes.parquet"
    encode = ("encode", "--workdir", run, flat, "--out", codes)
    status, _, err = here(capsys, *encode, f"--weights={LITE0}")
    assert status == 0, err
