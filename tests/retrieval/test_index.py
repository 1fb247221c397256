"""Indices: exact where promised, ties included, and what is refused on the way."""

import builtins
import dataclasses

import numpy as np
import pytest
from code_cases import RNG, assert_equal, code_set
from hypothesis import given, settings
from hypothesis import strategies as st

from ssah_jax.retrieval import CodeFileError
from ssah_jax.retrieval.index import KINDS, OPTIONS, build_index, load_index
from ssah_jax.retrieval.index_kinds import mirrored


def by_loop(queries, database, k):
    """The k nearest, by (distance, row), one pair at a time."""
    distances, rows = [], []
    for query in queries:
        pairs = []
        for row, code in enumerate(database):
            differ = sum((a >= 0) != (b >= 0) for a, b in zip(query, code, strict=True))
            pairs.append((differ, row))
        nearest = sorted(pairs)[:k]
        distances.append([distance for distance, _ in nearest])
        rows.append([row for _, row in nearest])
    return np.array(distances), np.array(rows)


def fast(queries, database, k):
    """The same, by matrix products."""
    query, code = np.where(queries >= 0, 1.0, -1.0), np.where(database >= 0, 1.0, -1.0)
    distances = ((query.shape[1] - query @ code.T) / 2).astype(int)
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, rows, axis=1), rows


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([1, 3, 8, 12, 48, 100]),
    count=st.integers(1, 40),
    different=st.integers(1, 40),
    k=st.integers(1, 45),
    seed=st.integers(0, 1000),
)
def test_flat_is_exact_with_ties(bits, count, different, k, seed):
    rng = np.random.default_rng(seed)
    # Few different codes, so that most cuts go through a tie.
    codes = rng.normal(size=(different, bits))[rng.integers(different, size=count)]
    queries = np.concatenate([rng.normal(size=(2, bits)), codes[:1]])
    distances, rows = build_index(code_set(codes)).search(queries, k)
    assert distances.dtype == np.int32 and rows.dtype == np.int64
    assert distances.shape == (3, min(k, count))
    assert_equal((distances, rows), by_loop(queries, codes, k))


@pytest.mark.parametrize("bits", [8, 12, 100])
def test_flat_ties_go_beyond_one_block(bits):
    # The codes at the cut's distance lie far apart, and more than k are there.
    codes = -np.ones((100_000, bits))
    far = np.array([3, 4095, 4096, 20_479, 20_480, 77_777, 99_999])
    codes[far, 0] = 1
    query = np.ones((1, bits))
    for k in (1, 3, 6, 7, 8):
        distances, rows = build_index(code_set(codes)).search(query, k)
        wanted = np.concatenate([far, [0]])[:k]
        np.testing.assert_array_equal(rows[0], wanted)
        np.testing.assert_array_equal(distances[0], np.where(wanted, bits - 1, bits))


class Awkward:
    """A FAISS index that makes use of all that FAISS leaves open under ties."""

    def __init__(self, index, codes):
        self._index, self._codes = index, codes

    def __getattr__(self, name):
        return getattr(self._index, name)

    def search(self, packed, k):
        queries = np.unpackbits(packed, axis=1, bitorder="little") - 0.5
        # Of equal distances the last rows.
        distances, rows = fast(queries[:, : self._codes.shape[1]], self._codes[::-1], k)
        return distances, len(self._codes) - 1 - rows


@pytest.mark.parametrize("k", [1, 7, 50, 299, 300])
def test_flat_does_not_rely_on_the_order_of_faiss(k):
    codes, queries = RNG.normal(size=(300, 5)), RNG.normal(size=(8, 5))
    index = build_index(code_set(codes))
    awkward = dataclasses.replace(index, _index=Awkward(index._index, codes))
    wanted = fast(queries, codes, k)
    assert k == 300 or (awkward._index.search(*asked(queries, k))[1] != wanted[1]).any()
    assert_equal(awkward.search(queries, k), wanted)


def asked(queries, k):
    return np.packbits(queries >= 0, axis=1, bitorder="little"), k


@pytest.mark.parametrize("bits", [12, 64, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_tells_true_distances_in_order(kind, bits):
    codes, queries = RNG.normal(size=(300, bits)), RNG.normal(size=(20, bits))
    index = build_index(code_set(codes), kind=kind)
    distances, rows = index.search(queries, 10)
    assert distances.shape == rows.shape == (20, 10)
    found = rows >= 0
    everything = fast(queries, codes, 300)
    table = np.empty((20, 300), int)
    np.put_along_axis(table, everything[1], everything[0], axis=1)
    expected = np.take_along_axis(table, np.maximum(rows, 0), axis=1)
    np.testing.assert_array_equal(distances, np.where(found, expected, bits + 1))
    # Sorted by (distance, row), with what was not found last.
    keys = distances.astype(np.int64) * 1000 + np.where(found, rows, 999)
    assert (np.diff(keys, axis=1)[found[:, 1:]] > 0).all()
    assert (found[:, :-1] >= found[:, 1:]).all()
    for row in rows:
        assert len(set(row[row >= 0])) == (row >= 0).sum()
    if kind != "multihash":
        assert found.all()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("hnsw", {"m": 16, "ef_search": 300}),
        ("ivf", {"nlist": 5, "nprobe": 5}),
        ("multihash", {"nhash": 1, "nflip": 12}),
    ],
)
def test_options_at_full_effort_find_every_neighbour(kind, options):
    codes, queries = RNG.normal(size=(300, 12)), RNG.normal(size=(20, 12))
    distances, rows = build_index(code_set(codes), kind=kind, **options).search(
        queries, 300
    )
    wanted = fast(queries, codes, 300)
    if kind == "hnsw":
        # A graph walk promises less.
        assert (distances == wanted[0]).mean() > 0.95
    else:
        assert_equal((distances, rows), wanted)


@settings(max_examples=40, deadline=None)
@given(
    bits=st.sampled_from([12, 20, 48, 100]),
    nhash=st.integers(1, 8),
    nflip=st.integers(0, 2),
    seed=st.integers(0, 1000),
)
def test_multihash_finds_all_within_its_radius(bits, nhash, nflip, seed):
    rng = np.random.default_rng(seed)
    nhash = max(nhash, -(-bits // 32))
    nflip = min(nflip, bits // nhash)
    radius = nhash * (nflip + 1) - 1
    query = rng.normal(size=(1, bits))
    codes = np.repeat(query, 60, axis=0)
    for row in range(60):
        flipped = rng.choice(bits, size=min(bits, row % (radius + 3)), replace=False)
        codes[row, flipped] *= -1
    index = build_index(code_set(codes), kind="multihash", nhash=nhash, nflip=nflip)
    distances, rows = index.search(query, 60)
    wanted, order = fast(query, codes, 60)
    inside = wanted[0] <= radius
    np.testing.assert_array_equal(distances[0][: inside.sum()], wanted[0][inside])
    np.testing.assert_array_equal(rows[0][: inside.sum()], order[0][inside])


def test_multihash_does_not_hash_the_filling():
    # Of 12 bits in 2 bytes the last 4 are filling. A code with one of bits 8 to 11
    # flipped is found by the other half alone, one with a bit of each by no half.
    codes = np.ones((3, 12))
    codes[0, 9] = codes[1, [2, 9]] = -1
    codes[2, [2, 3, 9]] = -1
    index = build_index(code_set(codes), kind="multihash", nhash=2, nflip=0)
    distances, rows = index.search(np.ones((1, 12)), 3)
    np.testing.assert_array_equal(rows, [[0, -1, -1]])
    np.testing.assert_array_equal(distances, [[1, 13, 13]])
    index.tune(nflip=1)
    np.testing.assert_array_equal(index.search(np.ones((1, 12)), 3)[1], [[0, 1, 2]])


def test_tuning_is_saved(tmp_path):
    codes = RNG.normal(size=(300, 16))
    index = build_index(code_set(codes), kind="ivf", nlist=10, nprobe=1)
    few = index.search(codes[:50], 20)[0].sum()
    index.tune(nprobe=10)
    # Of equal distances it need not find the same rows.
    wanted = fast(codes[:50], codes, 20)[0]
    np.testing.assert_array_equal(index.search(codes[:50], 20)[0], wanted)
    assert wanted.sum() < few
    index.save(tmp_path / "i")
    found = load_index(tmp_path / "i").search(codes[:50], 20)[0]
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match="found 'nlist', accepted are nprobe"):
        index.tune(nlist=3)
    with pytest.raises(ValueError, match="nprobe: found 11, accepted is 1 to 10"):
        index.tune(nprobe=11)
    assert index.options == {"nlist": 10, "nprobe": 10}


@pytest.mark.parametrize("kind", KINDS)
def test_few_codes_and_no_queries(kind):
    codes = RNG.normal(size=(1, 5))
    index = build_index(code_set(codes), kind=kind)
    assert_equal(index.search(codes, 3), ([[0]], [[0]]))
    assert index.search(codes[:0], 3)[0].shape == (0, 1)
    # All alike, as collapsed codes are.
    codes = np.ones((200, 5))
    index = build_index(code_set(codes), kind=kind)
    distances, _ = index.search(codes[:2], 4)
    np.testing.assert_array_equal(distances, 0)


def test_searches_that_make_no_sense():
    index = build_index(code_set(RNG.normal(size=(5, 12))))
    with pytest.raises(CodeFileError, match="found 16 bits, expected 12 as in index"):
        index.search(np.ones((1, 16)), 1)
    with pytest.raises(CodeFileError, match="NaN in row 1"):
        index.search(np.array([[1.0] * 12, [np.nan] * 12]), 1)
    with pytest.raises(ValueError, match="k: found 0"):
        index.search(np.ones((1, 12)), 0)
    with pytest.raises(ValueError, match="codes: found 0 and 1, accepted are"):
        index.search(np.eye(12, dtype=int)[:1], 1)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("lsh", {}, "kind: found 'lsh', accepted are flat, hnsw, ivf, multihash"),
        ("flat", {"m": 3}, "options of flat: found 'm', it has none"),
        ("hnsw", {"nlist": 3}, "found 'nlist', accepted are m, ef_construction, ef_s"),
        ("hnsw", {"m": 1}, "m: found 1, accepted is 2 to"),
        ("hnsw", {"ef_search": 0}, "ef_search: found 0, accepted is 1 or more"),
        ("hnsw", {"ef_construction": True}, "ef_construction: found True"),
        ("ivf", {"nlist": 6}, "nlist: found 6, accepted is 1 to 5"),
        ("ivf", {"nlist": 4, "nprobe": 5}, "nprobe: found 5, accepted is 1 to 4"),
        ("multihash", {"nhash": 0}, "nhash: found 0, accepted is 1 to 12"),
        ("multihash", {"nhash": 4, "nflip": 4}, "nflip: found 4, accepted is 0 to 3"),
    ],
)
def test_options_that_are_none(kind, options, message):
    with pytest.raises(ValueError, match=message):
        build_index(code_set(RNG.normal(size=(5, 12))), kind=kind, **options)


def test_options_are_those_told():
    codes = code_set(RNG.normal(size=(100, 48)))
    for kind in KINDS:
        assert build_index(codes, kind=kind).options.keys() == OPTIONS[kind].keys()
    with pytest.raises(CodeFileError, match="codes: found none"):
        build_index(code_set(np.ones((0, 8))))


def test_without_faiss(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "faiss":
            raise ImportError
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ValueError, match="pip install faiss-cpu"):
        build_index(code_set(np.ones((1, 8))))


def test_bits_are_mirrored():
    for byte in (0b10000000, 0b00000001, 0b11010000):
        found = mirrored(np.array([[byte]], np.uint8))
        assert f"{found[0, 0]:08b}" == f"{byte:08b}"[::-1]
