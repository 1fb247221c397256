"""Files that `torch.save` wrote, read without PyTorch and without executing anything.

There are two formats: since PyTorch 1.6 a zip archive with one pickle and a member for
each storage, and before (as many published weights still are) five pickles in a row
with the storages behind them. PyTorch has no description of either but its own reader,
https://github.com/pytorch/pytorch/blob/main/torch/serialization.py.
"""

import collections
import contextlib
import io
import itertools
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from ssah_jax.networks.pretrained.inert_pickle import InertUnpickler, Storage, Tensor
from ssah_jax.networks.weight_tables import WeightsError

ZIP_START: Final = b"PK\x03\x04"
"""How a file of the zip format begins."""

LEGACY_START: Final = b"\x80"
"""How a file of the format before begins, and any other pickle."""

ByteOrder = Literal["<", ">"]
"""Little or big end first, as NumPy writes it."""

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_NESTING: Final = 3
_BFLOAT16: Final = np.dtype(jnp.bfloat16)
_SHOWN: Final = 8


def read_torch(path: Path, *, entry: str = "") -> dict[str, np.ndarray]:
    """The tensors of a file of PyTorch's.

    Args:
        path: the file.
        entry: as for `ssah_jax.networks.pretrained.read_tensors`.

    Returns:
        Contiguous arrays by name, of the tensors' own types, but float32 for
        bfloat16.

    Raises:
        WeightsError: the file is damaged, uses more than tensors, or has none or
            several state dictionaries.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(ZIP_START))
            file.seek(0)
            opened = _zip(file) if start == ZIP_START else _legacy(file)
            with opened as content:
                return _arrays(_state_dict(content.tree, entry), content)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    # Whatever a damaged pickle or archive may raise; none of their code runs.
    except Exception as error:
        raise WeightsError(
            f"{path}: found a damaged file ({type(error).__name__}: {error!s:.100}), "
            "accepted is one that torch.save wrote"
        ) from error


class _Content(NamedTuple):
    tree: object
    read: Callable[[Storage], bytes]
    byte_order: ByteOrder


@contextlib.contextmanager
def _zip(file: io.BufferedReader) -> Iterator[_Content]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [n for n in names if n.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise WeightsError(
                f"found a zip archive with {len(pickles)} members DIR/data.pkl, "
                "accepted is one that torch.save wrote"
            )
        root = pickles[0].removesuffix("data.pkl")
        if root + "constants.pkl" in names:
            raise WeightsError(
                "found a TorchScript program, accepted is a file of tensors"
            )
        unpickler = InertUnpickler(io.BytesIO(_member(archive, pickles[0])))
        tree = unpickler.load()
        order = b"little"
        if root + "byteorder" in names:
            order = _member(archive, root + "byteorder")
        if order not in (b"little", b"big"):
            raise WeightsError(
                f"found byte order {order!r:.60}, accepted are b'little' and b'big'"
            )

        def read(storage: Storage) -> bytes:
            name = f"{root}data/{storage.key}"
            if name not in names:
                raise WeightsError(f"found no storage {storage.key!r:.60}")
            size = storage.numel * storage.type.itemsize
            return _member(archive, name, size=size)

        yield _Content(tree, read, "<" if order == b"little" else ">")


def _member(archive: zipfile.ZipFile, name: str, *, size: int | None = None) -> bytes:
    """A member's bytes, whose sum zipfile verifies."""
    info = archive.getinfo(name)
    # PyTorch compresses nothing, and a compressed member may be of any size.
    if info.compress_type != zipfile.ZIP_STORED:
        raise WeightsError(f"found {name!r:.60} compressed, accepted is uncompressed")
    if size is not None and info.file_size != size:
        raise WeightsError(
            f"found {info.file_size} bytes in {name!r:.60}, accepted are {size}"
        )
    return archive.read(info)


@contextlib.contextmanager
def _legacy(file: io.BufferedReader) -> Iterator[_Content]:
    magic = InertUnpickler(file).load()
    if magic != _MAGIC:
        raise WeightsError("found another pickle, accepted is what torch.save wrote")
    protocol = InertUnpickler(file).load()
    if protocol != _PROTOCOL:
        raise WeightsError(
            f"found protocol {protocol!r:.60} of torch.save, accepted is {_PROTOCOL}"
        )
    # Sizes of the machine's numbers, and its byte order: that of the file is little
    # all the same.
    InertUnpickler(file).load()
    unpickler = InertUnpickler(file)
    tree = unpickler.load()
    keys = InertUnpickler(file).load()
    places: dict[str, int] = {}
    end = file.tell()
    size = file.seek(0, io.SEEK_END)
    for key in keys:
        if key not in unpickler.storages:
            raise WeightsError(f"found storage {key!r:.60}, which no tensor shows")
        storage = unpickler.storages[key]
        file.seek(end)
        numel = int.from_bytes(file.read(8), "little")
        places[key] = end + 8
        end = places[key] + numel * storage.type.itemsize
        if numel != storage.numel or end > size:
            raise WeightsError(
                f"found storage {key!r:.60} with {numel} numbers in a file of {size} "
                f"bytes, accepted are {storage.numel} within it"
            )

    def read(storage: Storage) -> bytes:
        if storage.key not in places:
            raise WeightsError(f"found no storage {storage.key!r:.60}")
        file.seek(places[storage.key])
        return file.read(storage.numel * storage.type.itemsize)

    yield _Content(tree, read, "<")


def _state_dict(tree: object, entry: str) -> Mapping[str, Tensor]:
    """The tensors that `entry` means, or that the file has only one dictionary of."""
    found = list(_state_dicts(tree, (), set()))
    if not found:
        what = f"keys {_listed(tree)}" if isinstance(tree, dict) else "no dictionary"
        raise WeightsError(
            f"found no tensors by name ({what}), accepted is a state_dict"
        )
    meant = [tensors for where, tensors in found if where == entry or not entry]
    entries = _listed([where for where, _ in found])
    if not meant:
        raise WeightsError(
            f"found no tensors in entry {entry!r:.60}, accepted are {entries}"
        )
    if len(meant) > 1:
        raise WeightsError(
            f"found {len(meant)} dictionaries of tensors, accepted is one: choose "
            f"entry {entries}"
        )
    return meant[0]


def _state_dicts(
    node: object, keys: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary of tensors by name, and its place; the outermost's is `.`."""
    if not isinstance(node, dict) or id(node) in seen:
        return
    # A pickle may hold itself.
    seen.add(id(node))
    # Optimisers number their tensors: numbers are no names.
    named = {key: value for key, value in node.items() if isinstance(key, str)}
    tensors = {key: v for key, v in named.items() if isinstance(v, Tensor)}
    if tensors:
        yield "/".join(keys) or ".", tensors
    if len(keys) < _NESTING:
        for key, value in named.items():
            yield from _state_dicts(value, (*keys, key), seen)


def _listed(keys: Iterable[object]) -> str:
    shown = [f"{key!r:.60}" for key in itertools.islice(keys, _SHOWN + 1)]
    return ", ".join([*shown[:_SHOWN], *["..."] * (len(shown) > _SHOWN)])


def _arrays(tensors: Mapping[str, Tensor], content: _Content) -> dict[str, np.ndarray]:
    """The tensors as arrays, each storage read once and kept no longer than needed."""
    waiting = collections.Counter(t.storage.key for t in tensors.values())
    kept: dict[str, bytes] = {}
    arrays = {}
    for name, tensor in tensors.items():
        _check(name, tensor)
    for name, tensor in tensors.items():
        key = tensor.storage.key
        if key not in kept:
            kept[key] = content.read(tensor.storage)
        arrays[name] = _array(tensor, kept[key], content.byte_order)
        waiting[key] -= 1
        if not waiting[key]:
            del kept[key]
    return arrays


def _check(name: str, tensor: Tensor) -> None:
    """Raise WeightsError if a tensor has numbers that its storage has not."""
    number = math.prod(tensor.shape)
    steps = zip(tensor.shape, tensor.strides, strict=True)
    end = tensor.offset + sum((n - 1) * stride for n, stride in steps) + 1
    if number and end > tensor.storage.numel:
        raise WeightsError(
            f"found tensor {name!r:.60} up to number {end} of a storage of "
            f"{tensor.storage.numel}, accepted is one within its storage"
        )
    # A stride of 0 shows one number as often as the file likes.
    if number > tensor.storage.numel:
        raise WeightsError(
            f"found tensor {name!r:.60} with {number} numbers, accepted are at most "
            f"the {tensor.storage.numel} of its storage"
        )


def _array(tensor: Tensor, raw: bytes, byte_order: ByteOrder) -> np.ndarray:
    """A tensor's own copy of its numbers, in the machine's byte order."""
    # Any byte but 0 is true, where NumPy takes 0 and 1 only; and it has no bfloat16.
    stored = {"bool": "uint8", "bfloat16": "uint16"}
    kind, itemsize = tensor.storage.type
    view = np.ndarray(
        tensor.shape,
        np.dtype(stored.get(kind, kind)).newbyteorder(byte_order),
        buffer=raw if math.prod(tensor.shape) else None,
        offset=tensor.offset * itemsize if math.prod(tensor.shape) else 0,
        strides=[step * itemsize for step in tensor.strides] or None,
    )
    copy = np.array(view, view.dtype.newbyteorder("="), order="C")
    if kind == "bool":
        return copy.astype(np.bool_)
    if kind == "bfloat16":
        return copy.view(_BFLOAT16).astype(np.float32)
    return copy
