"""What benchmarks share: JSON records of their numbers, and variants to compare."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ssah_jax.config import Config, from_config_dict, presets
from ssah_jax.retrieval.files import write_atomically
from ssah_jax.run import evaluators

RESULTS = Path(__file__).parent / "results"


def read(name: str) -> dict[str, Any]:
    """What benchmarks/results/NAME.json has."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def write(
    name: str, record: dict[str, Any], path: str | None = None, *, quiet: bool = False
) -> None:
    """Write `record` to benchmarks/results/NAME.json, or to `path`, and print it.

    All of it or nothing, since a time limit may end a script while it writes.
    """
    record = record | {"versions": evaluators.versions(), "cores": os.cpu_count()}
    text = json.dumps(record, indent=2) + "\n"
    target = Path(path) if path else RESULTS / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, text)
    if not quiet:
        print(text)


def variants(config: Config) -> dict[str, Config]:
    """A configuration and its baselines, which differ in nothing else."""
    found = {"ssah": config}
    for name in ("random", "supervised"):
        values = ConfigDict(dataclasses.asdict(config))
        values.update_from_flattened_dict(presets.VARIANTS[name])
        found[name] = from_config_dict(values)
    return found
