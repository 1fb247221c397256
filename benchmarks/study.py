"""A grid of configurations x seeds, each cell an ordinary run; tables of what it found.

    python benchmarks/study.py losses --jobs 2     # runs what is missing
    python benchmarks/study.py losses --table      # Markdown, for docs/results
    python benchmarks/study.py losses --finished   # records what there is; runs nothing
    python benchmarks/study.py losses --minus csq  # points from a row, paired by seed

A study names configurations by what follows the colon of `train.py --config`. Cells lie
below --runs, one directory each; finished ones are not run again, interrupted ones go
on. A seed decides split, initial parameters and every draw, so that rows are paired by
seed. Cells run one to a core. When all cells are there, the record is written to
benchmarks/results/STUDY.json. With --finished it keeps cells that it had and whose runs
are not here, if the study still asks for the same of them.
"""

import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import records
from absl import app, flags
from studies import STUDIES, Study
from study_record import OLDER, SETS, Cell, cells_of, markdown, minus, summarise

from ssah_jax import config as config_lib
from ssah_jax.cli.config_option import read_config
from ssah_jax.run.workdir import Workdir

_JOBS = flags.DEFINE_integer("jobs", os.cpu_count() or 1, "Cells at a time.")
_SEEDS = flags.DEFINE_integer("seeds", 0, "Seeds 0, 1, ...; 0 for the study's own.")
_RUNS = flags.DEFINE_string("runs", "runs/study", "Directory of the runs.")
_TABLE = flags.DEFINE_bool("table", False, "Print the record as Markdown; run nothing.")
_MINUS = flags.DEFINE_string("minus", "", "Print differences from this row, likewise.")
_FINISHED = flags.DEFINE_bool("finished", False, "Record finished cells; run nothing.")
_ONLY = flags.DEFINE_list("only", [], "Run these rows alone; no record is written.")

ROOT = Path(__file__).parents[1]


def title(cell: Cell) -> str:
    """The name of a cell's directory."""
    return re.sub(r"[^a-z0-9]+", "_", f"{cell.row}-{cell.column}-{cell.seed}".lower())


def directory_of(name: str, cell: Cell) -> Path:
    """Where a cell's run is."""
    return Path(_RUNS.value) / name / title(cell)


def run_cell(name: str, study: Study, cell: Cell, core: int | None) -> dict:
    """The results of a cell, which is trained unless it is finished."""
    directory = directory_of(name, cell)
    results = directory / "results.json"
    presets = [study.presets, study.rows[cell.row], study.columns[cell.column]]
    spec = ",".join(filter(None, [*presets, f"seed={cell.seed}"]))
    if results.exists():
        check_asked(directory, f"{ROOT / study.config}:{spec}")
    else:
        command = ["train.py", "--config", f"{study.config}:{spec}"]
        command += ["--workdir", str(directory.resolve())]
        directory.parent.mkdir(parents=True, exist_ok=True)
        _run(command, directory.with_name(f"{directory.name}.log"), core)
    found = json.loads(results.read_text())
    maps = {name: found[name] for name in ("map", "ndcg") if name in found}
    if (measured := validation_map(directory)) is not None:
        maps["validation"] = measured
    rest = {"wall_seconds": found["wall_seconds"]}
    rest["devices"] = [found.get("versions", {}).get("device", "cpu")]
    if study.robustness:
        # Beside the run, which is complete.
        other = directory.with_name(f"{directory.name}.robustness.json").resolve()
        if not other.exists():
            if not (directory / "checkpoints").exists():
                # Of another machine, which measured no more than this.
                return maps | rest
            command = ["benchmarks/robustness.py", "--workdir", str(directory)]
            command += ["--out", str(other)]
            _run(command, directory.with_name(f"{directory.name}.robust.log"), core)
        measured = json.loads(other.read_text())
        maps |= {name: measured[name] for name in SETS}
        if chosen := measured.get("validation"):
            maps["validation"] = statistics.mean(chosen.values())
    shown = " ".join(f"{value:.4f}" for value in maps.values())
    print(cell.row, cell.column, cell.seed, shown, flush=True)
    return maps | rest


def check_asked(directory: Path, spec: str) -> None:
    """Check that a finished run is of the configuration that its study asks for.

    Raises:
        SystemExit: it is of another, whose numbers would stand under this one's name.
    """
    found = Workdir(directory).read_config()
    if differing := config_lib.differences(found, read_config(spec)):
        raise SystemExit(f"{directory}: holds another run: {'; '.join(differing)}")


def validation_map(directory: Path) -> float | None:
    """What validation queries say after the last step, where a run asks them."""
    log = directory / "metrics.jsonl"
    if not log.exists():
        return None
    return json.loads(log.read_text().splitlines()[-1]).get("validation/map")


def _run(command: list[str], said: Path, core: int | None) -> None:
    """Run a script of this project on one core; what it says goes to a file."""
    command = [sys.executable, *command]
    if core is not None and shutil.which("taskset"):
        command = ["taskset", "--cpu-list", str(core), *command]
    with said.open("w") as log:
        done = subprocess.run(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        raise RuntimeError(f"{said}: exit status {done.returncode}")


def main(argv: list[str]) -> None:
    """Run what is missing of a study and write its record, or print its table."""
    tables = OLDER if _TABLE.value or _MINUS.value else ()
    if len(argv) != 2 or argv[1] not in {*STUDIES, *tables}:
        raise app.UsageError(f"accepted is one of {', '.join([*STUDIES, *tables])}")
    name = argv[1]
    if _TABLE.value or _MINUS.value:
        print(minus(name, _MINUS.value) if _MINUS.value else markdown(name))
        return
    study = STUDIES[name]
    seeds = range(_SEEDS.value or study.seeds)
    # Whole seeds first: an interrupted study is then a smaller one.
    cells = [
        Cell(row, column, seed)
        for seed, row, column in itertools.product(seeds, study.rows, study.columns)
        if not _ONLY.value or row in _ONLY.value
    ]
    if _FINISHED.value:
        cells = [x for x in cells if (directory_of(name, x) / "results.json").exists()]
    cores: SimpleQueue[int | None] = SimpleQueue()
    for job in range(_JOBS.value):
        cores.put(job if _JOBS.value > 1 else None)

    def work(cell: Cell) -> dict:
        core = cores.get()
        try:
            return run_cell(name, study, cell, core)
        finally:
            cores.put(core)

    with ThreadPoolExecutor(_JOBS.value) as pool:
        found = dict(zip(cells, pool.map(work, cells), strict=True))
    if _FINISHED.value:
        found = cells_of(name, study) | found
    if not _ONLY.value:
        records.write(
            name,
            {
                "config": study.config,
                "presets": study.presets,
                "baseline": study.baseline,
                "seeds": len({cell.seed for cell in found}),
                "jobs": _JOBS.value,
                "cells": summarise(study, found),
            },
        )


if __name__ == "__main__":
    app.run(main)
