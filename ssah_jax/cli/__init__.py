"""The console script `ssah`: one subcommand a module, imported when it is asked for."""

import argparse
import importlib
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

SUBCOMMANDS = {
    "prepare": "download a data set and make it ready for training",
    "features": "compute features by a frozen backbone, once, to train on",
    "encode": "hash images into binary codes, by a trained run",
    "index": "make codes searchable",
    "search": "find the indexed images nearest to a query image",
    "weights": "download weights that others trained, and verify them",
}
"""Name and purpose of each; module `ssah_jax.cli.NAME` has `add_arguments(parser)`
and `run(options) -> int`."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as that of shells."""

_INSISTENCE = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand.

    Args:
        argv: arguments without the program's name; None takes those of the process.

    Returns:
        The exit status: 0 for success, 1 for a check that found something,
        `ssah_jax.cli.flags.USER_ERROR` for a mistake of the user's, told in one line on
        standard error, and `INTERRUPTED` for Ctrl-C.
    """
    try:
        with _insistent_interrupts():
            return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        # Not at the top: configuration and data would be loaded for --help.
        from ssah_jax.cli.flags import USER_ERROR, UserError
        from ssah_jax.data.source import DataError

        if not isinstance(error, UserError | DataError | _UsageError):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_ERROR


@contextmanager
def _insistent_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt again, two seconds after Ctrl-C, until it is heard.

    Python drops one that is raised in a callback of the garbage collector, and JAX has
    such a callback.
    """

    def interrupt(number: int, frame: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, _INSISTENCE)
        raise KeyboardInterrupt

    try:
        before = [
            (number, signal.signal(number, interrupt))
            for number in (signal.SIGINT, signal.SIGALRM)
        ]
    except ValueError:  # Not in the main thread, where signals do not arrive.
        before = []
    try:
        yield
    finally:
        if before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before:
            signal.signal(number, handler)


class _UsageError(Exception):
    """A mistake in the arguments."""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message}; see {self.prog} --help")


def _run(arguments: list[str]) -> int:
    parser = _Parser(
        prog="ssah", description="Semi-supervised hashing for image retrieval."
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    module = None
    for name, purpose in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, help=purpose, description=purpose)
        if arguments[:1] == [name]:
            module = importlib.import_module(f"ssah_jax.cli.{name}")
            module.add_arguments(subparser)
    try:
        options = parser.parse_args(arguments)
    except SystemExit:  # --help
        return 0
    assert module is not None  # the parser takes no other command
    return int(module.run(options))
