"""An index that changes while it is served."""

import threading
from collections.abc import Callable
from pathlib import Path

from ssah_jax.run.serve.engine import Engine


class Watch:
    """Loads an index again when there is another file in its place.

    Files of an index are replaced whole, so that each is one state or another.
    """

    def __init__(
        self, path: Path, load: Callable[[], Engine], tell: Callable[[str], None]
    ) -> None:
        """Takes the file as it is now for the one that is served.

        Args:
            path: of the index.
            load: the engine of what is there; raises ValueError if it does not fit.
            tell: takes a line when something has changed.
        """
        self._path, self._load, self._tell = path, load, tell
        self._seen = self._state()
        self._lock = threading.Lock()

    def engine(self) -> Engine | None:
        """The engine of a file that has changed since the last call; else None."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            state = self._state()
            if state in (None, self._seen):
                return None
            self._seen = state
            engine = self._load()
        except ValueError as error:
            line = " ".join(str(error).split())
            self._tell(f"the index has changed and is served as it was: {line}")
            return None
        finally:
            self._lock.release()
        self._tell(f"the index has changed: {len(engine.index.ids)} images now")
        return engine

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns
