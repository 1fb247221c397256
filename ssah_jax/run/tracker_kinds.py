"""Places that a run can be told to, by the words of `--log`."""

import contextlib
import dataclasses
import importlib
import importlib.util
import io
import struct
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

Values = Mapping[str, Any]


class Tracker(Protocol):
    """One place that a run is told to."""

    def log_hyperparameters(self, values: Values) -> None:
        """The fields of the configuration by their dotted names; once a process."""

    def log_scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Numbers of a step; steps ascend."""

    def log_image(self, name: str, png: bytes, *, step: int) -> None:
        """A picture of a step."""

    def log_summary(self, values: Mapping[str, float], *, step: int) -> None:
        """The numbers that a finished run is known by."""

    def log_artifact(self, path: Path) -> None:
        """A file that a finished run has left."""

    def finish(self) -> None:
        """Nothing more will come from this process."""


class TrackerError(ValueError):
    """A tracker that is asked for is unknown or not installed."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where and when a tracker begins.

    Attributes:
        directory: of the run.
        step: the last step of an earlier process that is not trained again.
        identity: of the run, the same after a restart.
    """

    directory: Path
    step: int
    identity: str


class TensorBoard:
    """Event files in `tensorboard/` of the workdir, by tensorboardX.

    Written here and now: its own `SummaryWriter` has a thread, and blocks for ever once
    that has met a full disk.
    """

    def __init__(self, place: Place) -> None:
        """A new file, which takes back what an earlier one says of later steps."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        self._summary, self._event = summary_pb2.Summary, event_pb2.Event
        directory = place.directory / "tensorboard"
        directory.mkdir(exist_ok=True)
        earlier = any(directory.iterdir())
        # Its names have whole seconds: a quick restart would overwrite.
        suffix = f".{time.time_ns()}"
        self._writer = EventsWriter(str(directory / "events"), suffix)
        if earlier:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(place.step + 1, session_log=start)

    def _write(self, step: int, **what: Any) -> None:
        event = self._event(wall_time=time.time(), step=step, **what)
        self._writer.write_event(event)
        self._writer.flush()

    def log_hyperparameters(self, values: Values) -> None:
        """As text: its own table wants final numbers with them."""
        from tensorboardX.summary import text

        rows = "".join(f"| {k} | {v} |\n" for k, v in values.items())
        self._write(0, summary=text("config", f"| field | value |\n|---|---|\n{rows}"))

    def log_scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """A scalar each."""
        found = [self._summary.Value(tag=k, simple_value=v) for k, v in values.items()]
        self._write(step, summary=self._summary(value=found))

    def log_image(self, name: str, png: bytes, *, step: int) -> None:
        """The PNG as it is."""
        width, height = struct.unpack(">II", png[16:24])
        image = self._summary.Image(
            width=width, height=height, colorspace=4, encoded_image_string=png
        )
        value = self._summary.Value(tag=name, image=image)
        self._write(step, summary=self._summary(value=[value]))

    log_summary = log_scalars

    def log_artifact(self, path: Path) -> None:
        """It has no files."""

    def finish(self) -> None:
        """Closes the file."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, whose files lie in `wandb/` of the workdir.

    Project, entity and mode are those of its environment (`WANDB_PROJECT`,
    `WANDB_MODE=offline`).
    """

    def __init__(self, place: Place) -> None:
        """Begins, or goes on with, the run of this identity."""
        import wandb

        self._wandb = wandb
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._run = wandb.init(
                id=place.identity,
                name=place.directory.name,
                dir=str(place.directory),
                resume="allow",
                # Standard error is ours: the bar, and what ends a run.
                settings=wandb.Settings(console="off", silent=True, init_timeout=60),
            )

    def log_hyperparameters(self, values: Values) -> None:
        """As its config."""
        self._run.config.update(dict(values), allow_val_change=True)

    def log_scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """As its history."""
        self._run.log(dict(values), step=step)

    def log_image(self, name: str, png: bytes, *, step: int) -> None:
        """As its media."""
        self._run.log({name: self._wandb.Image(_pillow(png))}, step=step)

    def log_summary(self, values: Mapping[str, float], *, step: int) -> None:
        """As its summary."""
        self._run.summary.update(dict(values))

    def log_artifact(self, path: Path) -> None:
        """As an artifact of its own."""
        name = f"{self._run.id}-{path.stem}"
        artifact = self._wandb.Artifact(name, type=path.suffix[1:])
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def finish(self) -> None:
        """Waits until all is written."""
        self._run.finish()


class Trackio:
    """A run of Trackio, whose data base is where `TRACKIO_DIR` says."""

    def __init__(self, place: Place) -> None:
        """Begins, or goes on with, the run of this identity."""
        import trackio

        self._trackio = trackio
        name = f"{place.directory.name}-{place.identity}"
        with contextlib.redirect_stdout(sys.stderr):
            self._run = trackio.init(
                project="ssah_jax",
                name=name,
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

    def log_hyperparameters(self, values: Values) -> None:
        """As its config."""
        self._run.config.update({k: str(v) for k, v in values.items()})

    def log_scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """As its metrics."""
        self._run.log(dict(values), step=step)

    def log_image(self, name: str, png: bytes, *, step: int) -> None:
        """As its media."""
        self._run.log({name: self._trackio.Image(_pillow(png))}, step=step)

    log_summary = log_scalars

    def log_artifact(self, path: Path) -> None:
        """It keeps files of projects, not of runs."""

    def finish(self) -> None:
        """Waits until all is written."""
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A tracker by its word: what makes it, the package and the extra it needs."""

    make: Callable[[Place], Tracker]
    package: str
    # Whether it takes back steps that an earlier process logged and lost.
    takes_back: bool = False


KINDS: dict[str, _Kind] = {
    "tensorboard": _Kind(TensorBoard, "tensorboardX", takes_back=True),
    "wandb": _Kind(WeightsAndBiases, "wandb"),
    "trackio": _Kind(Trackio, "trackio"),
}
"""Accepted words of `--log`."""


def read_words(text: str) -> tuple[str, ...]:
    """The trackers of a list with commas, each once.

    Raises:
        TrackerError: one is unknown, or its package is not installed.
    """
    words = tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    for word in words:
        if word not in KINDS:
            raise TrackerError(
                f"--log: found {word!r}, accepted are {', '.join(KINDS)}"
            )
        if importlib.util.find_spec(KINDS[word].package) is None:
            raise TrackerError(
                f"--log: found {word} without the package {KINDS[word].package}; "
                f"pip install 'ssah-jax[{word}]' brings it"
            )
    return words


def _pillow(png: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(png))
