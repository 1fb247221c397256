"""What Orbax and TensorStore print, without what says nothing or was raised already."""

import functools
import logging
import sys
from pathlib import Path
from typing import Any

# Orbax warns of what the options of checkpoints ask for on purpose.
_EXPECTED_WARNINGS = (
    "CheckpointManagerOptions.read_only=True",
    "Given directory is read only",
    "Requested `tracked_metric`; did not provide metrics.",
)


class QuietOrbax(logging.Filter):
    """Drops Orbax's progress reports and expected warnings, and nothing else."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` is printed."""
        if "orbax" not in Path(record.pathname).parts:
            return True
        # What broke a save, or a thread of it, is raised by the next one, or by `wait`.
        if record.exc_info or "_SignalingThread" in str(record.msg):
            return False
        return record.levelno >= logging.WARNING and not str(record.msg).startswith(
            _EXPECTED_WARNINGS
        )


@functools.cache
def drop_late_callbacks() -> None:
    """Keep TensorStore's threads from telling, in a page, what was raised already.

    What fails ends Orbax's event loop while other reads or writes are under way.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        late = isinstance(unraisable.exc_value, RuntimeError)
        if not late or str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
