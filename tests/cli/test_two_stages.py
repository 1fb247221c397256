"""`ssah encode --keep`, `ssah search --rerank` and `--measure`."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from search_cases import SMALL_CODES, call, mistake, without_weights

from ssah_jax.retrieval.feature_files import read_features
from ssah_jax.run.encoder import Encoder
from ssah_jax.run.frozen_encoder import FrozenEncoder

pytestmark = pytest.mark.usefixtures("weights")


@pytest.fixture(scope="module")
def kept(run, tmp_path_factory) -> Path:
    """Codes of few bits, their model, features and index."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        without_weights(patch)
        options = ["--keep", "float16", "--out", folder / "codes.parquet"]
        few = [*SMALL_CODES[:-2], "--bits", 5]
        assert call("encode", *few, run.photos, *options) == 0
        out = folder / "photos.index"
        assert call("index", folder / "codes.parquet", "--out", out) == 0
    assert len(os.listdir(folder)) == 4
    return folder


def features_of(run, kept):
    encoder = Encoder.load(kept / "codes.model")
    names = [str(run.photos / name) for name in run.names]
    found = [f for _, f in encoder.features.compute(encoder.image_files(names))]
    x = np.concatenate(found)
    return names, x / np.linalg.norm(x, axis=1, keepdims=True)


def test_features_are_the_backbones(run, kept):
    names, wanted = features_of(run, kept)
    found = read_features(kept / "codes.features").of(names)
    np.testing.assert_allclose(found[:], wanted, atol=2e-3)


def test_what_is_found_is_ordered_by_cosine(run, kept, capsys):
    names, x = features_of(run, kept)
    query = names[3]
    arguments = ["search", "--like", kept / "codes.parquet", "--index"]
    arguments += [kept / "photos.index", query, "-k", 6]
    assert call(*arguments, "--rerank", 70, "--json") == 0
    found = json.loads(capsys.readouterr().out)["results"]
    wanted = np.argsort(-(x @ x[3]), kind="stable")[:6]
    assert [hit["id"] for hit in found] == [names[i] for i in wanted]
    np.testing.assert_allclose(
        [hit["similarity"] for hit in found], (x @ x[3])[wanted], atol=2e-3
    )
    assert [hit["rank"] for hit in found] == [1, 2, 3, 4, 5, 6]
    codes = Encoder.load(kept / "codes.model").transform(names)
    far = (codes != codes[3]).sum(axis=1)
    assert [hit["distance"] for hit in found] == far[wanted].tolist()
    # Of fewer candidates, the best of those.
    assert call(*arguments, "--rerank", 1, "--json") == 0
    few = json.loads(capsys.readouterr().out)["results"]
    assert call(*arguments, "--json") == 0
    plain = json.loads(capsys.readouterr().out)["results"]
    assert {hit["id"] for hit in few} == {hit["id"] for hit in plain}
    assert "similarity" not in plain[0]
    assert call(*arguments, "--rerank", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "distance  cosine  id" in lines[1] and " 1.000  " in lines[2]


def test_recall_is_measured(run, kept, monkeypatch, capsys):
    arguments = ["search", "--like", kept / "codes.parquet", "--index"]
    arguments += [kept / "photos.index", "--measure", "-k", 4]
    with monkeypatch.context() as patch:
        # No backbone is needed.
        without_weights(patch, None)
        assert call(*arguments, "--json") == 0
    stored = json.loads(capsys.readouterr().out)
    assert (stored["queries"], stored["images"], stored["k"]) == (70, 70, 4)
    recall = stored["recall"]
    assert 0.1 < recall["1"] < recall["4"] < recall["20"] == 1
    # Against loops.
    names, x = features_of(run, kept)
    codes = Encoder.load(kept / "codes.model").transform(names).astype(int)
    shares = []
    for i in range(70):
        others = [j for j in range(70) if j != i]
        near = sorted(others, key=lambda j: -float(x[i] @ x[j]))[:4]
        by_code = sorted(others, key=lambda j: (-(codes[i] @ codes[j]), j))[:4]
        shares.append(len({*near} & {*by_code}) / 4)
    assert abs(np.mean(shares) - recall["1"]) < 0.03
    some = [run.photos / name for name in run.names[:9]]
    assert call(*arguments, *some, "--rerank", 20) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "recall@4 of the float search: 9 queries, 70 images, 5 bits"
    assert lines[2].split() == ["--rerank", "20", "1.000"]


@pytest.mark.slow
def test_interrupted_features_are_of_the_same_images(run, kept, tmp_path, monkeypatch):
    out = tmp_path / "codes.parquet"
    arguments = ["encode", *SMALL_CODES[:-2], "--bits", 5, run.photos]
    arguments += ["--keep", "float16", "--out", out]
    whole = FrozenEncoder.encode_both

    def stopped(*args, **kwargs):
        for number, batch in enumerate(whole(*args, **kwargs)):
            if number == 1:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(FrozenEncoder, "encode_both", stopped)
        assert call(*arguments) == 130
    assert not (tmp_path / "codes.features").exists()
    assert call(*arguments) == 0
    found, wanted = (
        read_features(folder / "codes.features") for folder in (tmp_path, kept)
    )
    assert found.ids == wanted.ids
    np.testing.assert_allclose(found[:], wanted[:], atol=1e-3)
    assert len(os.listdir(tmp_path)) == 3


def test_mistakes_are_one_line(run, kept, frozen, indexed, tmp_path, capsys):
    photo, index = run.photos / run.names[0], kept / "photos.index"
    like = ["--like", kept / "codes.parquet", "--index", index]
    a_run = ["--workdir", run.workdir, "--index", indexed, photo]
    (tmp_path / "bad").write_bytes(b"ssah features {}".ljust(5000))
    other = ["--keep", "int8", "--out", tmp_path / "other.parquet"]
    assert call("encode", *SMALL_CODES, run.photos, *other) == 0
    assert call("index", tmp_path / "other.parquet", "--out", tmp_path / "i") == 0
    shutil.copy(frozen, tmp_path / "bare.parquet")
    shutil.copy(frozen.with_suffix(".model"), tmp_path / "bare.model")
    capsys.readouterr()
    for arguments, message in (
        (like, "QUERY: found none"),
        ([*like, photo, "--rerank", 0], "--rerank: found 0, accepted is at least 1"),
        ([*like, photo, "--rerank", 2, "--radius", 3], "--rerank: found --radius too"),
        ([*like, photo, "--features", "x"], "--features: accepted with --rerank"),
        ([*a_run, "--rerank", 2], "photos.features: found FileNotFoundError"),
        (
            [*like, photo, "--rerank", 2, "--features", tmp_path / "bad"],
            "bad: found KeyError",
        ),
        (
            [*like, photo, "--rerank", 2, "--features", tmp_path / "other.features"],
            "other.features: found features of model",
        ),
        (
            [
                *("--like", tmp_path / "bare.parquet", "--index", tmp_path / "i"),
                *(photo, "--rerank", 2),
            ],
            "bare.features: found FileNotFoundError",
        ),
    ):
        assert message in mistake(capsys, "search", *arguments)
    out = ["--out", tmp_path / "new.parquet"]
    (tmp_path / "new.features").write_text("precious")
    arguments = [*SMALL_CODES, "--keep", "int8", run.photos, *out]
    assert "new.features: is there" in mistake(capsys, "encode", *arguments)
    assert "new.features: is there already and would be taken for" in mistake(
        capsys, "encode", *SMALL_CODES, run.photos, *out
    )
