"""Files of codes: what is written comes back, shards too; what is none is refused."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from code_cases import RNG, codes_of, write
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import one_line

from ssah_jax import retrieval
from ssah_jax.retrieval import (
    CodeFileError,
    CodeSet,
    CodeWriter,
    code_columns,
    code_files,
    read_codes,
    shard_path,
)


@pytest.mark.parametrize("bits", [1, 8, 12, 48, 100])
@pytest.mark.parametrize("part_rows", [1, 3, 100])
def test_round_trip(tmp_path, bits, part_rows):
    codes, ids = codes_of(10, bits), [f"photos/{i}.jpg" for i in range(10)]
    codes[0, 0] = 0.0
    path = tmp_path / "codes.parquet"
    with CodeWriter(path, bits=bits, fingerprint="f", part_rows=part_rows) as writer:
        writer.write(ids[:4], codes[:4])
        writer.write([], codes[:0])
        assert not path.exists()
        writer.write(ids[4:], codes[4:])
        assert list(writer.done) == ids
        writer.finish()
    found = read_codes(path)
    assert (found.ids, found.bits, found.fingerprint) == (tuple(ids), bits, "f")
    assert found.labels is None
    np.testing.assert_array_equal(found.packed, retrieval.pack(codes))
    assert [p.name for p in tmp_path.iterdir()] == ["codes.parquet"]


def test_what_other_programs_see(tmp_path):
    write(tmp_path / "c.parquet", ["a", "b"], codes_of(2), [["sea", "sky"], None])
    table = pq.read_table(tmp_path / "c.parquet")
    assert table.schema.field("id").type == pa.string()
    assert table.schema.field("code").type == pa.binary(2)
    assert table.schema.field("labels").type == pa.list_(pa.string())
    assert table["labels"].to_pylist() == [["sea", "sky"], None]
    metadata = table.schema.metadata
    assert metadata[b"ssah.bits"] == b"12" and metadata[b"ssah.fingerprint"] == b"f"
    assert metadata[b"ssah.version"] == b"2"


def test_labels(tmp_path):
    write(tmp_path / "a.parquet", ["a", "b"], codes_of(2), [["sea", "sky"], None])
    write(tmp_path / "b.parquet", ["c"], codes_of(1))
    found = read_codes(tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert found.labels == (("sea", "sky"), (), ())
    write(tmp_path / "none.parquet", ["a"], codes_of(1), [None])
    assert read_codes(tmp_path / "none.parquet").labels is None
    write(tmp_path / "empty.parquet", ["a"], codes_of(1), [[]])
    assert read_codes(tmp_path / "empty.parquet").labels == ((),)


NAMES = st.text(
    st.sampled_from([*"\\\\\\udcff89a\n\0ä", "\udcff", "\udc80", "\ud800"]), max_size=12
)


@settings(max_examples=300, deadline=None)
@given(NAMES)
def test_text_of_any_name(name):
    text = code_columns._to_text(name)
    text.encode()
    assert code_columns._from_text(text) == name


def test_names_that_are_not_utf8_survive(tmp_path):
    ids = [os.fsdecode(b"caf\xe9.jpg"), "caf\\udce9.jpg", "c:\\photos\\ud.jpg", "ü"]
    # And so does the name of the file itself.
    path = tmp_path / os.fsdecode(b"\xe9.parquet")
    write(path, ids, codes_of(4), [["\udcff"], [], [], []])
    found = read_codes(path)
    assert list(found.ids) == ids and found.labels[0] == ("\udcff",)
    with open(path, "rb") as file:
        stored = pq.read_table(file)["id"].to_pylist()
    assert stored == ["caf\\udce9.jpg", "caf\\\\udce9.jpg", *ids[2:]]


def write_shards(tmp_path, count, **options):
    codes = codes_of(2 * count)
    for index in range(count):
        rows = slice(2 * index, 2 * index + 2)
        path = shard_path(tmp_path / "codes.parquet", index, count)
        write(path, [str(i) for i in range(rows.start, rows.stop)], codes[rows])
    return codes


def test_shards(tmp_path):
    assert shard_path("x/codes.parquet", 3, 8).name == "codes-00003-of-00008.parquet"
    codes = write_shards(tmp_path, 3)
    (tmp_path / ".hidden.parquet").write_text("")
    shards = [shard_path(tmp_path / "codes.parquet", i, 3) for i in (0, 1, 2)]
    for paths in ([tmp_path], [tmp_path / "codes.parquet"], shards):
        found = read_codes(*paths)
        assert found.ids == tuple("012345")
        np.testing.assert_array_equal(found.packed, retrieval.pack(codes))
    with pytest.raises(CodeFileError, match=r"2 of 3 shards.*absent is 00001-of-00003"):
        read_codes(shards[0], shards[2])
    shards[2].unlink()
    for path in (tmp_path, tmp_path / "codes.parquet"):
        with pytest.raises(CodeFileError, match="found 2 of 3 shards") as error:
            read_codes(path)
        one_line(error)
    write_shards(tmp_path, 2)
    with pytest.raises(CodeFileError, match="shards of 2 and of 3"):
        read_codes(tmp_path)
    with pytest.raises(ValueError, match="found 2, accepted is 0 to"):
        shard_path("c", 2, 2)


def test_a_shard_may_be_empty(tmp_path):
    write(shard_path(tmp_path / "c.parquet", 0, 2), ["a"], codes_of(1))
    write(shard_path(tmp_path / "c.parquet", 1, 2), [], codes_of(0))
    assert read_codes(tmp_path).ids == ("a",)


def test_files_that_do_not_belong_together(tmp_path):
    a, b = tmp_path / "a.parquet", tmp_path / "b.parquet"
    write(a, ["a"], codes_of(1))
    for name, ids, bits, fingerprint, message in (
        ("bits", ["b"], 16, "f", "found bits 16, expected 12 as in"),
        ("model", ["b"], 12, "g", "found fingerprint g, expected f as in"),
        ("ids", ["b", "a"], 12, "f", "found the id 'a' there and a second time"),
    ):
        write(b, ids, codes_of(len(ids), bits), fingerprint=fingerprint, overwrite=True)
        with pytest.raises(CodeFileError, match=message) as error:
            read_codes(a, b)
        assert name and one_line(error)
    with pytest.raises(CodeFileError, match="second time"):
        read_codes(a, a)


def test_files_that_are_none_of_codes(tmp_path):
    path = tmp_path / "codes.parquet"
    for paths, message in (
        ([], "found none"),
        ([path], "No such file"),
        ([tmp_path], r"found no \*.parquet"),
    ):
        with pytest.raises(CodeFileError, match=message) as error:
            read_codes(*paths)
        one_line(error)
    metadata = {"ssah.version": "2", "ssah.bits": "12", "ssah.fingerprint": "f"}
    good = pa.table(
        {
            "id": ["a"],
            "code": pa.array([b"\0\0"], pa.binary(2)),
            "labels": pa.array([None], pa.list_(pa.string())),
            "size": pa.array([None], pa.int64()),
            "modified": pa.array([None], pa.int64()),
            "digest": pa.array([None], pa.binary(16)),
        }
    )
    null = pa.array([None], pa.binary(2))
    for table, said, message in (
        (good, {}, "ssah.version ''"),
        (good, metadata | {"ssah.version": "1"}, "ssah.version '1'"),
        (good, metadata | {"ssah.bits": "many"}, "ssah.bits 'many'"),
        (good, metadata | {"ssah.bits": "48"}, r"'code', expected fixed.*\[6\]"),
        (good.drop_columns("id"), metadata, "found no column for 'id'"),
        (good.set_column(1, "code", [[b"\0\0"]]), metadata, "found binary for 'code'"),
        (good.set_column(1, "code", null), metadata, "found 1 nulls in column 'code'"),
        (
            good.set_column(1, "code", pa.array([b"\0\1"], pa.binary(2))),
            metadata,
            "ones after bit 12",
        ),
    ):
        pq.write_table(table.replace_schema_metadata(said), path)
        with pytest.raises(CodeFileError, match=message) as error:
            read_codes(path)
        assert str(path) in one_line(error)
    pq.write_table(good.replace_schema_metadata(metadata), path)
    with pytest.raises(CodeFileError, match="have not the sha256 that it says"):
        read_codes(path)


def test_damaged_files(tmp_path):
    path = tmp_path / "codes.parquet"
    write(path, [str(i) for i in range(50)], codes_of(50), [["x"]] * 50)
    content = path.read_bytes()
    for length in (0, 3, 4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CodeFileError) as error:
            read_codes(path)
        one_line(error)
    path.write_bytes(content)
    whole = read_codes(path)
    for place in RNG.integers(0, len(content), 100):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(RNG.integers(8))
        path.write_bytes(damaged)
        try:
            found = read_codes(path)
        except CodeFileError as error:
            assert "\n" not in str(error)
        else:
            assert found.ids == whole.ids and found.labels == whole.labels
            np.testing.assert_array_equal(found.packed, whole.packed)


def test_another_code_at_its_place_is_noticed(tmp_path):
    """As a bit that flipped in a page would be: Parquet itself has no opinion."""
    path = tmp_path / "codes.parquet"
    write(path, ["a", "b"], codes_of(2), [["x"], ["y"]])
    with open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        table, said = parquet.read(), parquet.metadata.metadata
    codes = table["code"].to_pylist()[::-1]
    swapped = table.set_column(1, "code", pa.array(codes, pa.binary(2)))
    for changed, accepted in ((table, True), (swapped, False)):
        pq.write_table(changed.replace_schema_metadata(said), path)
        if accepted:
            assert read_codes(path).ids == ("a", "b")
            continue
        with pytest.raises(CodeFileError, match="have not the sha256 that it says"):
            read_codes(path)


def test_no_more_rows_than_a_file_can_hold(tmp_path, monkeypatch):
    path = tmp_path / "codes.parquet"
    write(path, ["a"], codes_of(1))
    monkeypatch.setattr(code_files, "_MOST_ROWS_A_BYTE", 1e-9)
    with pytest.raises(CodeFileError, match=r"\(1 rows in \d+ bytes\)"):
        read_codes(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 24}, "packed: found shape"),
        ({"bits": 0}, "packed: found shape"),
        ({"ids": ("a",)}, "packed: found shape"),
        ({"labels": ((),)}, "labels: found 1, expected 2"),
        ({"packed": np.full((2, 2), 255, np.uint8)}, "ones after bit 12"),
    ],
)
def test_a_code_set_fits_together(fields, message):
    good = {
        "ids": ("a", "b"),
        "packed": np.zeros((2, 2), np.uint8),
        "bits": 12,
        "fingerprint": "f",
    }
    CodeSet(**good)
    with pytest.raises(ValueError, match=message):
        CodeSet(**good | fields)
