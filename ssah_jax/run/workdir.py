"""The directory of a run: what lies in it, and how it is written whole.

config.json     the configuration
model.json      shape of the images and names of the classes, for encoding without data,
                and where the first weights came from
spread.npy      `[N, C]`, what spread labels say of all images, if training asks
split.json      the indices of the split, with their digest
metrics.jsonl   one JSON object for each logged step
checkpoints/    see `ssah_jax.run.checkpointing`
strips/         what A-Net made of the same images, at each evaluation
data.json       what was understood of the data set
missing.txt     images that the data set lists and the disk lacks, if any
skipped.txt     images that could not be read, and why, if any
gallery/        queries with what is found for them: gallery.json and pictures
results.json    the final evaluation; its presence says that the run is finished
report.html     the same for people
model_card.md   the same for whoever is given the encoder
"""

import dataclasses
import io
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float32

from ssah_jax import config as config_lib
from ssah_jax.config import Config
from ssah_jax.data.sealed import unsealed
from ssah_jax.retrieval.files import write_atomically
from ssah_jax.run.model_info import ModelInfo


class WorkdirError(ValueError):
    """A workdir is missing, or of another run; one line that says what to do."""


_LOCK = ".lock"
_LOOKS = 20
_BETWEEN_LOOKS = 0.25

_FIGURES = (
    "not_measured",
    "map",
    "map_interval",
    "map_stable",
    "num_query",
    "num_database",
    "num_labelled",
    "protocol",
    "split_digest",
    "steps",
)


def is_pushed(spec: str | os.PathLike[str]) -> bool:
    """Whether what `ssah push` sent to a hub is meant, not a file or a directory."""
    return os.fspath(spec).startswith("hf:")


class Workdir:
    """Paths and records of one run; nothing is created before `create`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Points at `path`, which need not exist.

        Raises:
            WorkdirError: it means what `ssah push` sent to a hub.
        """
        if is_pushed(path):
            raise WorkdirError(
                f"--workdir: found {os.fspath(path)}, accepted here is a directory; "
                "what was pushed is for eval, export, encode, search, serve, duplicates"
            )
        self.path = Path(path).absolute()
        self.checkpoints = self.path / "checkpoints"
        self.results = self.path / "results.json"
        self.report = self.path / "report.html"
        self.card = self.path / "model_card.md"
        self._config = self.path / "config.json"
        self._model = self.path / "model.json"
        self._metrics = self.path / "metrics.jsonl"
        self._spread = self.path / "spread.npy"

    def read_config(self) -> Config:
        """The configuration of the run that lives here.

        Raises:
            WorkdirError: there is none.
        """
        if not self._config.is_file():
            raise WorkdirError(
                f"{self.path}: no config.json, so not the workdir of a run"
            )
        return config_lib.from_json(self._config.read_text())

    def check_free_for(self, config: Config) -> None:
        """Check that the directory is new, empty, or of a run with this configuration.

        Raises:
            WorkdirError: it is a file, holds other things, or another configuration.
        """
        if self._config.is_file():
            found = config_lib.differences(self.read_config(), config)
            if found and not self.wants_more_steps(config):
                more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
                raise WorkdirError(
                    f"{self.path}: holds a run of another config: {found[0]}{more}; "
                    "choose another --workdir"
                )
        elif self.path.exists() and not self.path.is_dir():
            raise WorkdirError(f"{self.path}: is a file, accepted is a directory")
        elif self.path.is_dir() and not all(map(self._is_ours, self.path.iterdir())):
            raise WorkdirError(
                f"{self.path}: holds files but no config.json, accepted is an empty "
                "directory or the workdir of a run"
            )

    def _is_ours(self, file: Path) -> bool:
        """Whether a `create` that was killed half-way may have left the file."""
        ours = {self._model.name, self._spread.name, "split.json", _LOCK}
        return file.name in ours or file.match(".*.tmp")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this directory, which is made.

        What fails before it is a run's leaves no directory that was not there.

        Raises:
            WorkdirError: another one does.
        """
        new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / _LOCK, timeout=0):
                try:
                    yield
                except BaseException:
                    if new and os.listdir(self.path) == [_LOCK]:
                        with suppress(OSError):
                            (self.path / _LOCK).unlink()
                            self.path.rmdir()
                    raise
        except Timeout as error:
            raise WorkdirError(
                f"{self.path}: another process is training here; wait for it, or "
                "choose another --workdir"
            ) from error

    def mark(self) -> str:
        """Write a file of a name that no other process could guess; its name."""
        name = f".{secrets.token_hex(8)}.tmp"
        (self.path / name).touch()
        return name

    def unmark(self, name: str) -> None:
        """Remove what `mark` wrote."""
        (self.path / name).unlink()

    def sees(self, name: str) -> bool:
        """Whether what another process's `mark` wrote is here; waits a little for it.

        Directories are listed, not asked for the file: of network disks, a client then
        asks anew.
        """
        for _ in range(_LOOKS):
            with suppress(OSError):
                os.listdir(self.path.parent)
                if name in os.listdir(self.path):
                    return True
            time.sleep(_BETWEEN_LOOKS)
        return False

    def saved_steps(self) -> list[int]:
        """Steps of the checkpoints, complete or not, that this process sees."""
        if not self.checkpoints.is_dir():
            return []
        names = [path.name for path in self.checkpoints.iterdir()]
        return sorted(int(name) for name in names if name.isdecimal())

    def read_model_info(self) -> ModelInfo:
        """What `create` was given.

        Raises:
            WorkdirError: there is none.
        """
        try:
            return ModelInfo.of_json(json.loads(self._model.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WorkdirError(
                f"{self._model}: found {type(error).__name__}, expected what train.py "
                "writes there"
            ) from error

    def check_same_data(self, info: ModelInfo) -> None:
        """Check that data set and first weights are those that the run began with.

        Args:
            info: of the data set; without weights where only that is compared.

        Raises:
            WorkdirError: images, labels, split or weights have changed.
        """
        if not self._config.is_file():
            return
        found = self.read_model_info()
        if info.weights_sha256 not in ("", found.weights_sha256):
            raise WorkdirError(
                f"{self.path}: began with other weights: {found.weights} had the "
                f"sha256 {found.weights_sha256}, found {info.weights_sha256}; put them "
                "back, or choose another --workdir"
            )
        if found != dataclasses.replace(
            info,
            weights=found.weights,
            weights_sha256=found.weights_sha256,
            # The features themselves are in the digest.
            made_by=found.made_by,
        ):
            raise WorkdirError(
                f"{self.path}: began with another data set: its images, labels or "
                "split have changed since; put them back, or choose another --workdir"
            )

    def create(
        self,
        config: Config,
        split_json: str,
        info: ModelInfo,
        spread: Float32[np.ndarray, "N C"] | None = None,
    ) -> None:
        """Make the directory and record what the run is, if not yet there.

        Args:
            config: of the run.
            split_json: of its split.
            info: of its data and model.
            spread: what spread labels say of all images, `[N, C]`, in half
                precision's steps; kept, so that no restart computes it otherwise.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not self._config.exists():
            write_atomically(self.path / "split.json", split_json)
            text = json.dumps(dataclasses.asdict(info), indent=2) + "\n"
            write_atomically(self._model, text)
            if spread is not None:
                file = io.BytesIO()
                np.save(file, spread.astype(np.float16), allow_pickle=False)
                write_atomically(self._spread, file.getvalue())
            # Last: with config.json the directory counts as the run's.
            write_atomically(self._config, config_lib.to_json(config))

    def read_spread(self) -> Float32[np.ndarray, "N C"] | None:
        """What `create` was given of spread labels, if anything.

        Raises:
            WorkdirError: it cannot be read.
        """
        if not self._config.is_file() or not self._spread.is_file():
            return None
        try:
            return np.load(self._spread, allow_pickle=False).astype(np.float32)
        except (OSError, ValueError, EOFError) as error:
            raise WorkdirError(
                f"{self._spread}: found a damaged file, expected what training wrote; "
                "choose another --workdir"
            ) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The logged lines, without a last one that a killed run left unfinished.

        Raises:
            WorkdirError: a line is not one that was logged.
        """
        if not self._metrics.exists():
            return []
        lines = self._metrics.read_bytes().split(b"\n")[:-1]
        found = []
        for number, line in enumerate(lines, start=1):
            try:
                found.append(json.loads(line))
                float(found[-1]["seconds"]), int(found[-1]["step"])
            except (ValueError, LookupError, TypeError) as error:
                raise WorkdirError(
                    f"{self._metrics}: found a damaged line {number}, expected what "
                    "training logs; delete that line"
                ) from error
        return found

    def drop_metrics_after(self, step: int) -> float:
        """Forget lines beyond a checkpoint from which training resumes.

        Returns:
            Seconds of training until that step.
        """
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        if self._metrics.exists():
            text = "".join(json.dumps(line) + "\n" for line in kept)
            write_atomically(self._metrics, text)
        return float(kept[-1]["seconds"]) if kept else 0.0

    def log(self, values: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with self._metrics.open("a") as file:
            file.write(json.dumps(values) + "\n")

    def read_results(self) -> dict[str, Any]:
        """What the final evaluation gave.

        Raises:
            WorkdirError: it is not what was written.
        """
        try:
            return unsealed(json.loads(self.results.read_text()))
        except ValueError as error:
            raise WorkdirError(
                f"{self.results}: found a damaged file ({error}), expected what "
                "training wrote; eval.py --workdir writes it again"
            ) from error

    def write_data(self, understanding: Mapping[str, Any], path: str) -> None:
        """Record what was understood of the data set, and where it lies."""
        text = json.dumps({"path": path, **understanding}, indent=2) + "\n"
        write_atomically(self.path / "data.json", text)

    def read_data_path(self) -> str:
        """Where the data lay when the run was last begun or resumed; else empty."""
        try:
            return str(json.loads((self.path / "data.json").read_text())["path"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def first_weights(self) -> str:
        """Where the weights came from that the run here began with; empty for none."""
        return self.read_model_info().weights if self._config.is_file() else ""

    def wants_more_steps(self, config: Config) -> int:
        """Steps of the run that lives here, if `config` asks for more and nothing else.

        Returns:
            Its number of steps; 0 where there is no run, or it is no such question.
        """
        if not self._config.is_file():
            return 0
        ours = self.read_config()
        longer = dataclasses.replace(ours, steps=config.steps) == config
        return ours.steps if longer and config.steps > ours.steps else 0

    def extend(self, config: Config) -> None:
        """Let the run that lives here go on for more steps.

        Its results so far are kept under the name of their step.
        """
        if steps := self.wants_more_steps(config):
            if self.results.exists():
                self.results.replace(self.path / f"results_step_{steps}.json")
            write_atomically(self._config, config_lib.to_json(config))

    def write_missing(self, names: Sequence[str]) -> None:
        """Record the images that are listed and not there, one a line."""
        if names:
            self._write_lines(self.path / "missing.txt", names)

    def write_skipped(self, reasons: Sequence[str]) -> None:
        """Record images that could not be read, one a line, with those of before."""
        path = self.path / "skipped.txt"
        before = path.read_text().splitlines() if path.exists() else []
        lines = sorted({*before, *reasons})
        if lines != before:
            self._write_lines(path, lines)

    @staticmethod
    def _write_lines(path: Path, lines: Sequence[str]) -> None:
        # Names of files need not be text.
        content = "".join(line + "\n" for line in lines)
        write_atomically(path, content.encode(errors="backslashreplace"))

    def read_measured(self) -> dict[str, Any]:
        """The figures of `results.json` that one names a run by; empty without it.

        Raises:
            WorkdirError: it is not what was written.
        """
        found = self.read_results() if self.results.exists() else {}
        return {name: found[name] for name in _FIGURES if name in found}

    def seconds_at(self, step: int) -> float:
        """Seconds of training until a step, by the last line at or before it."""
        seconds = [m["seconds"] for m in self.read_metrics() if m["step"] <= step]
        return float(seconds[-1]) if seconds else 0.0
