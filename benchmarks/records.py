"""What every benchmark writes: its numbers beside versions and device, as JSON."""

import json
import os
from pathlib import Path
from typing import Any

from ssah_jax import evaluators

RESULTS = Path(__file__).parent / "results"


def write(name: str, record: dict[str, Any], path: str | None = None) -> None:
    """Write `record` to benchmarks/results/NAME.json, or to `path`, and print it."""
    record = record | {"versions": evaluators.versions(), "cores": os.cpu_count()}
    text = json.dumps(record, indent=2) + "\n"
    target = Path(path) if path else RESULTS / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    print(text)
