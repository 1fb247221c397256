"""Writing a directory of features: killed, it is gone on with by the next call."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float

from ssah_jax.data.features import (
    TRAILER,
    VERSION,
    FeatureInfo,
    FeatureOrigin,
    file_sha256,
    read_feature_info,
    stored_shape,
)
from ssah_jax.data.sealed import sealed, unsealed
from ssah_jax.data.source import DataError, Source
from ssah_jax.retrieval.files import one_line

# After so many it is noted how far the file is.
_ROWS: Final = 1024
_DATA: Final = "data.json"


class FeatureWriter(AbstractContextManager["FeatureWriter"]):
    """Writes a directory of features that appears, complete, at `finish`.

    Left without `finish`, by an exception or a kill, what it wrote is there for the
    next writer of the same features, which goes on after it.

    Attributes:
        rows: images whose features are written, of all N.
        complete: whether `path` holds all of them already.
        unreadable: why an image could not be read, by its index.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        source: Source,
        origin: FeatureOrigin,
        *,
        width: int,
    ) -> None:
        """Looks for what an interrupted writer of the same features has left.

        Args:
            path: the directory to write; one that is there is empty or complete.
            source: the N images that they are features of.
            origin: what else they depend on.
            width: D.

        Raises:
            DataError: there or half-written are other features or other things, or
                `path` cannot be written.
        """
        self._path = Path(os.path.abspath(path))
        self._part = self._path.with_name(f".{self._path.name}.partial")
        self._source, self._origin, self._width = source, origin, width
        self.rows, self.complete = 0, False
        self.unreadable: dict[int, str] = {}
        where = one_line(self._path)
        if (self._path / "features.json").is_file():
            there = read_feature_info(self._path).origin
            origin.check_same(there, where, "choose another --out")
            self.complete, self.rows = True, len(source)
            return
        if self._path.exists() and not _is_empty_directory(self._path):
            raise DataError(
                f"{where}: holds other things than features, accepted is a new or "
                "empty directory; choose another --out"
            )
        with _writing(self._path):
            self._part.mkdir(parents=True, exist_ok=True)
            self._take_up()

    def write(
        self, features: Float[np.ndarray, "n VD"], readable: Bool[np.ndarray, "n"]
    ) -> None:
        """Adds the next n rows.

        Args:
            features: `[n, V D]`, those of each view after another; rows of images that
                could not be read are ignored.
            readable: which could, `[n]`.

        Raises:
            DataError: a feature is not finite or too large for its type, or cannot
                be written.
        """
        # What is too large becomes infinite, and is told below.
        with np.errstate(over="ignore"):
            stored = features.astype(self._origin.stored)
        stored[~readable] = 0
        if not np.isfinite(stored).all():
            largest = np.abs(features[readable]).max()
            raise DataError(
                f"features: found one of size {largest:.4g}, accepted for "
                f"{self._origin.stored} are finite ones; try --stored=float32"
            )
        with _writing(self._path):
            self._file.write(stored.tobytes())
            self.rows += len(stored)
            if self.rows - self._saved >= _ROWS:
                self._save()

    def finish(
        self,
        *,
        weights: str,
        config: Mapping[str, Any],
        versions: Mapping[str, str],
        said: Mapping[str, Any],
    ) -> None:
        """Completes the directory and moves it into its place; see `FeatureInfo`.

        Args:
            weights: as of `FeatureInfo`.
            config: likewise.
            versions: likewise.
            said: what was understood of the data set, for `data.json`.

        Raises:
            DataError: rows are missing, or it cannot be written.
        """
        source = self._source
        if self.rows != len(source):
            raise DataError(
                f"features: found {self.rows} rows, expected {len(source)}, as images"
            )
        with _writing(self._path):
            self._save()
            self._file.close()
            np.save(self._part / "labels.npy", (source.labels != 0).astype(np.uint8))
            np.savez(self._part / "parts.npz", **dict[str, Any](source.parts))
            (self._part / "names.json").write_text(json.dumps(list(source.names)))
            info = FeatureInfo(
                self._origin,
                weights,
                self._width,
                file_sha256(self._part / "features.npy"),
                {name: file_sha256(self._part / name) for name in TRAILER},
                config,
                source.class_names,
                source.multi_label,
                source.missing,
                self.unreadable,
                versions,
            )
            (self._part / _DATA).write_text(json.dumps(said, indent=2) + "\n")
            known = sealed({"version": VERSION} | dataclasses.asdict(info))
            text = json.dumps(known, indent=1) + "\n"
            (self._part / "features.json").write_text(text)
            for name in (*TRAILER, _DATA, "features.json"):
                with open(self._part / name, "rb") as file:
                    os.fsync(file.fileno())
            self._part.replace(self._path)
            (self._path / "progress.json").unlink()
        self.complete = True

    def __exit__(self, *error: object) -> None:
        """Keeps what was written and not finished, for the next writer."""
        if not self.complete:
            # The disk may be what failed.
            with contextlib.suppress(OSError):
                self._save()
            with contextlib.suppress(OSError):
                self._file.close()

    def _take_up(self) -> None:
        """Go on after the rows that are there, or begin."""
        array, progress = self._part / "features.npy", self._part / "progress.json"
        if progress.is_file():
            found = unsealed(json.loads(progress.read_text()))
            self._origin.check_same(
                FeatureOrigin(**found["origin"]),
                one_line(self._part),
                "delete it to begin again",
            )
            self.rows = found["rows"]
            self.unreadable = {int(k): v for k, v in found["unreadable"].items()}
        else:
            shape = stored_shape(len(self._source), self._origin.views, self._width)
            # Sparse: nothing but the header is written.
            np.lib.format.open_memmap(
                array, mode="w+", dtype=self._origin.stored, shape=shape
            )
        numbers = self._origin.views * self._width
        row = numbers * np.dtype(self._origin.stored).itemsize
        header = array.stat().st_size - len(self._source) * row
        self._file = open(array, "r+b")  # noqa: SIM115 (closed by finish and exit)
        self._file.seek(header + self.rows * row)
        self._saved = self.rows

    def _save(self) -> None:
        """Note how far the file is, once it is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        note = {
            "origin": dataclasses.asdict(self._origin),
            "rows": self.rows,
            "unreadable": {k: v for k, v in self.unreadable.items() if k < self.rows},
        }
        temporary = self._part / "progress.tmp"
        temporary.write_text(json.dumps(sealed(note)))
        temporary.replace(self._part / "progress.json")
        self._saved = self.rows


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise DataError(
            f"{one_line(path)}: cannot be written ({reason}), expected a place "
            "to write to with enough space"
        ) from error
