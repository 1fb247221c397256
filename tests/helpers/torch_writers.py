"""Files as `torch.save` writes them, written without PyTorch and wrong on request."""

import io
import itertools
import pickle
import struct
import zipfile
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

TYPES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


class Global(NamedTuple):
    """A name that the file asks for."""

    module: str
    name: str


class Call:
    """What a pickle computes: `function` of `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Stored(NamedTuple):
    """A storage: its key, its numbers, how many the pickle says there are."""

    key: str
    type: str
    numel: int


class Pickler(pickle._Pickler):
    """Writes `Global`, `Call` and `Stored` as PyTorch's classes would be."""

    def save(self, thing, save_persistent_id=True):
        if isinstance(thing, Global):
            self.write(pickle.GLOBAL + f"{thing.module}\n{thing.name}\n".encode())
        elif isinstance(thing, Call):
            self.save(thing.function)
            self.save(tuple(thing.arguments))
            self.write(pickle.REDUCE)
        elif isinstance(thing, Stored):
            kind = Global("torch", thing.type)
            self.save(("storage", kind, thing.key, "cpu", thing.numel))
            self.write(pickle.BINPERSID)
        else:
            super().save(thing, save_persistent_id)


def pickled(tree) -> bytes:
    file = io.BytesIO()
    Pickler(file, protocol=2).dump(tree)
    return file.getvalue()


def tensor(
    stored, *, offset=0, shape=(2,), strides=(1,), function="_rebuild_tensor_v2"
):
    """What a pickle says of a tensor."""
    called = Global("torch._utils", function)
    return Call(called, stored, offset, shape, strides, False, OrderedDict())


def described(arrays):
    """What a pickle says of arrays, and the bytes of their storages."""
    tree, raw, counter = OrderedDict(), {}, itertools.count()
    for name, array in arrays.items():
        key = str(next(counter))
        stored = Stored(key, TYPES[str(array.dtype)], array.size)
        strides = tuple(s // array.itemsize for s in np.zeros_like(array).strides)
        tree[name] = tensor(stored, shape=array.shape, strides=strides)
        raw[key] = array.tobytes()
    return tree, raw


def zip_bytes(
    tree, raw, *, root="archive", byte_order=b"little", extra=(), compression=0
) -> bytes:
    """The format since PyTorch 1.6."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        data = tree if isinstance(tree, bytes) else pickled(tree)
        archive.writestr(f"{root}/data.pkl", data)
        if byte_order is not None:
            archive.writestr(f"{root}/byteorder", byte_order)
        for key, content in raw.items():
            archive.writestr(f"{root}/data/{key}", content)
        for name in extra:
            archive.writestr(f"{root}/{name}", b"")
    return file.getvalue()


def legacy_bytes(tree, raw, *, magic=MAGIC, protocol=PROTOCOL, sizes=()) -> bytes:
    """The format before; `sizes` are numbers of numbers by key, otherwise float32's."""
    information = {"protocol_version": protocol, "little_endian": True}
    parts = [pickled(thing) for thing in (magic, protocol, information)]
    parts.append(tree if isinstance(tree, bytes) else pickled(tree))
    parts.append(pickled(list(raw)))
    for key, content in raw.items():
        numel = dict(sizes).get(key, len(content) // 4)
        parts.append(struct.pack("<q", numel) + content)
    return b"".join(parts)
