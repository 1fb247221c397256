"""Features beside codes and indices that change, and those of a run."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from search_cases import SMALL_CODES, call, mistake, old_photos

from ssah_jax.retrieval.feature_files import read_features
from ssah_jax.retrieval.index import load_index

pytestmark = pytest.mark.usefixtures("weights")

KEEP = ("--keep", "float16")


@pytest.fixture
def photos(run, tmp_path, monkeypatch) -> Path:
    """Some photos, last changed long ago, with codes and features."""
    monkeypatch.chdir(tmp_path)
    folder = old_photos(run, 20)
    assert encode("photos", *KEEP) == 0
    return folder


def encode(*arguments, out="codes.parquet") -> int:
    return call("encode", *SMALL_CODES, *arguments, "--out", out)


def same(one: str, other: str) -> None:
    a, b = read_features(one), read_features(other)
    assert (a.fingerprint, a.stored, sorted(a.ids)) == (
        *(b.fingerprint, b.stored),
        sorted(b.ids),
    )
    np.testing.assert_allclose(a[:], b.of(a.ids)[:], atol=1e-3)


def test_an_update_keeps_features_as_encoding_all_gives(photos, run, capsys):
    names = run.names
    shutil.copy(run.photos / names[40], photos / names[0])  # other content
    shutil.copy(run.photos / names[41], photos / "a new.png")
    (photos / names[3]).rename(photos / "zz moved.png")
    (photos / names[5]).unlink()
    before = read_features("codes.features")
    assert encode("photos", "--update") == 0
    assert capsys.readouterr().out.splitlines()[-2].startswith("encoded 2 images")
    # By what learnt the first: anew it would learn from others.
    anew = ["encode", "--like", "codes.parquet", "photos", *KEEP]
    assert call(*anew, "--out", "anew.parquet") == 0
    same("codes.features", "anew.features")
    moved = read_features("codes.features").of(["photos/zz moved.png"])[:]
    assert np.array_equal(moved, before.of([str(photos / names[3])])[:])
    assert encode("photos", "--update", "--keep", "int8") == 2
    assert "--keep: found int8, accepted is float16" in capsys.readouterr().err
    os.remove("codes.features")
    assert "found no codes.features beside" in mistake(
        capsys,
        "encode",
        *SMALL_CODES,
        "photos",
        *KEEP,
        "--update",
        "--out",
        "codes.parquet",
    )


def test_an_index_keeps_features_of_what_is_added(photos, run, capsys):
    for name in run.names[50:53]:
        shutil.copy(run.photos / name, Path(name).name)
    more = [Path(name).name for name in run.names[50:53]]
    like = ["encode", "--like", "codes.parquet", *more, *KEEP]
    assert call(*like, "--out", "more.parquet") == 0
    assert call("index", "codes.parquet", "--keep", "--out", "photos.index") == 0
    same("photos.features", "codes.features")
    add = ["index", "--add", "more.parquet", "--out", "photos.index"]
    assert call(*add) == 0
    # Added a second time they replace themselves.
    assert call(*add) == 0
    index = load_index("photos.index")
    features = read_features("photos.features")
    assert len(features) == len(index.ids) == 23
    search = ["search", "--like", "codes.parquet", "--index", "photos.index"]
    capsys.readouterr()
    assert call(*search, more[0], "--rerank", 23, "-k", 3, "--json") == 0
    first = json.loads(capsys.readouterr().out)["results"][0]
    assert first["id"] == more[0] and first["similarity"] > 0.999
    remove = ["index", "--remove", more[0], "--out", "photos.index"]
    assert call(*remove) == 0
    assert call(*search, "--measure", "-k", 2) == 0
    shutil.copy("more.parquet", "bare.parquet")
    capsys.readouterr()
    bare = ["index", "--add", "bare.parquet", "--out", "photos.index"]
    assert "--keep: found no bare.features" in mistake(capsys, *bare)
    taken = ["index", "codes.parquet", "--out", "photos.index", "--overwrite"]
    assert "photos.features: found features" in mistake(capsys, *taken)


@pytest.mark.slow
def test_codes_of_a_run_have_features_too(run, tmp_path, capsys):
    codes, index = tmp_path / "photos.parquet", tmp_path / "photos.index"
    a_run = ["--workdir", run.workdir]
    assert call("encode", *a_run, run.photos, *KEEP, "--out", codes) == 0
    # Of one name they are those of the index as they are.
    assert call("index", codes, "--out", index) == 0
    capsys.readouterr()
    query = run.photos / run.names[7]
    search = ["search", *a_run, "--index", index]
    assert call(*search, query, "--rerank", 70, "-k", 5, "--json") == 0
    hits = json.loads(capsys.readouterr().out)["results"]
    assert hits[0]["id"] == str(query) and hits[0]["distance"] == 0
    x = read_features(tmp_path / "photos.features").of([str(query)])[:]
    others = read_features(tmp_path / "photos.features")
    cosines = np.asarray(others[:], np.float32) @ np.float32(x[0])
    wanted = np.sort(cosines)[::-1][:5]
    np.testing.assert_allclose([h["similarity"] for h in hits], wanted, atol=2e-3)
    assert call(*search, "--measure", "--json") == 0
    stored = json.loads(capsys.readouterr().out)["recall"]
    assert call(*search, run.photos, "--measure", "--json") == 0
    assert json.loads(capsys.readouterr().out)["recall"]["1"] == pytest.approx(
        stored["1"], abs=0.03
    )
