"""Pages of docs/results show the records, line by line."""

import importlib
import json
import re
import subprocess
import sys

import pytest
from commands import ROOT

RECORDS = ROOT / "benchmarks/results"
EARLIER = "earlier_adversaries"
TABLES = {
    "losses": ("study.py losses", "losses"),
    "loss_presets": ("study.py loss_presets", "losses"),
    "loss_cost": ("loss_cost.py", "losses"),
    "earlier_parts": ("study.py earlier_parts", EARLIER),
    "earlier_bits": ("study.py earlier_bits", EARLIER),
    "earlier_peers": ("study.py earlier_peers", EARLIER),
    "adversary": ("study.py adversary", "ssah"),
    "adversary_cifar10": ("study.py adversary_cifar10", "ssah"),
    "adversary_both": ("study.py adversary_both", EARLIER),
    "adversary_cifar10_both": ("study.py adversary_cifar10_both", EARLIER),
    "adversary_easing": ("study.py adversary_easing", EARLIER),
    "adversary_cifar10_easing": ("study.py adversary_cifar10_easing", EARLIER),
    "adversary_animals": ("study.py adversary_animals", "ssah"),
    "adversary_own_loss": ("study.py adversary_own_loss", EARLIER),
    "adversary_cifar10_own_loss": ("study.py adversary_cifar10_own_loss", EARLIER),
    "learning_rate": ("study.py learning_rate", "ssah"),
    "learning_rate_cifar10": ("study.py learning_rate_cifar10", "ssah"),
    "few_labels": ("study.py few_labels", "ssah"),
    "few_labels_cifar10": ("study.py few_labels_cifar10", "ssah"),
    **{
        name: (f"study.py {name}", EARLIER)
        for name in (
            "few_labels_cosine",
            "few_labels_cifar10_cosine",
            "length_cifar10_own_loss",
            "adversary_mosaics_own_loss",
            "adversary_kept_draw",
            "length_cifar10_kept_draw",
        )
    },
    "peers_tuning": ("study.py peers_tuning", "ssah"),
    "peers": ("study.py peers", "ssah"),
    "adversary_mosaics": ("study.py adversary_mosaics", "ssah"),
    "lite0_cifar10": ("study.py lite0_cifar10", "ssah"),
    "lite0_stages": ("study.py lite0_stages", "ssah"),
    "length_cifar10": ("study.py length_cifar10", "ssah"),
    "earlier_digits_parts": ("study.py earlier_digits_parts", EARLIER),
    "backbone_speed": ("backbone_speed.py", "backbones"),
    "pretraining": ("study.py pretraining", "backbones"),
    "fine_tuning": ("study.py fine_tuning", "backbones"),
    "heads": ("study.py heads", "backbones"),
    "heads_bits": ("study.py heads_bits", "ssah"),
    "heads_labels": ("study.py heads_labels", "ssah"),
    "recognition": ("recognition.py", "ssah"),
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


def test_the_page_shows_what_was_hoped_for_as_the_records_have_it(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    goals = importlib.import_module("goals").goals()
    text = (ROOT / "docs/results/ssah.md").read_text()
    assert len(goals) == 7
    for hoped, measured in goals.items():
        assert f"| {hoped} | {measured} |" in text


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
