"""What a run logs, told to others as well: TensorBoard, Weights & Biases, Trackio.

`metrics.jsonl` is the truth and does not depend on any of this. A tracker is told what
has been written there, never touches the state, and one that fails is left out for the
rest of the run with a warning: it stops nothing.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import struct
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ssah_jax.run.workdir import write_atomically

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


class Trackers:
    """Several trackers as one, of which each may fail without the others."""

    def __init__(
        self,
        words: Sequence[str],
        directory: Path,
        *,
        step: int,
        lines: Sequence[Values],
    ) -> None:
        """Opens them, and tells each what was logged without it.

        Args:
            words: of `KINDS`.
            directory: of the run; its `trackers.json` says how far each one was told.
            step: the step from which training goes on.
            lines: of `metrics.jsonl`, up to that step.
        """
        self._path = directory / "trackers.json"
        self._open: dict[str, Tracker] = {}
        if not words:
            return
        self._told = _read_told(self._path)
        place = Place(directory, step, _identity(self._path, self._told))
        # What a killed process told after its last checkpoint is trained again, and
        # comes out the same: who cannot take it back is not told twice.
        self._skip = {}
        for word in words:
            told = int(self._told.get(word, 0))
            self._skip[word] = min(told, step) if KINDS[word].takes_back else told
            with self._spared(word):
                self._open[word] = KINDS[word].make(place)
        for line in lines:
            self.log_scalars(line, step=line["step"])

    def log_hyperparameters(self, values: Values) -> None:
        """See `Tracker`; nested values become dotted names."""
        self._tell("log_hyperparameters", _flat(values))

    def log_scalars(self, values: Values, *, step: int) -> None:
        """See `Tracker`; of a line of `metrics.jsonl`, the numbers."""
        numbers = _numbers(values)
        numbers.pop("step", None)
        self._tell("log_scalars", numbers, step=step)
        if self._open:
            for word in self._open:
                self._told[word] = max(step, self._skip[word])
            _write_told(self._path, self._told)

    def log_image(self, name: str, png: bytes, *, step: int) -> None:
        """See `Tracker`; an empty picture is none."""
        if png:
            self._tell("log_image", name, png, step=step)

    def log_summary(self, values: Values, *, step: int) -> None:
        """See `Tracker`; what is no number is left out."""
        named = {f"test/{k}": v for k, v in _numbers(values).items()}
        self._tell("log_summary", named, step=step, again=True)

    def log_artifact(self, path: Path) -> None:
        """See `Tracker`."""
        self._tell("log_artifact", path)

    def finish(self) -> None:
        """See `Tracker`."""
        self._tell("finish")
        self._open.clear()

    def _tell(self, what: str, *values: Any, again: bool = False, **step: int) -> None:
        for word, tracker in list(self._open.items()):
            if again or step.get("step", self._skip[word] + 1) > self._skip[word]:
                with self._spared(word):
                    getattr(tracker, what)(*values, **step)

    @contextmanager
    def _spared(self, word: str) -> Iterator[None]:
        """Around what may fail: then the run goes on without."""
        try:
            yield
        # Theirs may be anything, up to SystemExit of a login that nobody answers.
        except (Exception, SystemExit) as error:
            self._open.pop(word, None)
            said = " ".join(str(error).split())[:200] or type(error).__name__
            print(
                f"warning: --log {word} failed and is left out from here on ({said}); "
                "metrics.jsonl has everything",
                file=sys.stderr,
            )


@contextmanager
def open_trackers(
    words: Sequence[str], directory: Path, *, step: int, lines: Sequence[Values] = ()
) -> Iterator[Trackers]:
    """Trackers that are finished whatever ends the block; see `Trackers`."""
    trackers = Trackers(words, directory, step=step, lines=lines)
    try:
        yield trackers
    finally:
        trackers.finish()


def _read_told(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        return dict(found) if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _write_told(path: Path, told: Values) -> None:
    # A full disk will end the run elsewhere, at what matters.
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps(told) + "\n")


def _identity(path: Path, told: dict[str, Any]) -> str:
    """A name that no other run has, made once and kept."""
    if "identity" not in told:
        told["identity"] = f"{time.time_ns():x}"
        _write_told(path, told)
    return str(told["identity"])


def _flat(values: Values, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + key
        nested = isinstance(value, Mapping)
        found |= _flat(value, f"{name}.") if nested else {name: value}
    return found


def _numbers(values: Values) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _pillow(png: bytes) -> Any:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(png))
