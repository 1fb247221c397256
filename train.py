"""Train SSAH: `python train.py --config configs/digits.py [--workdir DIR]`.

Fields are overridden by `--config.FIELD=VALUE`. The same command in the same workdir
resumes a run that was interrupted. With `--check` it only looks at the data.
"""

import sys
from contextlib import ExitStack

from absl import flags

from ssah_jax.cli import flags as cli
from ssah_jax.run import checks, evaluators, train_lib
from ssah_jax.run.experiment import prepare
from ssah_jax.run.workdir import Workdir

cli.define_config_flag()
flags.declare_key_flag("config")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; runs/NAME-DIGEST by default."
)
_CHECK = flags.DEFINE_bool(
    "check",
    False,
    "Only load, split and read all images; print sizes, unreadable images, duplicates.",
)


def main() -> int:
    """Prepare, train, evaluate; returns the exit status."""
    with ExitStack() as stack:
        with cli.setting_up():
            config, default_workdir = cli.config_from_flags()
            if _CHECK.value:
                for line in checks.describe_data(prepare(config)):
                    print(line, flush=True)
                return 0
            workdir = Workdir(_WORKDIR.value or default_workdir)
            workdir.check_free_for(config)
            if train_lib.is_finished(workdir):
                print(f"{workdir.path}: finished, see results.json and report.html")
                return 0
            run = stack.enter_context(train_lib.open_run(prepare(config), workdir))
        start = f" from step {int(run.state.step)}" if int(run.state.step) else ""
        if missing := len(run.experiment.source.missing):
            start += f", without {missing} images that are not there (missing.txt)"
        print(f"{workdir.path}: training{start}", file=sys.stderr)
        try:
            results = train_lib.train(run)
        except train_lib.DivergedError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        if results is None:
            step = int(run.state.step)
            print(
                f"{workdir.path}: stopped at step {step}; the same command resumes",
                file=sys.stderr,
            )
            return cli.INTERRUPTED
    print(evaluators.describe(results, config))
    print(f"{workdir.path}/report.html")
    return 0


if __name__ == "__main__":
    cli.run(main)
