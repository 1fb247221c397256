"""Whether two runs of one configuration and seed agree to the last digit on a device.

    python benchmarks/deterministic.py
    python benchmarks/deterministic.py --config configs/digits.py:smoke

Writes benchmarks/results/deterministic.json. Four runs at the same time, each compiled
for itself, as users' runs are: two as they are, and two under the flag that asks XLA
for programs that give the same each time. Of either pair the record says whether all
rows of metrics.jsonl are equal, times left out, from which step on they are not, and
the largest relative difference of the last row.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import records

FLAG = "--xla_gpu_deterministic_ops=true"
TIMES = ("seconds", "images_per_second", "data_wait")

Rows = list[dict[str, float]]


def read_rows(path: Path) -> Rows:
    """Rows of a metrics.jsonl without what a clock measured."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def differences(one: Rows, other: Rows) -> dict[str, Any]:
    """Where two runs differ; both must have measured the same things."""
    fields = [[sorted(row) for row in rows] for rows in (one, other)]
    if not one or fields[0] != fields[1]:
        raise SystemExit("deterministic: the runs have not written the same fields")
    unequal = [a["step"] for a, b in zip(one, other, strict=True) if a != b]
    relative = {
        name: abs(value - other[-1][name]) / max(abs(value), abs(other[-1][name]))
        for name, value in one[-1].items()
        if value != other[-1][name]
    }
    # Something that is no number differs from itself.
    largest = max(
        relative, key=lambda x: (math.isnan(relative[x]), relative[x]), default=None
    )
    return {
        "rows": len(one),
        "last_step": one[-1]["step"],
        "equal": not unequal,
        "first_unequal_step": unequal[0] if unequal else None,
        "largest_relative_difference": relative[largest] if largest else 0.0,
        "largest_in": largest,
    }


def main() -> None:
    """Run, compare, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="configs/digits.py:steps=300")
    parser.add_argument("--output", help="where the JSON goes")
    given = parser.parse_args()
    root = Path(__file__).parents[1]
    before = os.environ.get("XLA_FLAGS", "")
    ways = {"as it is": before, FLAG: f"{before} {FLAG}".strip()}
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        running = {}
        for way, flags in ways.items():
            for number in range(2):
                workdir = Path(folder) / f"{len(running)}"
                command = [sys.executable, str(root / "train.py")]
                command += [f"--config={given.config}", f"--workdir={workdir}"]
                environment = {"XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "0"}
                log = (Path(folder) / f"{len(running)}.log").open("w+")
                running[way, number] = (
                    workdir,
                    log,
                    subprocess.Popen(
                        [*command, "--config.parallel=pmap"],
                        cwd=root,
                        env=os.environ | environment,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    ),
                )
        failed = ""
        for _, log, process in running.values():
            if process.wait():
                log.seek(0)
                failed = log.read()[-2000:]
        if failed:
            raise SystemExit(f"deterministic: {failed}")
        for way in ways:
            workdirs = [running[way, number][0] for number in range(2)]
            one, other = (read_rows(path / "metrics.jsonl") for path in workdirs)
            results = [
                json.loads((path / "results.json").read_text()) for path in workdirs
            ]
            found[way] = differences(one, other) | {"map": [x["map"] for x in results]}
    record = {
        "device": jax.devices()[0].device_kind,
        "config": given.config,
        "ways": found,
    }
    records.write("deterministic", record, given.output)


if __name__ == "__main__":
    main()
