"""What TFDS asks of TensorFlow and OpenCV while it writes a data set, without either.

Builders of TensorFlow Datasets (https://www.tensorflow.org/datasets) open files with
`tf.io.gfile` and have TensorFlow encode arrays as PNG. Neither needs TensorFlow: the
files are local, and Pillow writes PNG. So the modules that take part get a stand-in
for their `tf` for the time of a preparation. TensorFlow itself is neither imported
nor listed in `sys.modules`; a builder that asks for more than this gets an error that
names what it asked for.
"""

import glob
import inspect
import io
import os
import resource
import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

_OPEN_FILES = 4096
_CHANNELS = (1, 2, 3, 4)


class MissingPackage(ImportError):
    """A builder needs more of TensorFlow or OpenCV than is replaced here."""


class _StandIn(types.SimpleNamespace):
    """A namespace that says what it lacks."""

    def __init__(self, package: str, path: str, **members: Any) -> None:
        super().__init__(**members)
        self._package = package
        self._path = path

    def __getattr__(self, name: str) -> Any:
        raise MissingPackage(f"{self._path}.{name} of {self._package}")


@contextmanager
def tensorflow_free(builder: Any) -> Iterator[None]:
    """Let `builder` prepare its data set without TensorFlow and OpenCV.

    What is replaced is global to the process until the context ends.

    Args:
        builder: a `tfds.core.DatasetBuilder`.
    """
    from tensorflow_datasets.core import lazy_imports_lib, shuffle
    from tensorflow_datasets.core.features import image_feature
    from tensorflow_datasets.core.utils import lazy_imports_utils

    _allow_open_files()
    # `shuffle` keeps what is beyond its memory limit in 1,000 files.
    modules = [shuffle, *map(inspect.getmodule, type(builder).__mro__)]
    with ExitStack() as stack:
        for module in modules:
            if getattr(module, "tf", None) is lazy_imports_utils.tensorflow:
                stack.enter_context(mock.patch.object(module, "tf", _tensorflow()))
        stack.enter_context(
            mock.patch.object(image_feature._ImageEncoder, "_encode_image", _encode)
        )
        stack.enter_context(
            mock.patch.object(lazy_imports_lib.LazyImporter, "cv2", _opencv())
        )
        yield


def _tensorflow() -> _StandIn:
    """The part of TensorFlow that reads and writes local files."""

    def part(path: str, **members: Any) -> _StandIn:
        return _StandIn("tensorflow", path, **members)

    gfile = part(
        "tf.io.gfile",
        GFile=_open,
        exists=os.path.exists,
        glob=glob.glob,
        isdir=os.path.isdir,
        listdir=os.listdir,
        makedirs=lambda path: os.makedirs(path, exist_ok=True),
        remove=os.remove,
        walk=os.walk,
    )
    return part(
        "tf",
        io=part("tf.io", gfile=gfile),
        # Only named in `except` clauses: the file system raises OSError here.
        errors=part("tf.errors", ResourceExhaustedError=MissingPackage),
    )


def _opencv() -> _StandIn:
    """The part of OpenCV that reads an image as shades of grey."""

    def imdecode(encoded: np.ndarray, flags: int) -> np.ndarray:
        if flags != 0:
            raise MissingPackage(f"cv2.imdecode with flags {flags} of opencv-python")
        with Image.open(io.BytesIO(encoded.tobytes())) as image:
            return np.asarray(image.convert("L"))

    return _StandIn("opencv-python", "cv2", imdecode=imdecode)


def _open(path: str | os.PathLike[str], mode: str = "r") -> Any:
    return open(path, mode, encoding=None if "b" in mode else "utf-8")


def _encode(encoder: Any, image: np.ndarray) -> bytes:
    """`image` `[H, W, ch]` as TFDS would have TensorFlow encode it, but by Pillow."""
    kind = encoder.encoding_format
    if kind == "png" and image.dtype == np.uint16 and image.shape[2] == 1:
        picture = Image.fromarray(image[:, :, 0])
    elif kind == "png" and image.dtype == np.uint8 and image.shape[2] in _CHANNELS:
        shape = image.shape[:2] if image.shape[2] == 1 else image.shape
        picture = Image.fromarray(np.ascontiguousarray(image).reshape(shape))
    else:
        raise MissingPackage(
            f"tf.image.encode_{kind} for {image.dtype} {list(image.shape)} of "
            "tensorflow"
        )
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG")
    return encoded.getvalue()


def _allow_open_files() -> None:
    """Raise the limit of open files towards what writing a large data set takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _OPEN_FILES:
        most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
