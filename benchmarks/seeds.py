"""SSAH beside baselines over several seeds: same split, views, steps and EMA.

    python benchmarks/seeds.py --config configs/digits.py --name digits_seeds

Each cell is an ordinary run below --runs; a finished one is not run again. A seed
decides split, initial parameters and every draw, so rows are paired by seed. The
variants differ in these fields alone:

    ssah        as configured
    random      deformations are drawn uniformly from the same family, no A-Net
    supervised  no hard samples, no consistent loss
"""

import dataclasses
import json
import statistics
from pathlib import Path

import records
from absl import app, flags
from ml_collections import config_flags

from ssah_jax import train_lib
from ssah_jax.config import Config, from_config_dict
from ssah_jax.experiment import prepare
from ssah_jax.workdir import Workdir

_CONFIG = config_flags.DEFINE_config_file("config")
_SEEDS = flags.DEFINE_integer("seeds", 5, "Seeds 0, 1, ...")
_RUNS = flags.DEFINE_string("runs", "runs/seeds", "Directory of the runs.")
_NAME = flags.DEFINE_string("name", None, "benchmarks/results/NAME.json", required=True)


def cell(config: Config, directory: Path) -> float:
    """The test mAP of a run, which is trained unless it is finished."""
    workdir = Workdir(directory)
    if not workdir.results.exists():
        with train_lib.open_run(prepare(config), workdir) as run:
            if train_lib.train(run) is None:
                raise KeyboardInterrupt
    return json.loads(workdir.results.read_text())["map"]


def main(_: list[str]) -> None:
    """Run the grid and write the record."""
    base = from_config_dict(_CONFIG.value.to_dict())
    found: dict[str, list[float]] = {}
    for seed in range(_SEEDS.value):
        config = dataclasses.replace(base, seed=seed)
        for name, variant in records.variants(config).items():
            directory = Path(_RUNS.value) / _NAME.value / f"{name}-{seed}"
            found.setdefault(name, []).append(cell(variant, directory))
            print(name, seed, found[name][-1], flush=True)
    records.write(
        _NAME.value,
        {
            "config": config_flags.get_config_filename(flags.FLAGS["config"]),
            "labels_per_class": base.labels_per_class,
            "bits": base.bits,
            "steps": base.steps,
            "map": found,
            "mean": {name: statistics.mean(v) for name, v in found.items()},
            "sd": {name: statistics.stdev(v) for name, v in found.items()},
            "difference_to_ssah": {
                name: {
                    "mean": statistics.mean(pairs),
                    "sd": statistics.stdev(pairs),
                }
                for name, values in found.items()
                if name != "ssah"
                for pairs in [
                    [a - b for a, b in zip(found["ssah"], values, strict=True)]
                ]
            },
        },
    )


if __name__ == "__main__":
    app.run(main)
