"""A grid of configurations x seeds, each cell an ordinary run; tables of what it found.

    python benchmarks/study.py losses --jobs 2     # runs what is missing
    python benchmarks/study.py losses --table      # Markdown, for docs/results
    python benchmarks/study.py losses --finished   # records what there is; runs nothing

A study names configurations by what follows the colon of `train.py --config`. Cells lie
below --runs, one directory each; finished ones are not run again, interrupted ones go
on. A seed decides split, initial parameters and every draw, so that rows are paired by
seed. Cells run one to a core. When all cells are there, the record is written to
benchmarks/results/STUDY.json.
"""

import dataclasses
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
from scipy import stats
from studies import STUDIES, Study

_JOBS = flags.DEFINE_integer("jobs", os.cpu_count() or 1, "Cells at a time.")
_SEEDS = flags.DEFINE_integer("seeds", 0, "Seeds 0, 1, ...; 0 for the study's own.")
_RUNS = flags.DEFINE_string("runs", "runs/study", "Directory of the runs.")
_TABLE = flags.DEFINE_bool("table", False, "Print the record as Markdown; run nothing.")
_FINISHED = flags.DEFINE_bool("finished", False, "Record finished cells; run nothing.")
_ONLY = flags.DEFINE_list("only", [], "Run these rows alone; no record is written.")

SETS = ("occluded", "rotated")
"""Of queries, beside the clean ones; see `robustness.py`."""

BESIDE = ("ndcg", *SETS, "validation")
"""Beside `map`, where a run has them."""

ROOT = Path(__file__).parents[1]


OLDER = (
    "earlier_parts",
    "earlier_bits",
    "earlier_peers",
    "earlier_digits_parts",
    "adversary_both",
    "adversary_cifar10_both",
    "adversary_easing",
    "adversary_cifar10_easing",
    "few_labels_cosine",
    "few_labels_cifar10_cosine",
    "adversary_own_loss",
    "adversary_cifar10_own_loss",
    "adversary_mosaics_own_loss",
    "length_cifar10_own_loss",
    "adversary_kept_draw",
    "length_cifar10_kept_draw",
)
"""Records of what the library no longer does: ranges by hand with entropies held, hard
samples occluded *and* turned, A-Net holding the mean hardness by a multiplier, a
consistent loss that asked for cosines, beside this project's own hash loss, and a pace
that followed the hardest of several draws."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study."""

    row: str
    column: str
    seed: int


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
    if not results.exists():
        presets = [study.presets, study.rows[cell.row], study.columns[cell.column]]
        spec = ",".join(filter(None, [*presets, f"seed={cell.seed}"]))
        command = ["train.py", "--config", f"{study.config}:{spec}"]
        command += ["--workdir", str(directory.resolve())]
        directory.parent.mkdir(parents=True, exist_ok=True)
        _run(command, directory.with_name(f"{directory.name}.log"), core)
    found = json.loads(results.read_text())
    maps = {name: found[name] for name in ("map", "ndcg") if name in found}
    if (measured := validation_map(directory)) is not None:
        maps["validation"] = measured
    rest = {"wall_seconds": found["wall_seconds"]}
    rest["device"] = found.get("versions", {}).get("device", "cpu")
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


def interval(differences: list[float]) -> float:
    """Half the 95 % confidence interval of a mean difference (Student's t)."""
    quantile = stats.t.ppf(0.975, len(differences) - 1)
    return quantile * statistics.stdev(differences) / len(differences) ** 0.5


def summarise(study: Study, found: dict[Cell, dict]) -> list[dict]:
    """Mean, sd and paired difference to the baseline, for each row and column.

    Each over the seeds that there are; differences over those of both.
    """
    table = []
    for row, column in itertools.product(study.rows, study.columns):
        here = {
            x.seed: y for x, y in found.items() if (x.row, x.column) == (row, column)
        }
        if not here:
            continue
        base = {
            x.seed: y["map"]
            for x, y in found.items()
            if (x.row, x.column) == (study.baseline, column)
        }
        values = [cell["map"] for cell in here.values()]
        differences = [here[seed]["map"] - base[seed] for seed in here if seed in base]
        sets = {
            name: [cell.get(name) for cell in here.values()]
            for name in BESIDE
            if any(name in cell for cell in here.values())
        }
        table.append(
            {
                "row": row,
                "column": column,
                "presets": study.rows[row],
                "seeds": sorted(here),
                "map": values,
                "mean": statistics.mean(values),
                "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
                "difference": statistics.mean(differences) if differences else None,
                "difference_ci95": interval(differences)
                if len(differences) > 1
                else None,
                **sets,
                "devices": sorted({cell["device"] for cell in here.values()}),
                "wall_seconds": statistics.mean(
                    cell["wall_seconds"] for cell in here.values()
                ),
            }
        )
    return table


def spread(values: list[float | None]) -> str:
    """Mean and standard deviation of what was measured; of one value that alone."""
    values = [value for value in values if value is not None]
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def markdown(name: str) -> str:
    """The record's table."""
    record = json.loads((records.RESULTS / f"{name}.json").read_text())
    sets = [name for name in BESIDE if name in record["cells"][0]]
    heads = [
        "",
        STUDIES.get(re.sub("_(own_loss|kept_draw)$", "", name), Study).heading,
        "`map`",
        f"minus {record['baseline']} (95 % CI)",
        *sets,
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads))]
    for line in record["cells"]:
        same = line["row"] == record["baseline"]
        difference = "" if line["difference"] is None else f"{line['difference']:+.3f}"
        if line["difference_ci95"] is not None:
            difference += f" ± {line['difference_ci95']:.3f}"
        cells = [line["row"], line["column"], spread(line["map"])]
        cells += ["" if same else difference]
        cells += [spread(line[name]) if name in line else "" for name in sets]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Run what is missing of a study and write its record, or print its table."""
    tables = OLDER if _TABLE.value else ()
    if len(argv) != 2 or argv[1] not in {*STUDIES, *tables}:
        raise app.UsageError(f"accepted is one of {', '.join([*STUDIES, *tables])}")
    name = argv[1]
    if _TABLE.value:
        print(markdown(name))
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
    if not _ONLY.value:
        records.write(
            name,
            {
                "config": study.config,
                "presets": study.presets,
                "baseline": study.baseline,
                "seeds": len({cell.seed for cell in cells}),
                "jobs": _JOBS.value,
                "cells": summarise(study, found),
            },
        )


if __name__ == "__main__":
    app.run(main)
