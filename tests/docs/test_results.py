"""Pages of docs/results show the records, line by line."""

import importlib
import json
import re
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
    "bits": ("study.py bits", "ssah"),
    "peers": ("study.py peers", "ssah"),
    "adversary": ("study.py adversary", "ssah"),
    "adversary_cifar10": ("study.py adversary_cifar10", "ssah"),
    "adversary_both": ("study.py adversary_both", "ssah"),
    "adversary_cifar10_both": ("study.py adversary_cifar10_both", "ssah"),
    "adversary_easing": ("study.py adversary_easing", "ssah"),
    "adversary_cifar10_easing": ("study.py adversary_cifar10_easing", "ssah"),
    "adversary_mosaics": ("study.py adversary_mosaics", "ssah"),
    "lite0_cifar10": ("study.py lite0_cifar10", "ssah"),
    "length_cifar10": ("study.py length_cifar10", "ssah"),
    "digits_parts": ("study.py digits_parts", "ssah"),
    "backbone_speed": ("backbone_speed.py", "backbones"),
    "pretraining": ("study.py pretraining", "backbones"),
    "fine_tuning": ("study.py fine_tuning", "backbones"),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_page_shows_the_record(name, monkeypatch):
    script, page = TABLES[name]
    assert json.loads((RECORDS / f"{name}.json").read_text())["versions"]
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    if script.startswith("study.py"):
        printed = importlib.import_module("study").markdown(name)
    else:
        printed = subprocess.run(
            [sys.executable, ROOT / "benchmarks" / script, "--table"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT / "benchmarks",
        ).stdout
    text = (ROOT / f"docs/results/{page}.md").read_text()
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(lines) > 2
    for line in lines:
        assert line in text


@pytest.mark.slow
def test_the_picture_of_the_mechanism_is_drawn_from_its_records(tmp_path):
    script = ROOT / "benchmarks/mechanism.py"
    command = [sys.executable, script, "--out", tmp_path / "drawn.svg"]
    subprocess.run(command, check=True, cwd=ROOT / "benchmarks")
    found = (tmp_path / "drawn.svg").read_text()
    shown = (ROOT / "docs/results/mechanism.svg").read_text()
    titles = re.compile(r">([A-Z][\w ,]+)</text>")
    assert titles.findall(found) == titles.findall(shown)
    assert "Window positions" in titles.findall(found)
