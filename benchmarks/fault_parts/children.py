"""Commands in processes that start in no time: forks of one that has imported all.

The parent never touches a device of JAX's, so that each child may choose its own.
"""

import contextlib
import gc
import importlib
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pyarrow.parquet  # noqa: F401 (so that children have it)

from ssah_jax import cli

for _module in (
    *("cli.train", "cli.eval", "cli.encode", "cli.index", "cli.search", "cli.features"),
    *("cli.prepare", "run.train_lib", "run.experiment", "run.evaluators", "run.checks"),
    *("run.report.run_page", "cli.config_option", "run.other_sets", "run.encoder"),
):
    importlib.import_module(f"ssah_jax.{_module}")

CACHE = Path(tempfile.gettempdir()) / "ssah-faults-compiled"
"""Compiled programs, kept between parts."""

TRAIN = (
    *("--config.batch.labelled=8", "--config.batch.unlabelled=8", "--config.bits=16"),
    *("--config.hnet.widths=(4,8)", "--config.anet.width=4", "--config.anet.grid=3"),
    *("--config.data.num_queries=50", "--config.data.num_validation=50"),
    "--config.eval.max_database=200",
)
"""A run of the digits whose steps take milliseconds."""


class Outcome(NamedTuple):
    """How a child ended.

    Attributes:
        status: its exit status, negative for a signal; None after a time limit.
        out: what it printed.
        err: what it printed on standard error.
        seconds: it took.
        value: of the function, if it returned one.
    """

    status: int | None
    out: str
    err: str
    seconds: float
    value: Any = None

    def fault(self, *, accepted: tuple[int, ...], lines: int = 16) -> str:
        """What is wrong: a hang, a traceback, another status, too many words."""
        if self.status is None:
            return "hang"
        if "Traceback" in self.err or self.status == 99:
            return f"traceback: {self.err.strip().splitlines()[-1]:.200}"
        if self.status not in accepted:
            return f"status {self.status}: {self.err.strip()[-200:]}"
        if self.err.count("\n") > lines:
            return f"{self.err.count(chr(10))} lines on standard error"
        if self.status == 2 and "error: " not in self.err:
            return "status 2 without an error"
        return ""


class Child:
    """A process that runs a function, and its streams."""

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        devices: int = 1,
        memory: int = 0,
    ) -> None:
        """Starts it; `memory` bytes more than now are what it may ask for."""
        self._folder = tempfile.TemporaryDirectory(prefix="faults-child-")
        self._paths = [Path(self._folder.name) / n for n in ("out", "err", "value")]
        self._started = time.monotonic()
        sys.stdout.flush()
        gc.collect()
        self.pid = os.fork()
        if self.pid == 0:
            self._be(function, arguments, devices, memory)

    def _be(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        devices: int,
        memory: int,
    ) -> None:
        status = 99
        try:
            # As of a command that was started: the parent may ignore signals.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                handler = signal.SIG_DFL
                if number == signal.SIGINT:
                    handler = signal.default_int_handler
                signal.signal(number, handler)
            for number, path in enumerate(self._paths[:2], start=1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
            options: Any = jax.config
            options.update("jax_platforms", "cpu")
            options.update("jax_num_cpu_devices", devices)
            options.update("jax_compilation_cache_dir", str(CACHE))
            options.update("jax_persistent_cache_min_compile_time_secs", 0)
            options.update("jax_persistent_cache_min_entry_size_bytes", -1)
            options.update("jax_disable_most_optimizations", True)
            if memory:
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                most = pages * resource.getpagesize() + memory
                resource.setrlimit(resource.RLIMIT_AS, (most, most))
            found = function(*arguments)
            self._paths[2].write_bytes(pickle.dumps(found))
            status = found if isinstance(found, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def poll(self) -> int | None:
        """Its status if it has ended, which can be asked once."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def err(self) -> str:
        """What it has said on standard error so far."""
        path = self._paths[1]
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self) -> Outcome:
        """SIGKILL, and the end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return self.end(60)

    def end(self, limit: float = 1200, status: int | None = None) -> Outcome:
        """Waits for its end; kills it after so many seconds."""
        deadline = time.monotonic() + limit
        hung = False
        while status is None:
            status = self.poll()
            if status is None and time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                hung = True
            time.sleep(0.002)
        seconds = time.monotonic() - self._started
        out, err, value = (p.read_bytes() if p.exists() else b"" for p in self._paths)
        with contextlib.suppress(OSError):
            self._folder.cleanup()
        return Outcome(
            None if hung else status,
            out.decode(errors="replace"),
            err.decode(errors="replace"),
            seconds,
            pickle.loads(value) if value else None,
        )


def ssah(*words: Any, devices: int = 1, memory: int = 0) -> Child:
    """Starts a command."""
    return Child(cli.main, [str(w) for w in words], devices=devices, memory=memory)


def train(workdir: Path, *more: str, devices: int = 1) -> Child:
    """Starts a small training."""
    return ssah(
        "train",
        "--config=digits",
        f"--workdir={workdir}",
        *TRAIN,
        *more,
        devices=devices,
    )


def call(function: Callable[..., Any], *arguments: Any, devices: int = 1) -> Any:
    """The value of a function, computed in a child."""
    found = Child(function, *arguments, devices=devices).end()
    if found.status is None or found.status == 99:
        raise RuntimeError(found.err)
    return found.value


@contextlib.contextmanager
def quick_time(seconds: float) -> Iterator[None]:
    """Raise `TooSlow` in what takes longer."""

    def late(number: int, frame: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TooSlow(BaseException):
    """A case took longer than it may."""
