"""Labels kept in a file, so that the next run need not read a whole data set."""

import contextlib
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8


def read(path: Path, *, stamp: str) -> UInt8[np.ndarray, "N C"] | None:
    """Reads multi-hot labels.

    Args:
        path: of the file.
        stamp: what the labels belong to.

    Returns:
        The labels `[N, C]` in {0, 1}; None without a sound file of the same stamp.
    """
    try:
        # Opened here, as np.load leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as cache:
            if str(cache["stamp"]) != stamp:
                return None
            packed: np.ndarray = cache["packed"]
            num_images, num_classes = cache["shape"].tolist()
            labels = np.unpackbits(packed, axis=1, count=num_classes)
            return labels if len(labels) == num_images else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def write(path: Path, labels: UInt8[np.ndarray, "N C"], *, stamp: str) -> None:
    """Writes multi-hot labels, whole or not at all: some directories are read-only.

    Args:
        path: of the file.
        labels: `[N, C]` in {0, 1}.
        stamp: what they belong to.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = file.name
            np.savez_compressed(
                file, stamp=stamp, packed=np.packbits(labels, 1), shape=labels.shape
            )
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
