"""Commands that several processes run as one."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ssah_jax.cli.errors import INTERRUPTED, USER_ERROR, setting_up, told


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that `among_processes` takes."""
    group = parser.add_argument_group(
        "several processes",
        "Under Slurm, Open MPI, Kubernetes or on a TPU pod they find each other; else "
        "each is\nstarted with the first three. See docs/scaling.md.",
    )
    group.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="where the others reach process 0, at a free port of its own",
    )
    group.add_argument(
        "--processes",
        metavar="N",
        type=int,
        help="how many there are; 1 looks for no cluster",
    )
    group.add_argument(
        "--process", metavar="I", type=int, help="which of them this is, from 0"
    )
    group.add_argument(
        "--heartbeat",
        metavar="SECONDS",
        type=int,
        default=60,
        help="after which a silent process counts as lost (default: 60)",
    )


@contextmanager
def among_processes(options: argparse.Namespace) -> Iterator[None]:
    """Join the other processes, if there are any; if this one fails, all end.

    Args:
        options: of `add_processes`.

    Raises:
        UserError: the options do not fit together, or the processes find no others.
    """
    from ssah_jax.run import joining, processes

    try:
        with setting_up():
            joining.start_processes(
                options.coordinator,
                options.processes,
                options.process,
                heartbeat=options.heartbeat,
            )
        yield
    except KeyboardInterrupt:
        if not processes.several():
            raise
        print("interrupted", file=sys.stderr)
        processes.leave("interrupted", INTERRUPTED)
    except Exception as error:
        if not processes.several():
            raise
        if line := told(error):
            print(f"error: {line}", file=sys.stderr)
            processes.leave(line, USER_ERROR)
        processes.leave_after(error)
