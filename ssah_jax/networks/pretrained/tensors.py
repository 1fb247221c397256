"""Tensors by name, from files and to files."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from ssah_jax.networks.pretrained.torch_files import LEGACY_START, ZIP_START, read_torch
from ssah_jax.networks.weight_tables import WeightsError

_TAKES = "accepted is a file of safetensors' or torch.save's"


def read_tensors(
    path: str | os.PathLike[str], *, entry: str = ""
) -> dict[str, np.ndarray]:
    """Reads a file of weights, whatever its name; executes nothing.

    Args:
        path: a file in safetensors' format or in one of `torch.save`'s two
            (`.pth`, `.pt`, `.bin`).
        entry: of PyTorch's files that hold several dictionaries of tensors, which
            one: its key, or keys with `/` between. By default a file must hold one,
            on its own or among other things, such as `{"state_dict": ..., "epoch":
            3}`; what is no tensor is left out.

    Returns:
        Arrays by name, of any shape, in the order of the file. Types are the
        tensors' own, but for bfloat16, which becomes float32 and loses nothing.

    Raises:
        WeightsError: the file cannot be read, is damaged, is of another kind, has
            no or several dictionaries of tensors, or holds more than tensors.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            start = opened.read(9)
    except OSError as error:
        raise WeightsError(
            f"{file}: cannot be read ({error.strerror}), {_TAKES}"
        ) from error
    # The length of the header, 8 bytes, and the header, JSON.
    if start[8:] == b"{":
        if entry:
            raise WeightsError(
                f"{file}: found entry {entry!r:.60}, accepted is none, as files of "
                "safetensors' are not nested"
            )
        return _read_safetensors(file)
    if start.startswith((ZIP_START, LEGACY_START)):
        return read_torch(file, entry=entry)
    what = f"a file that begins with {start!r}" if start else "an empty file"
    raise WeightsError(f"{file}: found {what}, {_TAKES}")


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a file in safetensors' format, which is there whole or not at all.

    Args:
        path: the file; one that is there already is replaced.
        tensors: by name, of any shape.
        metadata: of the file, such as where the tensors come from.

    Raises:
        WeightsError: the file cannot be written.
    """
    file = Path(path)
    dense = {name: np.asarray(t, order="C") for name, t in tensors.items()}
    try:
        with tempfile.TemporaryDirectory(prefix=".ssah-", dir=file.parent) as folder:
            part = Path(folder) / "part"
            # Its own function for files makes one that nobody else may read.
            part.write_bytes(safetensors.numpy.save(dense, dict(metadata or {})))
            part.replace(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{file}: cannot be written ({error})") from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                array = file.get_tensor(name)
                if array.dtype == np.dtype(jnp.bfloat16):
                    array = array.astype(np.float32)
                arrays[name] = array
    except (safetensors.SafetensorError, OSError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: found a damaged file or a type that NumPy lacks "
            f"({error!s:.100}), accepted is a whole file of safetensors' with numbers"
        ) from error
    return arrays
