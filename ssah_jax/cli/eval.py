"""`ssah eval`, eval.py: a run evaluated again from what lies in its workdir.

It never trains and never writes into checkpoints/.
"""

import argparse
from pathlib import Path

from ssah_jax.cli.arguments import add_run, as_path
from ssah_jax.cli.errors import UserError, setting_up
from ssah_jax.cli.several import add_processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah eval`."""
    parser.epilog = (
        "Rebuilds the model from what lies in the workdir, on any number of devices, "
        "and writes\nresults.json there (results_step_N.json of another step than the "
        "last)."
    )
    add_run(parser, required=False)
    parser.add_argument(
        "--checkpoint",
        metavar="DIR",
        type=as_path,
        help="instead of both: RUN/checkpoints/STEP",
    )
    add_processes(parser)


def run(options: argparse.Namespace) -> int:
    """Restores, evaluates, writes.

    Args:
        options: of the arguments above.

    Returns:
        0.

    Raises:
        UserError: arguments, run or checkpoint do not fit.
        DataError: an image cannot be read.
    """
    from ssah_jax.run import evaluators, parallel, processes, train_lib
    from ssah_jax.run.experiment import prepare
    from ssah_jax.run.workdir import Workdir

    with setting_up():
        directory, wanted = run_and_step(
            options.workdir, options.checkpoint, options.step
        )
        workdir = Workdir(directory)
        experiment = prepare(workdir.read_config())
        state, last = train_lib.restore_state(experiment, workdir, wanted)
    state = parallel.replicate(state)
    evaluator = evaluators.Evaluator(experiment)
    encoded = evaluator.encode_test(state)
    results = dict(evaluator.results(state, encoded))
    if not processes.is_first():
        return 0
    # Only the last step's numbers and pictures are the run's, and say that it is done.
    done = last and int(state.step) == experiment.config.steps
    name = "results.json" if done else f"results_step_{int(state.step)}.json"
    shown = evaluator.draw_gallery(encoded) if done else None
    train_lib.write_results(workdir, results, name=name, shown=shown)
    print(evaluators.describe(results, experiment.config))
    return 0


def run_and_step(
    workdir: str | None, checkpoint: str | None, step: str
) -> tuple[Path, str]:
    """The run that the arguments mean, and which of its checkpoints.

    Raises:
        UserError: neither or both of --workdir and --checkpoint, or one that is
            not `DIR/checkpoints/STEP`.
    """
    if (workdir is None) == (checkpoint is None):
        raise UserError(
            "--workdir, --checkpoint: found "
            + ("neither" if workdir is None else "both")
            + ", accepted is one of them"
        )
    if checkpoint is None:
        return Path(str(workdir)), step
    where = Path(checkpoint).absolute()
    if where.parent.name != "checkpoints" or not where.name.isdecimal():
        raise UserError(
            f"--checkpoint: found {checkpoint!r}, accepted is DIR/checkpoints/STEP"
        )
    return where.parent.parent, where.name
