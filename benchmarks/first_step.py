"""Seconds from a command to its first step, with an empty and a filled cache.

    python benchmarks/first_step.py
    python benchmarks/first_step.py --config fashion_mnist --rounds 3

Writes benchmarks/results/first_step.json: of `ssah train` in a fresh process, how much
had gone by when the command's module was imported (`command`), the data were ready
(`data`), the run was open (`state`) and the first step was done (`step`); with nothing
compiled before (`cold`, and no step is taken twice) and with what that left (`warm`,
median of the rounds). `wall` is from the start of the process. `cpu` are seconds of the
processor that the process had, which other programs on the machine hardly change.
`imports` are those of single modules, and of `ssah --help`.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import records

IMPORTS = ("jax", "ssah_jax.losses", "ssah_jax.cli", "ssah_jax.cli.train")


def spent(start: float) -> dict[str, float]:
    """Seconds since `start`, a `time.time()`, and of the processor in this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall": round(time.time() - start, 3),
        "cpu": round(used.ru_utime + used.ru_stime, 3),
    }


def child(start: float, arguments: list[str]) -> None:
    """`ssah train` until its first step is done; prints when each stage was."""
    import importlib

    import jax

    from ssah_jax import cli

    importlib.import_module("ssah_jax.cli.train")
    found = {"command": spent(start)}
    from ssah_jax.run import experiment, parallel, train_lib

    prepare, train, train_step = (
        experiment.prepare,
        train_lib.train,
        parallel.train_step,
    )

    def prepared(*given: Any, **named: Any) -> Any:
        result = prepare(*given, **named)
        found["data"] = spent(start)
        return result

    def started(*given: Any, **named: Any) -> Any:
        found["state"] = spent(start)
        return train(*given, **named)

    def timed(*given: Any, **named: Any) -> Any:
        step = train_step(*given, **named)

        def first(*state_and_batch: Any) -> Any:
            jax.block_until_ready(step(*state_and_batch))
            found["step"] = spent(start)
            print(json.dumps(found), flush=True)
            # What follows is not measured.
            os._exit(0)

        return first

    experiment.prepare = prepared
    train_lib.train = started
    parallel.train_step = timed
    sys.exit(cli.main(["train", *arguments]))


def measured(words: list[str], **environment: str) -> dict[str, Any]:
    """The last line that this script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", repr(time.time()), *words],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def imported(code: str) -> dict[str, float]:
    """Seconds of a process that only runs some code."""
    timed = (
        "import time; start = time.time()\n"
        f"{code}\n"
        "import json, resource\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(json.dumps({'wall': round(time.time() - start, 3), 'cpu': "
        "round(used.ru_utime + used.ru_stime, 3)}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", timed],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure and write the record."""
    if sys.argv[1:2] == ["--child"]:
        child(float(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="digits")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", help="where the JSON goes")
    given = parser.parse_args()
    imports = {name: imported(f"import {name}") for name in IMPORTS}
    imports["ssah --help"] = imported(
        "import contextlib, io\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    from ssah_jax.cli import main; main(['--help'])"
    )
    with tempfile.TemporaryDirectory() as name:
        cache = {
            "JAX_COMPILATION_CACHE_DIR": f"{name}/cache",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
        }
        runs = []
        for index in range(given.rounds + 1):
            words = ["--config", given.config, "--workdir", f"{name}/run{index}"]
            runs.append(measured(words, **cache))
    cold, warm = runs[0], runs[1:]
    record = {
        "config": given.config,
        "rounds": given.rounds,
        "imports": imports,
        "cold": cold,
        "warm": {
            stage: {
                kind: statistics.median(run[stage][kind] for run in warm)
                for kind in ("wall", "cpu")
            }
            for stage in cold
        },
        "load": os.getloadavg()[0],
    }
    records.write("first_step", record, given.output)


if __name__ == "__main__":
    main()
