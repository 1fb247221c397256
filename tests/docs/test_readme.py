"""README's snippets run, and its commands are the ones that CI runs."""

import json
import re

import numpy as np
from commands import ROOT

from ssah_jax.data.by_name import SOURCES
from ssah_jax.data.protocols import PROTOCOLS

README = (ROOT / "README.md").read_text()


def test_python_snippets_run():
    snippets = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(snippets) == 1
    names: dict = {}
    exec(compile(snippets[0], "README.md", "exec"), names)
    assert np.isfinite(names["value"]) and np.any(names["gradient"])
    assert names["turned"].shape == (28, 28, 1)
    assert 0 < names["score"] <= 1


def test_ci_runs_the_readme_commands():
    ci = (ROOT / ".ci/run").read_text()
    match = re.search(r"pip install (-e '\.\[test\]') && (pytest.*)", README)
    assert match is not None
    install, test = match.groups()
    assert f"pip install --quiet {install}\n" in ci
    assert f"  {test}\n" in ci


def test_numbers_are_those_of_the_records():
    def record(name):
        return json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text())

    for name in ("digits", "fashion_mnist_50", "fashion_mnist_10"):
        found = record(name)
        mean = found["map"]
        cells = [found["labels_per_class"], found["bits"]]
        cells += [f"{mean[k]:.3f}" for k in ("trained", "itq", "untrained_mean")]
        assert "| " + " | ".join(map(str, cells)) + " |" in README
    for cell in record("digits_parts")["cells"]:
        assert f"{cell['mean']:.3f} ± {cell['sd']:.3f}" in README
    cells = record("parts")["cells"]
    for row in {cell["row"] for cell in cells}:
        found = {c["column"]: c for c in cells if c["row"] == row}
        values = [found[column]["mean"] for column in ("10", "50", "500")]
        values += [np.mean(found["50"][name]) for name in ("occluded", "rotated")]
        assert f"| {row} | " + " | ".join(f"{v:.3f}" for v in values) in README
    beside = {cell["row"]: cell for cell in record("adversary")["cells"]}
    rows = ("supervised", "random, whole family", "SSAH")
    for row in (*rows, "random, 30 degrees, windows to 0.5"):
        first = [beside[row][name][0] for name in ("map", "occluded", "rotated")]
        assert f"| {row} | " + " | ".join(f"{v:.3f}" for v in first) + " |" in README
    cost = record("step_cost")
    flat = " ".join(README.split())
    assert f"takes {cost['median_seconds_a_step']['full']:.2f} s" in flat
    assert f"{cost['full_over_supervised']:.1f} times a step" in flat
    assert f"costs {cost['full_over_random']:.2f} times" in flat
    speed = record("retrieval_speed")
    single, several = speed["single_label"], speed["multi_label"]
    assert f"in {1000 * single['map_ms_per_query']:.0f} microseconds" in flat
    assert f"{single['speedup']:.0f} times as fast as the loop" in flat
    assert f"{several['speedup']:.0f} times on 193,734 codes" in flat
    assert f"within {several['extra_memory_mb']:.0f} MB" in flat
    assert f"take {speed['million']['seconds']:.1f} s" in flat


def test_numbers_of_the_method_are_those_of_the_records():
    text = " ".join((ROOT / "docs/method.md").read_text().split())

    def record(name):
        return json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text())

    curves = record("mechanism")["curves"]
    late = len(curves["step"]) // 2
    ratios = [
        h / t
        for h, t in zip(
            curves["hardness"][late:], curves["threshold"][late:], strict=True
        )
    ]
    assert f"a ratio of {np.mean(ratios):.2f} over the second half" in text
    assert f"multiplier ends at {curves['multiplier'][-1]:.0f}" in text


def test_numbers_of_the_input_are_those_of_the_record():
    text = " ".join((ROOT / "docs/data.md").read_text().split())
    record = json.loads((ROOT / "benchmarks/results/input_speed.json").read_text())
    for speed in record["images_per_second"].values():
        assert f"| {speed['workers_1']:.0f} | {speed['workers_2']:.0f} |" in text
    for run in record["training"].values():
        assert f"{100 * run['data_wait']:.1f} % " in text


def test_the_table_of_protocols_is_complete():
    text = (ROOT / "docs/data.md").read_text()
    protocols = text.split("## Protocols")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", protocols, re.MULTILINE)
    assert {name for row in rows for name in re.findall("`(.*?)`", row)} == {
        *PROTOCOLS,
        "data.protocol",
    }
    sources = text.split("## Data sets")[1].split("##")[0]
    rows = re.findall(r"^\| `(.*?)` \|", sources, re.MULTILINE)
    assert set(rows) == {*SOURCES, "data.source"}


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_configs_tell_what_was_measured():
    def record(name):
        return json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text())

    digits = (ROOT / "configs/digits.py").read_text()
    ssah = next(c for c in record("digits_parts")["cells"] if c["row"] == "SSAH")
    low, high = min(ssah["map"]), max(ssah["map"])
    assert f"map {ssah['mean']:.3f} ({low:.3f} to {high:.3f})" in digits
    fashion = (ROOT / "configs/fashion_mnist.py").read_text()
    for labels in (50, 10):
        assert f"{record(f'fashion_mnist_{labels}')['map']['trained']:.3f}" in fashion
