"""`ssah eval`, eval.py: a run evaluated again from what lies in its workdir.

It never trains and never writes into checkpoints/.
"""

import argparse
import sys
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
    for name, what in (
        ("--data", "where the run's data lie now, if they were moved"),
        ("--queries", "other queries: a folder, a table or a folder of lists"),
        ("--database", "another database, likewise"),
    ):
        parser.add_argument(name, metavar="PATH", type=as_path, help=what)
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
    from ssah_jax.data import find_leaks
    from ssah_jax.run import evaluators, parallel, processes, train_lib
    from ssah_jax.run.experiment import prepare
    from ssah_jax.run.other_sets import find_data, other_sets
    from ssah_jax.run.run_encoder import load_encoder
    from ssah_jax.run.workdir import Workdir

    with setting_up():
        directory, wanted = run_and_step(
            options.workdir, options.checkpoint, options.step
        )
        workdir = Workdir(directory)
        config = workdir.read_config()
        others = bool(options.queries or options.database)
        own, path = None, ""
        if not (options.queries and options.database):
            path = find_data(config, workdir, options.data)
            own = prepare(config, path=path)
            state, last = train_lib.restore_state(own, workdir, wanted)
        elif options.data:
            raise UserError(
                "--data: found it with --queries and --database, accepted is it with "
                "at most one of them: the run's own data are not looked at"
            )
        else:
            state, last = load_encoder(workdir, wanted).state, False
        experiment = own
        if others or experiment is None:
            experiment = other_sets(
                config,
                workdir.read_model_info(),
                own=own,
                queries=options.queries,
                database=options.database,
            )
        for line in experiment.understanding.lines():
            print(line, file=sys.stderr)
    state = parallel.replicate(state)
    evaluator = evaluators.Evaluator(experiment)
    encoded = evaluator.encode_test(state)
    results = dict(evaluator.results(state, encoded))
    if not processes.is_first():
        return 0
    results |= _changed(options, path)
    if others:
        copies = find_leaks(experiment.source, experiment.split)["query_in_database"]
        results["num_query_copies"] = copies
        if copies:
            print(
                f"warning: {copies} queries have a copy in the database, which they "
                "find",
                file=sys.stderr,
            )
    # Only the last step's numbers and pictures are the run's, and say that it is done.
    done = not others and last and int(state.step) == experiment.config.steps
    name = "results.json" if done else f"results_step_{int(state.step)}.json"
    if others:
        digest = experiment.info.data_digest[:8]
        name = f"results_step_{int(state.step)}_other_{digest}.json"
    shown = evaluator.draw_gallery(encoded) if done else None
    train_lib.write_results(workdir, results, name=name, shown=shown)
    print(evaluators.describe(results, experiment.config))
    if others:
        print(workdir.path / name)
    return 0


def _changed(options: argparse.Namespace, path: str) -> dict[str, dict[str, str]]:
    """What is not as the run's configuration says, for the results."""
    given = {"queries": options.queries, "database": options.database}
    found = {k: str(Path(p).absolute()) for k, p in given.items() if p}
    if path:
        found["data.path"] = path
    return {"changed": found} if found else {}


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
