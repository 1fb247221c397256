"""`ssah train`, train.py: a run from its configuration to its results."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ssah_jax.cli.arguments import add_config, as_path
from ssah_jax.cli.errors import INTERRUPTED, UserError, setting_up
from ssah_jax.cli.several import add_processes

# As in ssah_jax.cli.encoding.
if TYPE_CHECKING:
    import ssah_jax.run.opening


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah train`."""
    parser.epilog = (
        "The same command in the same workdir resumes a run that was interrupted. On\n"
        "Ctrl-C, SIGTERM, SIGUSR1 and when its terminal closes it saves a checkpoint\n"
        "and stops."
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
        "--data",
        metavar="PATH",
        type=as_path,
        help="where the data lie now, if they were moved since the run began",
    )
    parser.add_argument(
        "--from-run",
        metavar="DIR",
        type=as_path,
        help="begin with all parameters of that run's last checkpoint; a run that "
        "has a checkpoint of its own no longer asks for them",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="only load, split and read all images; print sizes, unreadable images, "
        "duplicates",
    )
    parser.add_argument(
        "--log",
        metavar="WORDS",
        default="",
        help="tell others as well what metrics.jsonl says: tensorboard, wandb, "
        "trackio, or several with commas; each is an extra of the package",
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

    from ssah_jax.cli.config_option import default_workdir, read_config
    from ssah_jax.run import checks, evaluators, opening, processes, train_lib
    from ssah_jax.run.experiment import prepare
    from ssah_jax.run.other_sets import find_data
    from ssah_jax.run.overview import overview
    from ssah_jax.run.results import is_finished
    from ssah_jax.run.tracker_kinds import read_words
    from ssah_jax.run.workdir import Workdir

    with ExitStack() as stack:
        with setting_up():
            log = read_words(options.log)
            config = read_config(options.config, options.fields)
            if options.check:
                found = prepare(config, path=options.data or "")
                for line in checks.describe_data(found):
                    print(line, flush=True)
                return 0
            workdir = Workdir(
                options.workdir or default_workdir(options.config, config)
            )
            workdir.check_free_for(config)
            more = workdir.wants_more_steps(config)
            finished = not more and is_finished(workdir)
            first = processes.is_first()
            if processes.several():
                opening.check_same_run(config, {"a finished run": finished})
            if finished:
                if first:
                    print(f"{workdir.path}: finished, see results.json and report.html")
                return 0
            if options.from_run and config.hnet.weights:
                raise UserError(
                    "--from-run: found it and config.hnet.weights, accepted is one"
                )
            path = find_data(config, workdir, options.data)
            experiment = prepare(config, path=path)
            for line in experiment.understanding.lines() if first else ():
                print(line, file=sys.stderr)
            start = Path(options.from_run).absolute() if options.from_run else None
            opened = stack.enter_context(
                opening.open_run(experiment, workdir, start=start)
            )
        if first:
            print(f"{workdir.path}: training{_begins(opened)}", file=sys.stderr)
            print(*overview(opened, log=log), sep="\n", file=sys.stderr)
        if first and more:
            print(
                f"{workdir.path}: goes on from {more} to {config.steps} steps; the "
                "learning rate and what else follows config.steps goes on as in a run "
                f"of {config.steps} from its beginning",
                file=sys.stderr,
            )
        try:
            results = train_lib.train(opened, log=log)
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


def _begins(run: "ssah_jax.run.opening.Run") -> str:
    """From which step, without which images, in how many processes."""
    import jax

    from ssah_jax.run import processes

    step, missing = int(run.state.step), len(run.experiment.source.missing)
    begins = f" from step {step}" if step else ""
    if missing:
        begins += f", without {missing} images that are not there (missing.txt)"
    if processes.several():
        begins += f" in {jax.process_count()} processes"
    return begins
