"""Weights in files of PyTorch, honest and damaged."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_writers import (
    Call,
    Global,
    Stored,
    described,
    legacy_bytes,
    tensor,
    zip_bytes,
)
from weight_files import (
    FLOATS,
    FORMATS,
    ONE,
    RAW,
    assert_equal,
    complaint,
    one_tensor,
    some_arrays,
    written,
)

from ssah_jax.networks.pretrained import (
    WeightsError,
    read_tensors,
)

# PyTorch's files, written without PyTorch.


@pytest.mark.parametrize("name", FORMATS)
def test_files_of_pytorch_are_read_without_it(tmp_path, name):
    arrays = some_arrays()
    tree, raw = described(arrays)
    sizes = {str(i): array.size for i, array in enumerate(arrays.values())}
    options = {"sizes": sizes} if name == "legacy" else {}
    path = written(tmp_path, FORMATS[name](tree, raw, **options))
    assert_equal(read_tensors(path), arrays)


@pytest.mark.parametrize("name", FORMATS)
def test_views_show_their_part_of_a_shared_storage(tmp_path, name):
    stored = Stored("k", "FloatStorage", 12)
    numbers = np.arange(12, dtype=np.float32)
    tree = {
        "row": tensor(stored, offset=4, shape=(4,), strides=(1,)),
        "transposed": tensor(stored, shape=(4, 3), strides=(1, 4)),
        "every third": tensor(stored, offset=2, shape=(4,), strides=(3,)),
        "last": tensor(stored, offset=11, shape=(), strides=()),
        "old": tensor(stored, shape=(1,), function="_rebuild_tensor"),
        "empty": tensor(stored, offset=12, shape=(0,), strides=(1,)),
    }
    path = written(tmp_path, FORMATS[name](tree, {"k": numbers.tobytes()}))
    found = read_tensors(path)
    expected = {
        "row": numbers[4:8],
        "transposed": numbers.reshape(3, 4).T,
        "every third": numbers[2::3],
        "last": numbers[11],
        "old": numbers[:1],
        "empty": numbers[12:],
    }
    assert_equal(
        found,
        {k: np.ascontiguousarray(v) for k, v in expected.items()}
        | {"last": np.array(11, np.float32)},
    )
    found["row"][:] = 99  # Copies: nobody else sees that.
    assert found["transposed"].max() == 11


def test_a_shared_storage_is_read_once(tmp_path, monkeypatch):
    members = []
    read = zipfile.ZipFile.read

    def counted(self, info):
        members.append(info.filename)
        return read(self, info)

    monkeypatch.setattr(zipfile.ZipFile, "read", counted)
    tree = {name: one_tensor(offset=i) for i, name in enumerate("abc")}
    found = read_tensors(written(tmp_path, zip_bytes(tree, RAW)))
    assert found["c"].tolist() == [2, 3]
    assert members.count("archive/data/0") == 1


def test_big_ends_first(tmp_path):
    tree = {
        "x": tensor(Stored("0", "FloatStorage", 2)),
        "y": tensor(Stored("1", "BFloat16Storage", 2)),
    }
    raw = {"0": struct.pack(">2f", 1.5, -2.0), "1": b"\x3f\x80\xc0\x00"}
    path = written(tmp_path, zip_bytes(tree, raw, byte_order=b"big"))
    expected = np.array([1.5, -2.0], np.float32), np.array([1.0, -2.0], np.float32)
    assert_equal(read_tensors(path), dict(zip("xy", expected, strict=True)))
    raw = {"0": struct.pack("<2f", 1.5, -2.0), "1": b"\x80\x3f\x00\xc0"}
    path = written(tmp_path, zip_bytes(tree, raw, byte_order=None))
    assert_equal(read_tensors(path), dict(zip("xy", expected, strict=True)))
    path = written(tmp_path, zip_bytes(tree, raw, byte_order=b"middle"))
    assert "found byte order b'middle'" in complaint(read_tensors, path)


def test_bytes_other_than_one_are_true(tmp_path):
    tree = {"x": tensor(Stored("0", "BoolStorage", 3), shape=(3,))}
    path = written(tmp_path, zip_bytes(tree, {"0": b"\x00\x01\x02"}))
    found = read_tensors(path)["x"]
    assert found.view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", FORMATS)
def test_the_one_dictionary_of_tensors_is_found(tmp_path, name):
    def read(tree, raw=RAW, **options):
        path = written(tmp_path, FORMATS[name](tree, raw))
        return read_tensors(path, **options)

    others = {
        "epoch": 3,
        "name": "resnet",
        "loss": 0.5,
        "none": None,
        "size": Call(Global("torch", "Size"), [1, 2]),
        "type": Global("torch", "float16"),
        "device": Call(Global("torch", "device"), "cuda", 0),
        "optimizer": {"state": {0: {"moment": one_tensor()}, 1: one_tensor()}},
        "list": [one_tensor()],
    }
    expected = {"x": FLOATS[:2]}
    assert_equal(read(ONE), expected)
    assert_equal(read(ONE | {"version": 1, "empty": {}}), expected)
    assert_equal(read(others | {"state_dict": ONE}), expected)
    assert_equal(read(others | {"a": {"b": {"c": ONE}}}), expected)
    assert_equal(read({"model": ONE}, entry="model"), expected)

    two = {"model": ONE, "ema": {"y": {"z": one_tensor(offset=1)}}}
    several = (
        "2 dictionaries of tensors, accepted is one: choose entry 'model', 'ema/y'"
    )
    assert several in complaint(read, two)
    assert_equal(read(two, entry="model"), expected)
    assert_equal(read(two, entry="ema/y"), {"z": FLOATS[1:3]})
    assert "found no tensors in entry 'x', accepted are 'model', 'ema/y'" in complaint(
        read, two, entry="x"
    )
    mixed = ONE | {"more": {"y": one_tensor()}}
    assert "choose entry '.', 'more'" in complaint(read, mixed)
    assert_equal(read(mixed, entry="."), expected)

    for nothing in ([one_tensor()], one_tensor(), {0: ONE}):
        assert "found no tensors by name" in complaint(read, nothing)
    for nothing in ({}, 3, {"epoch": 3}):
        assert "found no tensors by name" in complaint(read, nothing, {})
    assert "keys 'k0', 'k1', 'k2', 'k3', 'k4', 'k5', 'k6', 'k7', ...)" in complaint(
        read, {f"k{i}": i for i in range(9)}, {}
    )
    assert "found no tensors" in complaint(read, {"a": {"b": {"c": {"d": ONE}}}})


def test_a_dictionary_that_holds_itself_is_read(tmp_path):
    tree = {"inner": {"x": one_tensor()}}
    tree["self"] = tree["inner"]["self"] = tree
    path = written(tmp_path, zip_bytes(tree, RAW))
    assert_equal(read_tensors(path), {"x": FLOATS[:2]})


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"offset": 5}, "up to number 7 of a storage of 6"),
        ({"offset": 1, "shape": (3, 2), "strides": (2, 1)}, "up to number 7 of"),
        ({"shape": (2, 2), "strides": (1, 5)}, "up to number 7 of"),
        ({"shape": (), "strides": (), "offset": 6}, "up to number 7 of"),
        ({"shape": (2**62, 2**62), "strides": (1, 1)}, "up to number "),
        (
            {"shape": (7,), "strides": (0,)},
            "with 7 numbers, accepted are at most",
        ),
        ({"shape": (10**12,), "strides": (0,)}, "with 1000000000000 numbers"),
        ({"offset": -1}, "accepted are integers of at least 0"),
        ({"offset": True}, "accepted are integers of at least 0"),
        ({"shape": (-2,)}, "accepted are integers of at least 0"),
        ({"shape": (2,), "strides": (-1,)}, "accepted are integers of at least 0"),
        ({"shape": (2.0,)}, "accepted are integers of at least 0"),
        ({"shape": 2}, "accepted are integers of at least 0"),
        ({"shape": (2, 2)}, "2 dimensions and 1 strides"),
        ({"shape": (1,) * 99, "strides": (1,) * 99}, "found a damaged file"),
    ],
)
def test_tensors_outside_their_storage_are_refused(tmp_path, name, options, told):
    tree = {"fine": one_tensor(), "bad": one_tensor(**options)}
    path = written(tmp_path, FORMATS[name](tree, RAW))
    text = complaint(read_tensors, path)
    assert text.startswith(f"{path}: found ") and told in text


@pytest.mark.parametrize("name", FORMATS)
def test_storages_must_be_there_and_of_their_size(tmp_path, name):
    write = FORMATS[name]
    short = {"0": FLOATS[:5].tobytes()}
    text = complaint(read_tensors, written(tmp_path, write(ONE, short)))
    assert "20 bytes in 'archive/data/0', accepted are 24" in text or (
        "storage '0' with 5 numbers" in text and "accepted are 6" in text
    )
    text = complaint(read_tensors, written(tmp_path, write(ONE, {})))
    assert "found no storage '0'" in text
    twice = {"x": one_tensor(), "y": tensor(Stored("0", "FloatStorage", 5))}
    text = complaint(read_tensors, written(tmp_path, write(twice, RAW)))
    assert "storage '0' with two types or sizes" in text
    negative = {"x": tensor(Stored("0", "FloatStorage", -6))}
    text = complaint(read_tensors, written(tmp_path, write(negative, RAW)))
    assert "found a storage described as ('storage', " in text
    no_storage = {"x": tensor("0")}
    text = complaint(read_tensors, written(tmp_path, write(no_storage, RAW)))
    assert "found a tensor without a storage" in text


def test_a_storage_that_the_file_cannot_hold_is_refused(tmp_path):
    huge = {"x": tensor(Stored("0", "FloatStorage", 2**60))}
    path = written(tmp_path, legacy_bytes(huge, RAW, sizes={"0": 2**60}))
    assert "found storage '0' with 1152921504606846976" in complaint(read_tensors, path)
    path = written(tmp_path, zip_bytes(huge, RAW))
    assert "found 24 bytes in 'archive/data/0'" in complaint(read_tensors, path)


def test_files_of_another_kind_are_told(tmp_path):
    def told(content):
        return complaint(read_tensors, written(tmp_path, content))

    assert "found another pickle" in told(legacy_bytes(ONE, RAW, magic=7))
    assert "found protocol 1000 of" in told(legacy_bytes(ONE, RAW, protocol=1000))
    assert "found another pickle" in told(pickle.dumps({"x": 1}, 2))
    other = io.BytesIO()
    np.savez(other, x=FLOATS)
    assert "0 members DIR/data.pkl" in told(other.getvalue())
    program = zip_bytes(ONE, RAW, extra=["constants.pkl"])
    assert "found a TorchScript program" in told(program)
    packed = zip_bytes(ONE, RAW, compression=zipfile.ZIP_DEFLATED)
    assert "'archive/data.pkl' compressed" in told(packed)


@pytest.mark.parametrize("name", FORMATS)
def test_any_truncated_file_is_told(tmp_path, name):
    whole = FORMATS[name](ONE, RAW)
    assert_equal(read_tensors(written(tmp_path, whole)), {"x": FLOATS[:2]})
    for length in range(0, len(whole), 7):
        path = written(tmp_path, whole[:length])
        assert complaint(read_tensors, path).startswith(f"{path}: found ")


@pytest.mark.parametrize("name", FORMATS)
@given(at=st.integers(0), byte=st.integers(0, 255))
@settings(deadline=None, max_examples=150)
def test_any_damaged_file_is_told_or_read(tmp_path_factory, name, at, byte):
    damaged = bytearray(FORMATS[name](ONE, RAW))
    damaged[at % len(damaged)] = byte
    path = written(tmp_path_factory.mktemp("damaged"), bytes(damaged))
    try:
        read_tensors(path)
    except WeightsError as error:
        assert str(error).startswith(f"{path}: found ") and "\n" not in str(error)


def test_a_changed_number_in_a_zip_file_is_told(tmp_path):
    whole = zip_bytes(ONE, RAW)
    place = whole.index(RAW["0"])
    path = written(tmp_path, whole[:place] + b"\x01" + whole[place + 1 :])
    assert "Bad CRC-32" in complaint(read_tensors, path)
