"""Two stages against loops, and features in files."""

import math
import os

import numpy as np
import pytest

from ssah_jax.retrieval import feature_files, reranking
from ssah_jax.retrieval.feature_files import KeptWriter, read_features, stored_as
from ssah_jax.retrieval.files import CodeFileError
from ssah_jax.retrieval.reranking import nearest_by_cosine, neighbour_recall, rerank

RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(4, 6)).astype("f4")
FEATURES = (RNG.normal(size=(30, 6)) * RNG.uniform(0.1, 9, (30, 1))).astype("f4")
IDS = [f"{i} \udcff.png" for i in range(30)]


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))
    return dot / math.sqrt(sum(x * x for x in a.tolist()) * sum(y * y for y in b))


def by_loops(query, rows, k):
    order = sorted(rows, key=lambda r: (-cosine(query, FEATURES[r]), r))
    return order[:k]


def test_candidates_are_ordered_by_cosine():
    candidates = np.stack([RNG.permutation(30)[:9] for _ in QUERIES])
    candidates[1, 4:] = -1
    similarity, rows = rerank(QUERIES, FEATURES, candidates, k=5)
    for q, query in enumerate(QUERIES):
        wanted = by_loops(query, [r for r in candidates[q] if r >= 0], 5)
        assert rows[q].tolist() == wanted + [-1] * (5 - len(wanted))
        for s, r in zip(similarity[q], wanted, strict=False):
            assert s == pytest.approx(cosine(query, FEATURES[r]), abs=1e-5)
    assert similarity[1, 4] == -np.inf
    # Of all candidates it is the whole search.
    everything = np.tile(np.arange(30), (4, 1))
    np.testing.assert_array_equal(
        rerank(QUERIES, FEATURES, everything, k=7)[1],
        nearest_by_cosine(QUERIES, FEATURES, k=7)[1],
    )


@pytest.mark.parametrize("chunk", [1, 7, 30, 99])
def test_the_whole_search_is_exact_in_any_chunks(monkeypatch, chunk):
    monkeypatch.setattr(reranking, "CHUNK", chunk)
    own = np.array([3, -1, 29, 0])
    _, rows = nearest_by_cosine(QUERIES, FEATURES, k=4, leave_out=own)
    for q, query in enumerate(QUERIES):
        assert rows[q].tolist() == by_loops(query, set(range(30)) - {own[q]}, 4)
    _, rows = nearest_by_cosine(QUERIES, FEATURES, k=99, leave_out=own)
    assert rows.shape == (4, 30)
    assert [(row == -1).sum() for row in rows] == [1, 0, 1, 1]


def test_recall_counts_what_was_found():
    found, wanted = np.array([[3, 1, 9], [5, -1, -1]]), np.array([[1, 2], [5, -1]])
    np.testing.assert_array_equal(neighbour_recall(found, wanted), [0.5, 1.0])
    np.testing.assert_array_equal(neighbour_recall(found, wanted * 0 - 1), [1, 1])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"queries": QUERIES * np.nan}, "queries: found a value that is no finite"),
        ({"features": FEATURES[:, :5]}, r"features: found shape .* accepted is \[N, 6"),
        ({"candidates": np.full((4, 2), 30)}, "candidates: found 30 to 30"),
        ({"k": 0}, "k: found 0"),
    ],
)
def test_mistakes_are_one_line(changed, message):
    given = {"queries": QUERIES, "features": FEATURES, "k": 3}
    given |= {"candidates": np.zeros((4, 2), int)} | changed
    with pytest.raises(ValueError, match=message):
        rerank(given.pop("queries"), given.pop("features"), **given)


def write(path, ids=IDS, features=FEATURES, stored="float16", fingerprint="f" * 16):
    with KeptWriter(
        path, stored=stored, width=6, fingerprint=fingerprint, rows=0
    ) as writer:
        for start in range(0, len(ids), 8):
            writer.write(features[start : min(start + 8, len(ids))])
        writer.finish(ids)
    return path


@pytest.mark.parametrize("stored", feature_files.STORED)
def test_a_file_keeps_directions(tmp_path, stored):
    found = read_features(write(tmp_path / "a.features", stored=stored))
    assert (found.ids, found.fingerprint) == (tuple(IDS), "f" * 16)
    assert found.shape == (30, 6) and found[:3].dtype == stored
    for row in range(30):
        assert cosine(found[[row]][0].astype(float), FEATURES[row]) > 0.999
    np.testing.assert_array_equal(found[4:9], stored_as(FEATURES[4:9], stored))
    assert os.listdir(tmp_path) == ["a.features"]
    exact, wanted = rerank(QUERIES, found, np.tile(np.arange(30), (4, 1)), k=5)[1], []
    wanted = [by_loops(query, range(30), 5) for query in QUERIES]
    assert neighbour_recall(exact, np.array(wanted)).mean() > 0.9


def test_several_files_in_the_order_of_an_index(tmp_path):
    one = write(tmp_path / "1", IDS[:17], FEATURES[:17])
    two = write(tmp_path / "2", IDS[17:], FEATURES[17:])
    both = read_features(one, two)
    np.testing.assert_array_equal(both[:], stored_as(FEATURES, "float16"))
    chosen = [29, 0, 16, 17, 5]
    found = both.of([IDS[i] for i in chosen])
    np.testing.assert_array_equal(found[:], both[chosen])
    np.testing.assert_array_equal(found.of(found.ids[::-1])[:2], both[[5, 17]])
    assert both.of(IDS) is both
    with pytest.raises(CodeFileError, match=r"none of 2 of 3 images .*'x'"):
        both.of(["x", IDS[0], "y"])
    with pytest.raises(CodeFileError, match="an id a second time"):
        read_features(one, one)
    for changed in ({"stored": "int8"}, {"fingerprint": "0" * 16}):
        other = write(tmp_path / "3", ["z"], FEATURES[:1], **changed)
        with pytest.raises(CodeFileError, match=r"3: found .* as in .*1"):
            read_features(one, other)


def test_an_interrupted_writer_is_taken_up(tmp_path):
    whole = write(tmp_path / "whole").read_bytes()
    options = dict(stored="float16", width=6, fingerprint="f" * 16)
    with KeptWriter(tmp_path / "a", rows=0, **options) as writer:
        writer.write(FEATURES[:12])
    assert not (tmp_path / "a").exists()
    with pytest.raises(CodeFileError, match="features of fewer images"):
        KeptWriter(tmp_path / "a", rows=13, **options)
    # Codes of only ten were written.
    with KeptWriter(tmp_path / "a", rows=10, **options) as writer:
        writer.write(FEATURES[10:])
        writer.finish(IDS)
    assert (tmp_path / "a").read_bytes() == whole


def test_damage_is_one_line(tmp_path):
    path = write(tmp_path / "a")
    whole = path.read_bytes()
    for content in (
        *(b"", whole[:99], whole[:-1], whole[:5000], b"x" + whole),
        whole.replace(b'"version": 1', b'"version": 2'),
        whole.replace(b'"rows": 30', b'"rows": 31'),
        whole.replace(b'"rows": 30', b'"rows": -3'),
        whole.replace(b"float16", b"float64"),
    ):
        path.write_bytes(content)
        with pytest.raises(CodeFileError, match=r"a: found .*expected a file of feat"):
            read_features(path)
    with pytest.raises(CodeFileError, match="none"):
        read_features(tmp_path / "none")
