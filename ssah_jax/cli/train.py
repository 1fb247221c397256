"""`ssah train`, train.py: a run from its configuration to its results."""

import argparse
import sys
from contextlib import ExitStack

from ssah_jax.cli.arguments import add_config, as_path
from ssah_jax.cli.errors import INTERRUPTED, setting_up
from ssah_jax.cli.several import add_processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah train`."""
    parser.epilog = (
        "The same command in the same workdir resumes a run that was interrupted. On\n"
        "Ctrl-C, SIGTERM and SIGUSR1 it saves a checkpoint and stops."
    )
    add_config(parser)
    parser.add_argument(
        "--workdir",
        metavar="DIR",
        type=as_path,
        help="directory of the run (default: runs/NAME-DIGEST, the digest being that "
        "of the configuration)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="only load, split and read all images; print sizes, unreadable images, "
        "duplicates",
    )
    add_processes(parser)


def run(options: argparse.Namespace) -> int:
    """Prepares, trains, evaluates.

    Args:
        options: of the arguments above.

    Returns:
        0; 1 if training diverged; `INTERRUPTED` if a signal stopped it.

    Raises:
        UserError: arguments, configuration, images or workdir do not fit.
        DataError: an image cannot be read.
    """
    import jax

    from ssah_jax.cli.config_option import default_workdir, read_config
    from ssah_jax.run import checks, evaluators, processes, train_lib
    from ssah_jax.run.experiment import prepare
    from ssah_jax.run.workdir import Workdir

    with ExitStack() as stack:
        with setting_up():
            config = read_config(options.config, options.fields)
            if options.check:
                for line in checks.describe_data(prepare(config)):
                    print(line, flush=True)
                return 0
            workdir = Workdir(
                options.workdir or default_workdir(options.config, config)
            )
            workdir.check_free_for(config)
            if train_lib.is_finished(workdir):
                print(f"{workdir.path}: finished, see results.json and report.html")
                return 0
            opened = stack.enter_context(train_lib.open_run(prepare(config), workdir))
        start = f" from step {int(opened.state.step)}" if int(opened.state.step) else ""
        if missing := len(opened.experiment.source.missing):
            start += f", without {missing} images that are not there (missing.txt)"
        if processes.several():
            start += f" in {jax.process_count()} processes"
        first = processes.is_first()
        if first:
            print(f"{workdir.path}: training{start}", file=sys.stderr)
        try:
            results = train_lib.train(opened)
        except train_lib.DivergedError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        if results is None:
            step = int(opened.state.step)
            if first:
                print(
                    f"{workdir.path}: stopped at step {step}; the same command resumes",
                    file=sys.stderr,
                )
            return INTERRUPTED
    if first:
        print(evaluators.describe(results, config))
        print(f"{workdir.path}/report.html")
    return 0
