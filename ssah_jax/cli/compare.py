"""`ssah compare`: several runs beside each other on one page."""

import argparse
from pathlib import Path

from ssah_jax.cli.arguments import add_overwrite, as_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah compare`."""
    parser.epilog = (
        "The page has the final figures, the fields of the configuration that differ,\n"
        "and all curves. Runs under way may be among them."
    )
    parser.add_argument(
        "runs", metavar="RUN", type=as_path, nargs="+", help="directories of runs"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=as_path, required=True, help="the page to write"
    )
    add_overwrite(parser)


def run(options: argparse.Namespace) -> int:
    """Reads the runs and writes the page.

    Args:
        options: of the arguments above.

    Returns:
        0.

    Raises:
        UserError: a directory is no run, or the page cannot be written.
    """
    from ssah_jax.cli.arguments import check_out
    from ssah_jax.cli.errors import UserError, setting_up
    from ssah_jax.retrieval.files import write_atomically
    from ssah_jax.run.report.compare_page import comparison

    path = Path(options.out)
    with setting_up():
        if len(options.runs) < 2:
            raise UserError("RUN: found one, accepted are two or more")
        check_out(path, overwrite=options.overwrite)
        text = comparison([Path(each) for each in options.runs])
        write_atomically(path, text.encode(errors="backslashreplace"))
    print(path)
    return 0
