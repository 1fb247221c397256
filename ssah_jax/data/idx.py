"""The IDX file format of the MNIST family, read without any other library.

A big-endian header (two zero bytes, one for the element type, one for the number of
dimensions, then each dimension as a 32-bit integer) is followed by the elements in
row-major order. Format: "The MNIST database of handwritten digits" (LeCun, Cortes,
Burges), http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import math
import pathlib
import zlib

import numpy as np
from jaxtyping import UInt8

from ssah_jax.data.source import DataError

_TYPE_NAMES = {
    0x08: "uint8",
    0x09: "int8",
    0x0B: "int16",
    0x0C: "int32",
    0x0D: "float32",
    0x0E: "float64",
}
_UINT8 = 0x08
# What gzip makes of the same byte again and again.
_MOST_TIMES = 1032


def read_idx(path: str | pathlib.Path, *, dims: int) -> UInt8[np.ndarray, "..."]:
    """Reads an IDX file of unsigned bytes, plain or gzip-compressed.

    Args:
        path: the file; a name that ends in `.gz` is decompressed.
        dims: how many dimensions the file must have, such as 3 for images.

    Returns:
        A read-only array with the file's `dims` dimensions.

    Raises:
        DataError: the file cannot be read, is no IDX file of `dims` dimensions of
            unsigned bytes, or is shorter or longer than its header says.
    """
    path = pathlib.Path(path)
    header = 4 * (1 + dims)
    content, more = _read_bytes(path, header)
    if len(content) < header:
        raise DataError(
            f"{path}: found {len(content)} bytes, expected an IDX header of {header}"
        )
    magic = int.from_bytes(content[:4], "big")
    expected = (_UINT8 << 8) | dims
    if magic != expected:
        raise DataError(
            f"{path}: found magic number 0x{magic:08x} ({_describe(magic)}), "
            f"expected 0x{expected:08x} ({_describe(expected)})"
        )
    shape = tuple(
        int.from_bytes(content[4 * d : 4 * d + 4], "big") for d in range(1, dims + 1)
    )
    size = math.prod(shape)
    if size == 0:
        raise DataError(
            f"{path}: found dimensions {_times(shape)}, expected each to be at least 1"
        )
    if len(content) - header != size:
        raise DataError(
            f"{path}: found {more}{len(content) - header} bytes after the header, "
            f"expected {size} ({_times(shape)})"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_idx_pair(
    directory: pathlib.Path, prefix: str
) -> tuple[UInt8[np.ndarray, "N H W 1"], UInt8[np.ndarray, "N"]]:
    """Reads the images and labels of one part of a data set.

    Args:
        directory: holds `PREFIX-images-idx3-ubyte` and `PREFIX-labels-idx1-ubyte`, each
            possibly with `.idx` for `-idx` and possibly with `.gz` at its end.
        prefix: of the part, such as `train` or `t10k`.

    Returns:
        Images, uint8 `[N, H, W, 1]`, and integer labels, uint8 `[N]`.

    Raises:
        DataError: a file is missing or unusable, or the two differ in number.
    """
    image_file = _find_idx(directory, f"{prefix}-images", dims=3)
    label_file = _find_idx(directory, f"{prefix}-labels", dims=1)
    images = read_idx(image_file, dims=3)
    labels = read_idx(label_file, dims=1)
    if len(images) != len(labels):
        raise DataError(
            f"{label_file}: found {len(labels)} labels, expected {len(images)}, "
            f"one for each image of {image_file}"
        )
    return images[..., None], labels


def _find_idx(directory: pathlib.Path, stem: str, *, dims: int) -> pathlib.Path:
    """The first file that exists of the names the format goes by."""
    names = [
        f"{stem}{joint}idx{dims}-ubyte{suffix}"
        for suffix in ("", ".gz")
        for joint in ("-", ".")
    ]
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise DataError(
        f"{directory / names[0]}: found no such file, expected one of "
        f"{', '.join(names)}"
    )


def _read_bytes(path: pathlib.Path, header: int) -> tuple[bytes, str]:
    """The file's content, decompressed where its name says so.

    Of what is compressed, no more than one byte beyond what the header claims: it could
    be larger than any memory.

    Returns:
        The content, and words that say if there is more of it.
    """
    try:
        if path.suffix == ".gz":
            most = _MOST_TIMES * path.stat().st_size
            with gzip.open(path, "rb") as file:
                start = file.read(header)
                sides = [start[at : at + 4] for at in range(4, header, 4)]
                wanted = math.prod(int.from_bytes(side, "big") for side in sides)
                rest = file.read(min(wanted + 1, most))
            return start + rest, "at least " if len(rest) > wanted else ""
        return path.read_bytes(), ""
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: found a corrupt or truncated gzip stream ({error}), "
            "expected a gzip-compressed IDX file"
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: found an unreadable file "
            f"({error.strerror or error}), expected an IDX file"
        ) from error


def _describe(magic: int) -> str:
    """What a magic number stands for, for an error message."""
    zeros, kind, dims = magic >> 16, (magic >> 8) & 0xFF, magic & 0xFF
    if zeros or kind not in _TYPE_NAMES:
        return "not an IDX file"
    return f"{_TYPE_NAMES[kind]}, {dims} dimension{'s' if dims != 1 else ''}"


def _times(shape: tuple[int, ...]) -> str:
    """A shape as `60000 x 28 x 28`."""
    return " x ".join(str(size) for size in shape)
