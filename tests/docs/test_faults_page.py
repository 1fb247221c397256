"""The page on faults shows the record, line by line."""

import json
import subprocess
import sys

from commands import ROOT


def test_the_page_shows_the_record():
    record = json.loads((ROOT / "benchmarks/results/faults.json").read_text())
    printed = subprocess.run(
        [sys.executable, ROOT / "benchmarks/faults.py", "--table"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.count("\n") == 2 + sum(
        len(part["pieces"]) for part in record.values()
    )
    assert printed in (ROOT / "docs/faults.md").read_text()
