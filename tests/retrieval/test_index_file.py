"""Files of indices: what is saved is loaded; damage and other files are refused."""

import json
import zipfile

import numpy as np
import pytest
from code_cases import RNG, assert_equal, code_set

from ssah_jax.retrieval import CodeFileError
from ssah_jax.retrieval.index import KINDS, build_index, check_fingerprint, load_index


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load(tmp_path, kind):
    ids = (*(f"{row}.jpg" for row in range(48)), "caf\udce9.jpg", "\\udce9")
    labels = tuple(("sea", "\udcff") if row % 2 else () for row in range(50))
    codes = RNG.normal(size=(50, 12))
    path = tmp_path / "photos\udce9.index"
    for known in (labels, None):
        index = build_index(code_set(codes, ids=ids, labels=known), kind=kind)
        index.save(path)
        found = load_index(path)
        for name in ("kind", "bits", "fingerprint", "ids", "labels", "options"):
            assert getattr(found, name) == getattr(index, name), name
        assert_equal(found.search(codes, 7), index.search(codes, 7))
        content = path.read_bytes()
        found.save(path)
        # FAISS writes hash tables in any order.
        assert path.read_bytes() == content or kind == "multihash"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_fingerprints(tmp_path):
    index = build_index(code_set(RNG.normal(size=(5, 12)), fingerprint="abc"))
    index.save(tmp_path / "photos.index")
    index = load_index(tmp_path / "photos.index")
    check_fingerprint(index, "abc")
    with pytest.raises(CodeFileError, match=r"photos\.index: made by model abc, fou"):
        check_fingerprint(index, "abd")


def load_error(path):
    with pytest.raises(CodeFileError) as error:
        load_index(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_indices(tmp_path, kind):
    codes = RNG.normal(size=(40, 12))
    path = tmp_path / "photos.index"
    build_index(code_set(codes), kind=kind).save(path)
    content, wanted = path.read_bytes(), load_index(path).search(codes, 5)
    for length in [0, 1, 30, *RNG.integers(31, len(content), 20), len(content) - 1]:
        path.write_bytes(content[:length])
        load_error(path)
    for place in [*range(60), *RNG.integers(60, len(content), 150)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(RNG.integers(8))
        path.write_bytes(damaged)
        try:
            found = load_index(path)
        except CodeFileError as error:
            assert "\n" not in str(error)
        else:
            # A byte that nobody reads, such as a time stamp.
            assert_equal(found.search(codes, 5), wanted)


def test_files_that_are_no_index(tmp_path):
    path = tmp_path / "photos.index"
    assert "No such file" in load_error(path)
    path.mkdir()
    assert "directory" in load_error(path)
    path.rmdir()
    path.write_text("photos")
    assert "an index, as `ssah index` writes" in load_error(path)
    path.write_bytes(b"PAR1 and the rest")
    assert load_error(path).endswith(
        "found codes, expected an index, which `ssah index` makes of them"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("codes.npy", b"")
    assert "an index, as `ssah index` writes" in load_error(path)
    with pytest.raises(CodeFileError, match="photos/no"):
        build_index(code_set(np.ones((1, 8)))).save(tmp_path / "photos" / "no")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "found version 2 of the format, expected 1"),
        ({"bits": 24}, "IndexBinaryFlat"),
        ({"bits": "many"}, "many"),
        ({"kind": "lsh"}, "lsh"),
        ({"kind": "ivf"}, "nlist"),
        ({"kind": "hnsw"}, "IndexBinaryHNSW"),
        ({"options": None}, "items"),
        ({"options": {"m": 3}}, "it has none"),
    ],
)
def test_headers_that_do_not_fit(tmp_path, changes, message):
    path = tmp_path / "photos.index"
    build_index(code_set(RNG.normal(size=(5, 12)))).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["ssah_index.json"] = json.dumps(
        json.loads(members["ssah_index.json"]) | changes
    ).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert message in load_error(path)
