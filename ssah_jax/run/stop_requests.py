"""Signals as requests to stop, which are read between steps."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT, SIGTERM, SIGUSR1 and SIGHUP into a request, read between steps.

    A second Ctrl-C acts as it would have without this. Schedulers send SIGUSR1 before a
    time limit and SIGTERM at it: one after the other is the same request. SIGHUP says
    that the terminal is gone, to which nothing can be printed; `nohup` ignores it.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}

    def request(number: int, frame: Any) -> None:
        received.append(number)
        if number == signal.SIGINT:
            signal.signal(number, previous[number])
        if number == getattr(signal, "SIGHUP", None):
            for stream in terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)

    terminals = [stream for stream in (1, 2) if os.isatty(stream)]
    names = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
    try:
        for number in (getattr(signal, name, None) for name in names):
            if number and signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, request)
    except ValueError:  # Not in the main thread, where signals do not arrive.
        previous.clear()
    try:
        yield lambda: bool(received)
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
