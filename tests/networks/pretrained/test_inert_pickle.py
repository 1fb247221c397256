"""Pickles that would run something: refused, and nothing runs."""

import pickle
import struct

import pytest
from torch_writers import (
    pickled,
    zip_bytes,
)
from weight_files import (
    EVIL,
    FLOATS,
    FORMATS,
    ONE,
    RAW,
    assert_equal,
    complaint,
    one_tensor,
    with_mark,
    written,
)

from ssah_jax.networks.pretrained import (
    read_tensors,
)


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
