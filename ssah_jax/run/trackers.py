"""What a run logs, told to others as well: TensorBoard, Weights & Biases, Trackio.

`metrics.jsonl` is the truth and does not depend on any of this. A tracker is told what
has been written there, never touches the state, and one that fails is left out for the
rest of the run with a warning: it stops nothing.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssah_jax.retrieval.files import write_atomically
from ssah_jax.run.tracker_kinds import KINDS, Place, Tracker, Values


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
