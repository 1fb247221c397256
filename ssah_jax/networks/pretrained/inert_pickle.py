"""Pickles of tensors, read without executing anything.

A pickle is a program: it may name any function of any module and call it. The one
place where names become objects is `find_class`, and this reader's knows a fixed
handful of PyTorch's names, which it answers with functions of its own that put their
arguments into tuples. Every other name ends the reading.

What PyTorch writes is documented at
https://docs.pytorch.org/docs/stable/notes/serialization.html, and what a pickle can do
at https://docs.python.org/3/library/pickle.html#restricting-globals.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ssah_jax.networks.weight_tables import WeightsError


class StorageType(NamedTuple):
    """A class of storages.

    Attributes:
        dtype: of the numbers, by NumPy's name or `bfloat16`.
        itemsize: bytes of one of them.
    """

    dtype: str
    itemsize: int


class Storage(NamedTuple):
    """Numbers in a row, kept outside the pickle.

    Attributes:
        key: where in the file.
        type: of the numbers.
        numel: how many, at least 0.
    """

    key: str
    type: StorageType
    numel: int


class Tensor(NamedTuple):
    """A view of a storage that is not read yet; nothing says that it fits in there.

    Attributes:
        storage: whose numbers it shows.
        offset: of the first one, at least 0.
        shape: its dimensions, each at least 0.
        strides: in numbers, not bytes, each at least 0; as many as dimensions.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Opaque(NamedTuple):
    """Something that is no tensor, such as a device.

    Attributes:
        name: of its kind.
    """

    name: str


# Records are tuples, and functions come wrapped, since a pickle may also set
# attributes of any object that it got hold of; tuples have none that can be set.
class _Call:
    """A function of ours, and nothing else, to be called by a pickle."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise WeightsError("found a pickle that changes a function, accepted is none")


class _Entries(dict[Any, Any]):
    """A dictionary without attributes: what a pickle sets of them is dropped."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        # A state_dict keeps the versions of its modules in an attribute.
        pass


def _sizes(sizes: object = ()) -> tuple[int, ...]:
    if not isinstance(sizes, tuple | list) or not all(map(_is_size, sizes)):
        raise WeightsError(
            f"found a tensor of shape or strides {sizes!r:.60}, accepted are integers "
            "of at least 0"
        )
    return tuple(sizes)


def _is_size(number: object) -> bool:
    return type(number) is int and number >= 0


def _tensor(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    requires_grad: object = False,
    hooks: object = None,
    metadata: object = None,
) -> Tensor:
    # The numbers are then not those of the storage, but their negatives.
    if metadata:
        raise WeightsError(
            f"found a tensor with metadata {metadata!r:.60}, accepted is one without"
        )
    if not isinstance(storage, Storage):
        raise WeightsError("found a tensor without a storage, accepted is one with")
    dimensions, steps = _sizes(shape), _sizes(strides)
    (start,) = _sizes((offset,))
    if len(dimensions) != len(steps):
        raise WeightsError(
            f"found a tensor with {len(dimensions)} dimensions and {len(steps)} "
            "strides, accepted are as many"
        )
    return Tensor(storage, start, dimensions, steps)


_STORAGES: Final = {
    "DoubleStorage": StorageType("float64", 8),
    "FloatStorage": StorageType("float32", 4),
    "HalfStorage": StorageType("float16", 2),
    "BFloat16Storage": StorageType("bfloat16", 2),
    "LongStorage": StorageType("int64", 8),
    "IntStorage": StorageType("int32", 4),
    "ShortStorage": StorageType("int16", 2),
    "CharStorage": StorageType("int8", 1),
    "ByteStorage": StorageType("uint8", 1),
    "BoolStorage": StorageType("bool", 1),
}

_GLOBALS: Final[dict[tuple[str, str], object]] = {
    ("collections", "OrderedDict"): _Call(_Entries),
    ("torch._utils", "_rebuild_tensor"): _Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Call(lambda data, *_: data),
    ("torch._utils", "_rebuild_parameter_with_state"): _Call(lambda data, *_: data),
    ("torch", "Size"): _Call(_sizes),
    ("torch", "device"): _Call(lambda *_: Opaque("device")),
    **{("torch", name): kind for name, kind in _STORAGES.items()},
    **{("torch", kind.dtype): Opaque("dtype") for kind in _STORAGES.values()},
}


class InertUnpickler(pickle.Unpickler):
    """Reads one pickle of tensors.

    Attributes:
        storages: that the pickle speaks of, by key.
    """

    def __init__(self, file: io.BufferedReader | io.BytesIO) -> None:
        """Reads nothing yet.

        Args:
            file: at the beginning of the pickle; reading leaves it at its end.
        """
        # Names in files of Python 2 are UTF-8, as PyTorch takes them.
        super().__init__(file, encoding="utf-8")
        self._file = file
        self.storages: dict[str, Storage] = {}

    def load(self) -> Any:
        """What the pickle describes.

        Returns:
            Numbers, text, tuples, lists, dictionaries and this module's records.

        Raises:
            WeightsError: it asks for more than that.
            Exception: of any other type, if it is damaged.
        """
        # Objects are numbered as they come, and the reader makes room for the number
        # that it is told: a few bytes could ask for all memory.
        start = self._file.tell()
        for opcode, argument, position in pickletools.genops(self._file):
            numbers = opcode.name in ("PUT", "LONG_BINPUT")
            if numbers and int(argument or 0) > int(position or 0):
                raise WeightsError(
                    f"found a pickle that numbers an object {argument} at byte "
                    f"{position}, accepted are numbers in order"
                )
        self._file.seek(start)
        return super().load()

    def find_class(self, module: str, name: str, /) -> Any:
        """What stands for `module.name` here.

        Raises:
            WeightsError: it is none of the names that a file of tensors needs.
        """
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise WeightsError(
                f"found a pickle that uses {f'{module}.{name}'!r:.200}, accepted are "
                "tensors in dictionaries (a state_dict), and no other objects"
            ) from None

    def persistent_load(self, identifier: object, /) -> Storage:
        """The storage that PyTorch kept outside the pickle.

        Raises:
            WeightsError: `identifier` is not one that PyTorch writes.
        """
        match identifier:
            case ["storage", StorageType() as kind, str(key), str(), int(numel), *view]:
                storage = Storage(key, kind, numel)
                known = _is_size(numel) and view in ([], [None])
            case _:
                known = False
        if not known:
            raise WeightsError(
                f"found a storage described as {identifier!r:.200}, accepted is "
                "('storage', TYPE, KEY, DEVICE, NUMBER)"
            )
        if self.storages.setdefault(key, storage) != storage:
            raise WeightsError(f"found storage {key!r:.60} with two types or sizes")
        return storage
