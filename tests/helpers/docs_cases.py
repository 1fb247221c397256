"""Records of benchmarks/, which pages quote."""

import json
from typing import Any

from commands import ROOT


def read_record(name: str) -> dict[str, Any]:
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
