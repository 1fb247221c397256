"""The page on faults shows the record, line by line."""

import subprocess
import sys

from commands import ROOT
from docs_cases import read_record


def test_the_page_shows_the_record():
    record = read_record("faults")
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


def test_the_page_of_planted_faults_has_a_row_for_each_of_its_record():
    record = read_record("planted_faults")
    lines = (ROOT / "docs/planted_faults.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ")][2:]
    assert len(rows) == len(record["faults"])
    for row, fault in zip(rows, record["faults"], strict=True):
        for tree in ("before", "after"):
            if fault[tree] and fault[tree]["caught_by"]:
                assert fault[tree]["caught_by"].removeprefix("tests/") in row
