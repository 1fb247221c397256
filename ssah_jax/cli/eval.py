"""`ssah eval`, eval.py: a run evaluated again from what lies in its workdir.

It never trains and never writes into checkpoints/.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ssah_jax.cli.arguments import add_overwrite, add_run, as_path
from ssah_jax.cli.errors import UserError, setting_up
from ssah_jax.cli.several import add_processes

# --help should not wait for them.
if TYPE_CHECKING:
    from ssah_jax.config import Config
    from ssah_jax.run.experiment import Experiment
    from ssah_jax.run.model_info import ModelInfo
    from ssah_jax.run.workdir import Workdir
    from ssah_jax.types import TrainState

_TOLERANCE = 1e-3
"""Of mAP between devices, which round differently."""


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
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=as_path,
        help="where the results go of --workdir hf:OWNER/NAME",
    )
    add_overwrite(parser)
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
    from ssah_jax.data.sealed import sealed
    from ssah_jax.retrieval.files import write_atomically
    from ssah_jax.run import evaluators, parallel, processes
    from ssah_jax.run.other_sets import other_sets
    from ssah_jax.run.results import write_results
    from ssah_jax.run.workdir import is_pushed

    with setting_up():
        pushed = is_pushed(options.workdir or "")
        if pushed != (options.out is not None):
            raise UserError(
                "--out: accepted with --workdir hf:OWNER/NAME, which needs it, and "
                "with nothing else: a run's results lie in its workdir"
            )
        if options.data and options.queries and options.database:
            raise UserError(
                "--data: found it with --queries and --database, accepted is it with "
                "at most one of them: the run's own data are not looked at"
            )
        found = _pushed(options) if pushed else _local(options)
        config, experiment, path = found.config, found.own, found.path
        others = bool(options.queries or options.database)
        if others or experiment is None:
            experiment = other_sets(
                config,
                found.info,
                own=found.own,
                queries=options.queries,
                database=options.database,
            )
        if processes.several():
            processes.check_same(
                {
                    "data": experiment.info.data_digest,
                    "weights": processes.digest(found.state),
                }
            )
        for line in experiment.understanding.lines() if processes.is_first() else ():
            print(line, file=sys.stderr)
    state = parallel.replicate(found.state)
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
    if found.workdir is None:
        if not others:
            _compare(found.measured, results)
        write_atomically(
            Path(options.out), json.dumps(sealed(results), indent=2) + "\n"
        )
        print(evaluators.describe(results, config))
        print(options.out)
        return 0
    workdir = found.workdir
    # Only the last step's numbers and pictures are the run's, and say that it is done.
    done = not others and found.last and int(state.step) == config.steps
    name = "results.json" if done else f"results_step_{int(state.step)}.json"
    if others:
        digest = experiment.info.data_digest[:8]
        name = f"results_step_{int(state.step)}_other_{digest}.json"
    shown = evaluator.draw_gallery(encoded) if done else None
    write_results(workdir, results, name=name, shown=shown)
    print(evaluators.describe(results, config))
    if others:
        print(workdir.path / name)
    return 0


class _Found(NamedTuple):
    """What is evaluated.

    Attributes:
        config: of the run.
        info: of the run.
        state: the teacher of one checkpoint, at least.
        own: the run on its own data; None where nothing of them is asked for.
        path: where these lie, if not where the configuration says.
        workdir: None where there is none.
        last: whether it is the last checkpoint.
        measured: figures that came with it.
    """

    config: "Config"
    info: "ModelInfo"
    state: "TrainState"
    own: "Experiment | None"
    path: str = ""
    workdir: "Workdir | None" = None
    last: bool = False
    measured: Mapping[str, Any] = {}


def _local(options: argparse.Namespace) -> _Found:
    """A checkpoint of a workdir."""
    from ssah_jax.run import train_state
    from ssah_jax.run.experiment import prepare
    from ssah_jax.run.other_sets import find_data
    from ssah_jax.run.run_encoder import load_encoder
    from ssah_jax.run.workdir import Workdir

    directory, wanted = run_and_step(options.workdir, options.checkpoint, options.step)
    workdir = Workdir(directory)
    config = workdir.read_config()
    if options.queries and options.database:
        info, state = workdir.read_model_info(), load_encoder(workdir, wanted).state
        return _Found(config, info, state, None, workdir=workdir)
    path = find_data(config, workdir, options.data)
    own = prepare(config, path=path)
    state, last = train_state.restore_state(own, workdir, wanted)
    info = workdir.read_model_info()
    return _Found(config, info, state, own, path, workdir, last)


def _pushed(options: argparse.Namespace) -> _Found:
    """What `ssah push` sent of a run."""
    from ssah_jax.cli.arguments import check_out
    from ssah_jax.run.encoder import Encoder
    from ssah_jax.run.experiment import prepare

    if options.checkpoint is not None:
        run_and_step(options.workdir, options.checkpoint, options.step)
    check_out(Path(options.out), overwrite=options.overwrite)
    encoder = Encoder.from_run(options.workdir, step=options.step)
    config, info = encoder.config, encoder.info
    if options.queries and options.database:
        return _Found(config, info, encoder.state, None)
    path = os.path.abspath(options.data) if options.data else ""
    own = prepare(config, path=path)
    if own.info.data_digest != info.data_digest:
        raise UserError(
            f"{options.workdir}: found images, labels or a split that are not those it "
            "was trained on, accepted are these, at --data PATH; or --queries and "
            "--database"
        )
    return _Found(config, info, encoder.state, own, path, measured=encoder.measured)


def _compare(measured: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Tell the published figure, and warn where ours is another."""
    if "map" not in measured:
        return
    line = f"published: mAP {measured['map']:.6f}"
    if abs(measured["map"] - results["map"]) > _TOLERANCE:
        line = f"warning: {line}, found {results['map']:.6f}"
    print(line, file=sys.stderr)


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
