"""Train SSAH: `python train.py --config configs/digits.py [--workdir DIR]`.

Fields are overridden by `--config.FIELD=VALUE`. The same command in the same workdir
resumes a run that was interrupted.
"""

import sys

from absl import flags

from ssah_jax import cli, evaluators, train_lib
from ssah_jax.experiment import prepare
from ssah_jax.workdir import Workdir

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; runs/NAME-DIGEST by default."
)


def main() -> int:
    """Prepare, train, evaluate; returns the exit status."""
    config, default_workdir = cli.config_from_flags()
    workdir = Workdir(_WORKDIR.value or default_workdir)
    workdir.check_free_for(config)
    if workdir.results.exists():
        print(f"{workdir.path}: finished, see results.json and report.html")
        return 0
    experiment = prepare(config)
    with train_lib.open_run(experiment, workdir) as run:
        start = f" from step {int(run.state.step)}" if int(run.state.step) else ""
        print(f"{workdir.path}: training{start}", file=sys.stderr)
        results = train_lib.train(run)
        if results is None:
            print(
                f"{workdir.path}: stopped at step {int(run.state.step)}; "
                "the same command resumes",
                file=sys.stderr,
            )
            return 130
    print(evaluators.describe(results, config))
    print(f"{workdir.path}/report.html")
    return 0


if __name__ == "__main__":
    cli.run(main)
