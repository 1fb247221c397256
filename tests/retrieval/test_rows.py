"""Indices that keep up: rows added, removed and chosen, in every kind."""

import fnmatch

import numpy as np
import pytest

from ssah_jax.retrieval import CodeFileError, CodeSet, build_index, load_index
from ssah_jax.retrieval.index import KINDS, with_rows
from ssah_jax.retrieval.rows import added, among, matching, take, without

RNG = np.random.default_rng(3)
FULL = {
    "flat": {},
    "hnsw": {"ef_search": 400, "ef_construction": 200},
    "ivf": {"nlist": 7, "nprobe": 7},
    "multihash": {"nhash": 1, "nflip": 12},
}


def code_set(count, *, first=0, labels=None, bits=12):
    packed = np.packbits(RNG.random((count, bits)) < 0.5, axis=1)
    ids = tuple(f"{row % 5}/{row}.jpg" for row in range(first, first + count))
    return CodeSet(ids, packed, bits, "f", labels)


def nearest(codes: CodeSet, query: np.ndarray, k: int) -> list[tuple[int, int]]:
    """By (distance, row), one pair at a time."""
    ones = np.unpackbits(codes.packed, axis=1)
    asked = np.unpackbits(query)
    pairs = [
        (sum(a != b for a, b in zip(row.tolist(), asked.tolist(), strict=True)), n)
        for n, row in enumerate(ones)
    ]
    return sorted(pairs)[:k]


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_index_is_searched_as_one_built_anew(kind, tmp_path):
    before, more = code_set(60), code_set(25, first=60)
    index = build_index(before, kind=kind, **FULL[kind])
    np.testing.assert_array_equal(index.packed, before.packed)
    grown = added(before, more)
    shrunk = without(grown, [grown.ids[row] for row in (0, 7, 59, 60, 84)])
    for codes in (grown, shrunk, before):
        index = with_rows(index, codes)
        assert (index.kind, index.ids, index.fingerprint) == (kind, codes.ids, "f")
        np.testing.assert_array_equal(index.packed, codes.packed)
        index.save(tmp_path / "i")
        index = load_index(tmp_path / "i")
        distances, rows = index.search_packed(codes.packed[:4], 5)
        for row, query in enumerate(codes.packed[:4]):
            wanted = nearest(codes, query, 5)
            assert distances[row].tolist() == [d for d, _ in wanted]
            if kind == "flat":
                assert rows[row].tolist() == [r for _, r in wanted]


def test_cells_that_would_be_more_than_codes():
    index = with_rows(build_index(code_set(30), kind="ivf", nlist=9), code_set(4))
    assert index.options["nlist"] == 4 and index.search_packed(index.packed, 1)


def test_an_image_that_is_there_gets_its_new_code_and_labels():
    old = code_set(4, labels=(("a",), (), ("b",), ("c",)))
    new = code_set(3, first=2, labels=(("x", "y"), (), ("z",)))
    both = added(old, new)
    assert both.ids == (*old.ids, "4/4.jpg")
    assert both.labels == (("a",), (), ("x", "y"), (), ("z",))
    np.testing.assert_array_equal(both.packed[2:], new.packed)
    np.testing.assert_array_equal(both.packed[:2], old.packed[:2])
    assert added(code_set(2), code_set(2, first=1)).labels is None
    assert added(code_set(2), new).labels == ((), (), ("x", "y"), (), ("z",))


def test_what_cannot_be_removed():
    codes = code_set(4)
    with pytest.raises(CodeFileError, match=r"no image 'x' to remove \(1 of 2"):
        without(codes, [codes.ids[0], "x"])
    with pytest.raises(CodeFileError, match="no image left"):
        without(codes, codes.ids)


def test_rows_are_chosen_by_label_and_path():
    names = ("cat", "dog", "sea")
    labels = tuple(
        tuple(name for name in names if RNG.random() < 0.3) for _ in range(40)
    )
    index = build_index(code_set(40, labels=labels), kind="hnsw")
    for asked, paths in (
        (["cat"], []),
        (["cat", "sea"], []),
        ([], ["3/*"]),
        ([], ["*7.jpg", "1/?.jpg"]),
        (["dog"], ["*/1*"]),
    ):
        wanted = [
            row
            for row, name in enumerate(index.ids)
            if (not asked or any(x in labels[row] for x in asked))
            and (not paths or any(fnmatch.fnmatchcase(name, p) for p in paths))
        ]
        rows = matching(index, labels=asked, paths=paths)
        assert rows.tolist() == wanted
        part = among(index, rows)
        assert part.kind == "flat" and part.ids == take(index.code_set(), rows).ids
        found = part.search_packed(index.packed[:1], 3)[1][0]
        close = nearest(part.code_set(), index.packed[0], 3)
        assert found.tolist() == [row for _, row in close]
    with pytest.raises(CodeFileError, match="label 'cow', expected 'cat', 'dog', 'sea"):
        matching(index, labels=["cow"])
    with pytest.raises(CodeFileError, match="no image like 'z\\*'"):
        matching(index, paths=["z*"])
    with pytest.raises(CodeFileError, match="encode --labels"):
        matching(build_index(code_set(3)), labels=["cat"])
