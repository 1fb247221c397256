"""`ssah show` of a small run: what is found, the map, attention, mistakes."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from html_page import Page
from search_cases import NUMBER, call, config, distances, mistake

from ssah_jax.data.sealed import sealed
from ssah_jax.run import show
from ssah_jax.run.experiment import prepare
from ssah_jax.run.report.run_page import write_report


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    """The run as if its final evaluation had been written."""
    workdir = tmp_path_factory.mktemp("show") / "<b>run"
    shutil.copytree(run.workdir, workdir)
    (workdir / "results.json").write_text(json.dumps(sealed({})))
    split = prepare(config()).split
    (workdir / "gallery").mkdir()
    queries = [
        {"group": group, "index": int(row)}
        for group, row in zip(("best", "best", "worst"), split.query[:3], strict=True)
    ]
    text = json.dumps({"queries": queries})
    (workdir / "gallery" / "gallery.json").write_text(text)
    return workdir


@pytest.mark.slow
def test_the_runs_own_queries(finished, tmp_path, capsys):
    out = tmp_path / "show.html"
    assert call("show", "--workdir", finished, "--out", out, "--sample", 100) == 0
    assert capsys.readouterr().out == f"{out}\n"
    page = Page(out)
    split = prepare(config()).split
    best, _, worst = split.query[:3]
    assert f"best: {best}" in page.text and f"worst: {worst}" in page.text
    assert "What <b>run finds" in page.text and not page.all("script")
    assert f"among 100 of the\n{len(split.database):,} database" in page.text
    assert len(page.labels()) == 3
    assert page.labels()[0] == "Map of codes: 100 database images and 2 queries"
    # Of each query itself, ten neighbours, what is seen and the heat.
    assert len(page.all("img")) == 2 * 13
    assert "27 windows (0.3, 0.5, 0.7 of the side)" in page.text
    assert mistake(capsys, "show", "--workdir", finished, "--out", out).startswith(
        f"{out}: is there already"
    )


@pytest.mark.slow
def test_the_report_has_them_too(run, finished, tmp_path):
    """Of the run's own queries, as long as it is of the same step; never of others."""
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    results, report = workdir / "results.json", workdir / "report.html"
    # Which names no pictures: the first test queries are taken instead.
    (workdir / "gallery" / "gallery.json").unlink()
    results.write_text(json.dumps(sealed({"steps": 0})))
    words = ["show", "--workdir", workdir, "--sample", 50, "--out", tmp_path / "a.html"]
    assert call(*words, "--query", run.photos / run.names[3]) == 0
    assert not report.exists()
    assert call(*words, "--overwrite") == 0
    page = Page(report)
    assert "Map of codes: 50 database images and 3 queries" in page.labels()
    assert "27 windows (0.3, 0.5, 0.7 of the side)" in page.text
    pairs = [image for image in page.all("img") if "hiding" in image["alt"]]
    assert len(pairs) == 3
    results.write_text(json.dumps(sealed({"steps": 1})))
    write_report(workdir)
    assert "Attention of bits" not in report.read_text()
    results.write_text(json.dumps(sealed({"steps": 0})))
    (workdir / "looks" / "looks.json").write_text('{"step": 0, "classes": [9]}')
    write_report(workdir)
    assert "Attention of bits" not in report.read_text()


def test_what_is_nearest_and_where_it_lies(run):
    experiment = prepare(config())
    database, source = experiment.split.database, experiment.source
    known = database[database < NUMBER]
    query = int(known[0])
    queries = show.given_queries(run.encoder, [str(run.photos / run.names[query])])
    labelled = dataclasses.replace(queries, labels=source.labels[[query]])
    found = show.look(run.encoder, experiment, labelled, sample=10_000)
    (answer,) = found.answers
    far = distances(run, query)[known].tolist()
    own = dict(zip(known.tolist(), far, strict=True))
    shown = {int(near["id"]): near["distance"] for near in answer.neighbours}
    assert len(shown) == 10 and len(found.points) == len(database)
    assert [*shown.values()] == sorted(shown.values()) and shown[query] == 0
    farthest = max(shown.values())
    for row, distance in own.items():
        assert shown[row] == distance if row in shown else distance >= farthest
    classes = source.labels.argmax(axis=1)
    assert {near["hit"] for near in answer.neighbours} == {True, False}
    for row, near in zip(shown, answer.neighbours, strict=True):
        assert near["hit"] == (classes[row] == classes[query])
        assert near["labels"] == source.class_names[classes[row]]
    np.testing.assert_array_equal(found.classes, classes[database])
    np.testing.assert_allclose(found.query_points[0], found.points[0], atol=1e-6)
    np.testing.assert_allclose(found.points.mean(axis=0), 0, atol=1e-6)
    assert answer.flips.shape == (3, 3, 3, 20) and answer.flips.any()


def test_image_files_have_no_class(run, finished, tmp_path):
    out, photo = tmp_path / "show.html", run.photos / run.names[3]
    words = ["--workdir", finished, "--query", photo, photo, "--sample", 12]
    assert call("show", *words, "--out", out) == 0
    page = Page(out)
    kinds = [attributes["class"] for attributes in page.all("li")[:20]]
    assert kinds == ["found"] * 20 and "solid frame" not in page.text


def test_windows_lie_within_the_crop():
    # No backbone takes so small a crop; none is asked.
    experiment = dataclasses.replace(prepare(config()), config=config(crop_size=5))
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1) + 1
    seen = []

    def encode(images):
        seen.append(images)
        return np.ones((len(images), 4))

    view, flips, _ = show._attention(experiment, image, encode)
    np.testing.assert_array_equal(view, image[1:6, 1:6])
    (images,) = seen
    assert len(images) == 28 and not flips.any()
    np.testing.assert_array_equal(images[0], image)
    outside = np.ones((8, 8), bool)
    outside[1:6, 1:6] = False
    assert (images[:, outside] == image[outside]).all()
    # The smallest window, 2 pixels a side, in the crop's first corner.
    assert not images[1, 1:3, 1:3].any() and (images[1] == 0).sum() == 4


def test_mistakes_are_one_line(run, finished, tmp_path, capsys):
    out, broken = tmp_path / "show.html", tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    for words, said in (
        (["--workdir", tmp_path], "no config.json, so not the workdir of a run"),
        (["--workdir", run.workdir], "a run that is not finished (no results.json)"),
        (["--workdir", finished, "--query", broken], "broken.jpg"),
        (["--workdir", finished, "--query", tmp_path / "none.jpg"], "none.jpg"),
        (["--workdir", finished, "--sample", 0], "--sample: found 0, accepted"),
        (["--workdir", finished, "--step", "7"], "7"),
    ):
        assert said in mistake(capsys, "show", *words, "--out", out)
    assert not out.exists()
