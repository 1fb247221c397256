"""Pages of docs/results show the records, line by line."""

import json
import subprocess
import sys

import pytest
from commands import ROOT

RECORDS = ROOT / "benchmarks/results"
TABLES = {
    "losses": ("study.py losses", "losses"),
    "loss_presets": ("study.py loss_presets", "losses"),
    "loss_cost": ("loss_cost.py", "losses"),
    "parts": ("study.py parts", "ssah"),
    "backbone_speed": ("backbone_speed.py", "backbones"),
    "pretraining": ("study.py pretraining", "backbones"),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_page_shows_the_record(name):
    script, page = TABLES[name]
    assert json.loads((RECORDS / f"{name}.json").read_text())["versions"]
    program, *arguments = script.split()
    printed = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / program, *arguments, "--table"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT / "benchmarks",
    ).stdout
    text = (ROOT / f"docs/results/{page}.md").read_text()
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(lines) > 3
    for line in lines:
        assert line in text
