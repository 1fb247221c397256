"""`ssah index` and `ssah search`: what is found, and how it is told."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from search_cases import NUMBER, RESULTS, call, distances, mistake

from ssah_jax.cli.found import Hit, QueryResult, as_table
from ssah_jax.cli.index import index_codes
from ssah_jax.cli.search import search_images
from ssah_jax.retrieval import index as index_lib
from ssah_jax.retrieval.code_files import read_codes
from ssah_jax.retrieval.index import load_index
from ssah_jax.run.run_encoder import load_encoder
from ssah_jax.run.workdir import Workdir

# index


def test_index_tells_what_it_did(encoded, tmp_path, capsys):
    out = tmp_path / "photos.index"
    arguments = ["--kind", "hnsw", "--m", "8", "--ef-search", "99", "--out", out]
    assert call("index", encoded, *arguments) == 0
    text, err = capsys.readouterr()
    head, _, tail = text.partition(") in ")
    settings = "m 8, ef_search 99, ef_construction 100"
    assert head.startswith("indexed 70 codes of 20 bits (hnsw, ")
    assert {*head.split(", ")[1:]} == {*settings.split(", ")}
    assert re.fullmatch(rf"\d+\.\d s: {out}\n", tail)
    assert err == ""
    index = index_lib.load_index(out)
    assert (index.kind, index.options["m"], index.options["ef_search"]) == (
        "hnsw",
        8,
        99,
    )
    assert index.ids == read_codes(encoded).ids


def test_mistakes_of_index(run, encoded, tmp_path, capsys):
    out = tmp_path / "photos.index"
    cases = [
        ([tmp_path / "none", "--out", out], "none"),
        ([run.photos / run.names[0], "--out", out], "000.png"),
        ([encoded, "--out", tmp_path], "found a folder"),
        ([encoded, "--out", tmp_path / "no" / "x"], "found no folder to write it in"),
        ([encoded, "--out", encoded, "--overwrite"], "one of the files of codes"),
        ([encoded, "--out", encoded], "is there already; replace it with --overwrite"),
        ([encoded, "--out", out, "--nlist", "3"], "nlist"),
        ([encoded, "--out", out, "--kind", "tree"], "invalid choice: 'tree'"),
        ([encoded, encoded, "--out", out], "000.png"),
    ]
    for arguments, message in cases:
        assert message in mistake(capsys, "index", *arguments)
    assert os.listdir(tmp_path) == []
    assert len(read_codes(encoded).ids) == NUMBER
    index_codes(encoded, out=out)
    assert call("index", encoded, "--out", out, "--overwrite", "--kind", "ivf") == 0
    assert index_lib.load_index(out).kind == "ivf"


# search


def test_an_indexed_image_is_found_first(run, indexed, capsys):
    rows = np.flatnonzero([(distances(run, row) == 0).sum() == 1 for row in range(30)])
    assert len(rows) > 15
    queries = [run.photos / run.names[row] for row in rows]
    arguments = ["--workdir", run.workdir, "--index", indexed, *queries]
    assert call("search", *arguments, "-k", 6, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["query"] for line in lines] == [str(query) for query in queries]
    for row, line in zip(rows, lines, strict=True):
        wanted = sorted(distances(run, row))[:6]
        assert [result["rank"] for result in line["results"]] == [1, 2, 3, 4, 5, 6]
        assert [result["distance"] for result in line["results"]] == wanted
        assert line["results"][0] == {
            "rank": 1,
            "distance": 0,
            "id": line["query"],
            "labels": [],
        }
        for result in line["results"]:
            found = run.names.index(result["id"].removeprefix(f"{run.photos}/"))
            assert distances(run, row)[found] == result["distance"]


@pytest.mark.parametrize("kind", index_lib.KINDS)
def test_every_kind_is_searched(run, encoded, tmp_path, kind):
    options = {"nprobe": 8} if kind == "ivf" else {}
    out = tmp_path / "photos.index"
    index = index_codes(encoded, out=out, kind=kind, **options)
    name = str(run.photos / run.names[5])
    result = search_images(run.encoder, index, [name], k=500)[0]
    assert result.query == name
    assert name in [hit.id for hit in result.hits if hit.distance == 0]
    # All of them, but of a hash table.
    assert kind == "multihash" or len(result.hits) == NUMBER
    assert [hit.rank for hit in result.hits] == [*range(1, len(result.hits) + 1)]
    assert max(hit.distance for hit in result.hits) <= 20


@pytest.mark.parametrize("kind", ["flat", "multihash"])
def test_everything_within_a_radius(run, encoded, tmp_path, kind):
    options = {"nhash": 3, "nflip": 1} if kind == "multihash" else {}
    index = index_codes(encoded, out=tmp_path / "i", kind=kind, **options)
    by_name = {f"{run.photos}/{name}": row for row, name in enumerate(run.names)}
    names = list(by_name)[:10]
    for radius in (0, 2, 5):
        results = search_images(run.encoder, index, names, radius=radius)
        for row, result in enumerate(results):
            wanted = set(np.flatnonzero(distances(run, row) <= radius).tolist())
            assert {by_name[hit.id] for hit in result.hits} == wanted


def test_radius_of_an_index_that_cannot_promise(run, encoded, tmp_path, capsys):
    photo = run.photos / run.names[0]
    for kind, radius, accepted in (
        ("hnsw", 2, "accepted is -k instead with an hnsw index"),
        ("multihash", 6, "accepted is up to 5 with this multihash index"),
        ("flat", 21, "accepted is 0 to the code's 20 bits"),
        ("flat", -1, "accepted is 0 to the code's 20 bits"),
    ):
        options = {"nhash": 3} if kind == "multihash" else {}
        out = tmp_path / "photos.index"
        index_codes(encoded, out=out, kind=kind, overwrite=True, **options)
        arguments = ["search", "--workdir", run.workdir, "--index", out, photo]
        line = mistake(capsys, *arguments, "--radius", radius)
        assert line.startswith(f"--radius: found {radius}, ") and accepted in line


def test_mistakes_of_search(run, indexed, tmp_path, capsys):
    photo = run.photos / run.names[0]
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    here = ["--workdir", run.workdir, "--index", indexed]
    cases = [
        ([*here, photo, "-k", "0"], "-k: found 0, accepted is at least 1"),
        ([*here, tmp_path / "none.jpg"], "none.jpg: found no such file"),
        ([*here, text], "text.jpg: found no image"),
        ([*here, photo, "-k", "3", "--radius", "2"], "not allowed with argument"),
        ([*here, photo, "--html", tmp_path / "no" / "x"], "--html: found no folder"),
        ([*here, photo, "--html", tmp_path], "cannot be written"),
        (["--workdir", run.workdir, "--index", text, photo], "text.jpg: "),
        (["--workdir", run.workdir, "--index", tmp_path / "n", photo], "n: "),
    ]
    for arguments, message in cases[:5] + cases[6:]:
        assert message in mistake(capsys, "search", *arguments)
    arguments, message = cases[5]
    assert call("search", *arguments) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["text.jpg"]


def test_one_unreadable_query_leaves_the_others_answered(
    run, indexed, tmp_path, capsys
):
    text, page = tmp_path / "text.jpg", tmp_path / "page.html"
    text.write_text("no image")
    photos = [run.photos / name for name in run.names[:2]]
    arguments = ["--workdir", run.workdir, "--index", indexed, "--json", "-k", 1]
    queries = [photos[0], text, photos[1]]
    assert call("search", *arguments, *queries, "--html", page) == 1
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert [line["query"] for line in found] == [str(photo) for photo in photos]
    assert all(line["results"][0]["distance"] == 0 for line in found)
    assert err.startswith(f"{text}: found no image") and err.count("\n") == 1
    assert page.is_file()
    other = shutil.copy(text, tmp_path / "other.jpg")
    line = mistake(capsys, "search", *arguments, text, other)
    assert "found none of 2 queries readable" in line and "text.jpg" in line


def test_an_index_of_another_model(run, indexed, tmp_path, capsys):
    copy = shutil.copytree(run.workdir, tmp_path / "run")
    text = (copy / "config.json").read_text()
    assert '"resize": "crop"' in text
    (copy / "config.json").write_text(text.replace('"crop"', '"squash"'))
    photo = run.photos / run.names[0]
    line = mistake(capsys, "search", "--workdir", copy, "--index", indexed, photo)
    assert "photos.index" in line and run.encoder.fingerprint in line
    other = load_encoder(Workdir(copy))
    with pytest.raises(ValueError, match=other.fingerprint):
        search_images(other, index_lib.load_index(indexed), [str(photo)])


def test_the_table_is_aligned():
    assert as_table(RESULTS[0]).splitlines() == [
        "q,\\n<b>&\"'.jpg",
        "  rank  distance  id                       labels",
        "     1         0  a.png                    cat, black & <i>white",
        "     2        11  日本.png",
        "    10        12  x\\udcff\\n</section>.png  dog",
    ]
    assert as_table(RESULTS[1]) == "none.jpg\n  nothing found"
    without = QueryResult("q.jpg", (Hit(1, 0, "a.png", ()),))
    assert as_table(without).splitlines()[1] == "  rank  distance  id"


def test_a_table_a_query(run, indexed, capsys):
    queries = [run.photos / name for name in run.names[:2]]
    arguments = ["--workdir", run.workdir, "--index", indexed, "-k", "3", *queries]
    assert call("search", *arguments) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    for block, query in ((first, queries[0]), (second, queries[1])):
        lines = block.splitlines()
        assert lines[0] == str(query) and len(lines) == 5
        assert lines[1].split() == ["rank", "distance", "id"]


def test_json_takes_any_name(run, tmp_path, monkeypatch, capsysbinary):
    monkeypatch.chdir(tmp_path)
    names = ["a\n<b>.png", "\udcff,.png"]
    for name, photo in zip(names, run.names, strict=False):
        shutil.copy(run.photos / photo, name)
    where = ["--workdir", run.workdir]
    assert call("encode", *where, *names, "--out", "c.parquet") == 0
    assert call("index", "c.parquet", "--out", "i") == 0
    capsysbinary.readouterr()
    assert call("search", *where, "--index", "i", *names, "--json", "-k", "1") == 0
    lines = capsysbinary.readouterr().out.decode("ascii").splitlines()
    for line, name in zip(lines, names, strict=True):
        found = json.loads(line)
        assert found["query"] == found["results"][0]["id"] == name


# An index that keeps up.


def test_an_index_is_changed_in_place(run, indexed, encoded, tmp_path, capsys):
    index = tmp_path / "photos.index"
    shutil.copy(indexed, index)
    gone = [str(run.photos / name) for name in run.names[:3]]
    (tmp_path / "gone.txt").write_text("\n".join(gone[1:]))
    change = ("index", "--out", index)
    assert call(*change, "--remove", gone[0], f"@{tmp_path}/gone.txt") == 0
    text = capsys.readouterr().out
    assert text.startswith("added 0, replaced 0, removed 3 in ")
    assert text.endswith(f" s, 67 codes now: {index}\n")
    assert not {*gone} & {*load_index(index).ids}
    assert call(*change, "--add", encoded, "--remove", load_index(index).ids[5]) == 0
    assert capsys.readouterr().out.startswith("added 4, replaced 66, removed 1 in ")
    assert sorted(load_index(index).ids) == sorted(load_index(indexed).ids)
    assert sorted(os.listdir(tmp_path)) == ["gone.txt", "photos.index"]
    # A mistake leaves it as it was.
    before = index.read_bytes()
    assert "no image 'no.png'" in mistake(capsys, *change, "--remove", "no.png")
    other = dataclasses.replace(read_codes(encoded), fingerprint="0" * 16)
    index_lib.build_index(other).save(tmp_path / "other")
    wrong = ("index", "--out", tmp_path / "other", "--add", encoded)
    assert "found queries of model" in mistake(capsys, *wrong)
    line = mistake(capsys, *change, "--remove", gone[0], "--kind", "flat")
    assert "not with --add or --remove" in line
    assert "CODES: not with" in mistake(capsys, *change, encoded, "--add", encoded)
    assert "CODES: found none" in mistake(capsys, *change)
    assert index.read_bytes() == before


def test_a_search_among_some(run, indexed, capsys):
    query = run.photos / run.names[3]
    arguments = ("search", "--workdir", run.workdir, "--index", indexed, query)
    assert call(*arguments, "--path", "*/2/*", "--json", "-k", 99) == 0
    found = json.loads(capsys.readouterr().out)["results"]
    assert [Path(hit["id"]).parent.name for hit in found] == ["2"] * 10
    assert [hit["distance"] for hit in found] == sorted(
        hit["distance"] for hit in found
    )
    assert "encode --labels" in mistake(capsys, *arguments, "--label", "cat")
