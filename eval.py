"""Evaluate a run: `python eval.py --workdir DIR [--step last|best|NUMBER]`.

Rebuilds the model from what lies in the workdir and writes results.json there. It
never trains and never writes into checkpoints/.
"""

from absl import flags

from ssah_jax.cli import flags as cli
from ssah_jax.run import evaluators, parallel, train_lib
from ssah_jax.run.experiment import prepare
from ssah_jax.run.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Instead of both: DIR/checkpoints/STEP of a run."
)
_STEP = flags.DEFINE_string(
    "step", "last", "Which checkpoint: last, best (on validation queries), or a number."
)


def main() -> int:
    """Restore, evaluate, write; returns the exit status."""
    with cli.setting_up():
        directory, wanted = cli.run_and_step(
            _WORKDIR.value, _CHECKPOINT.value, _STEP.value
        )
        workdir = Workdir(directory)
        experiment = prepare(workdir.read_config())
        state, last = train_lib.restore_state(experiment, workdir, wanted)
    state = parallel.replicate(state)
    evaluator = evaluators.Evaluator(experiment)
    encoded = evaluator.encode_test(state)
    results = dict(evaluator.results(state, encoded))
    # Only the last step's numbers and pictures are the run's, and say that it is done.
    done = last and int(state.step) == experiment.config.steps
    name = "results.json" if done else f"results_step_{int(state.step)}.json"
    shown = evaluator.draw_gallery(encoded) if done else None
    train_lib.write_results(workdir, results, name=name, shown=shown)
    print(evaluators.describe(results, experiment.config))
    return 0


if __name__ == "__main__":
    cli.run(main)
