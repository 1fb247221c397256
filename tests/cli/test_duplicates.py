"""`ssah duplicates`: groups in one set and of new images, as text, JSON and a page."""

import json
import shutil

import numpy as np
import pytest
from search_cases import call, distances, mistake

from ssah_jax.cli import duplicates as duplicates_lib
from ssah_jax.retrieval.code_files import CodeSet


@pytest.mark.slow
def test_groups_of_one_set(run, encoded, indexed, tmp_path, capsys):
    page = tmp_path / "page.html"
    arguments = ("--distance", 1, "--json")
    assert call("duplicates", indexed, *arguments, "--html", page) == 0
    out, err = capsys.readouterr()
    groups = [json.loads(line)["images"] for line in out.splitlines()]
    assert groups and err.startswith(f"{len(groups)} groups of ")
    rows = [
        [run.names.index(x["id"].removeprefix(f"{run.photos}/")) for x in group]
        for group in groups
    ]
    for group, images in zip(rows, groups, strict=True):
        away = distances(run, group[0])
        assert [x["distance"] for x in images] == [away[row] for row in group]
    # Nobody outside is near a member, and nobody is in two.
    inside = [row for group in rows for row in group]
    assert len({*inside}) == len(inside)
    for group in rows:
        near = {
            other
            for row in group
            for other in np.flatnonzero(distances(run, row) <= 1).tolist()
        }
        assert near == {*group}
    text = page.read_text()
    assert text.count("<section>") == len(groups)
    shown = sum(min(len(group), duplicates_lib.PAGE_IMAGES) for group in groups)
    assert text.count('<img src="data:image/jpeg') == shown
    assert call("duplicates", encoded, *arguments) == 0
    assert capsys.readouterr().out == out
    assert call("duplicates", encoded, "--distance", 1) == 0
    text = capsys.readouterr().out
    assert text.startswith("group 1\n") and f"\n{len(groups)} groups of " in text


@pytest.mark.slow
def test_new_images_beside_those_of_an_index(run, indexed, tmp_path, capsys):
    shutil.copy(run.photos / run.names[5], tmp_path / "new.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    arguments = ("duplicates", indexed, "--workdir", run.workdir, "--json", "--new")
    assert call(*arguments, tmp_path) == 1
    out, err = capsys.readouterr()
    (group,) = [json.loads(line)["images"] for line in out.splitlines()]
    wanted = np.flatnonzero(distances(run, 5) == 0).tolist()
    assert group[0]["id"] == str(tmp_path / "new.png")
    assert {x["id"] for x in group[1:]} == {
        str(run.photos / run.names[row]) for row in wanted
    }
    assert "1 groups of " in err and "bad.png: found no image" in err


def test_what_is_refused(run, indexed, tmp_path, capsys):
    other = tmp_path / "other"
    other.write_text("neither")
    assert "expected a file of codes" in mistake(capsys, "duplicates", other)
    line = mistake(capsys, "duplicates", indexed, "--distance", 20)
    assert line.startswith("--distance: found 20, accepted is 0 to 19")
    line = mistake(capsys, "duplicates", indexed, "--new", run.photos)
    assert line.startswith("--new: expected together with one of")
    line = mistake(capsys, "duplicates", indexed, "--html", tmp_path / "no" / "p")
    assert line.startswith("--html: found no folder")


def test_the_page_shows_no_more_than_anybody_looks_at(monkeypatch, tmp_path, indexed):
    monkeypatch.setattr(duplicates_lib, "PAGE_GROUPS", 2)
    monkeypatch.setattr(duplicates_lib, "PAGE_IMAGES", 3)
    page = tmp_path / "p.html"
    assert call("duplicates", indexed, "--distance", 19, "--html", page) == 0
    text = page.read_text()
    assert "70 images, the first 3 are shown" in text
    assert text.count("<li>") == 3


def test_codes_in_the_order_of_the_file():
    packed = np.array([[1], [0], [1], [0], [7]], np.uint8)
    codes = CodeSet(tuple("abcde"), packed, 8, "f", (("x",), (), (), (), ()))
    found = duplicates_lib.duplicates(codes)
    assert [[hit.id for hit in group.images] for group in found] == [
        ["a", "c"],
        ["b", "d"],
    ]
    assert found[0].images[0].labels == ("x",)
