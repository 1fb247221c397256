"""README and docs: commands are CI's, snippets run, numbers are those of records."""

import re

import numpy as np
import pytest
from commands import ROOT
from docs_cases import read_record

from ssah_jax.data.by_name import SOURCES
from ssah_jax.data.protocols import PROTOCOLS

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]


def page(name):
    """The text of a page, and the same without line breaks."""
    text = (ROOT / "docs" / name).read_text()
    return text, " ".join(text.split())


def test_readme_is_read_in_two_minutes():
    assert len(README.split()) < 500
    assert len(re.findall(r"^- ", README, re.MULTILINE)) == 5


@pytest.mark.slow
def test_python_of_the_first_page_runs():
    (snippet,) = re.findall(r"```python\n(.*?)```", page("start.md")[0], re.DOTALL)
    names: dict = {}
    exec(compile(snippet, "docs/start.md", "exec"), names)
    assert np.isfinite(names["value"]) and np.any(names["gradient"])
    assert names["turned"].shape == (28, 28, 1)
    assert 0 < names["score"] <= 1


def test_ci_runs_the_readme_commands():
    ci = (ROOT / ".ci/run").read_text()
    match = re.search(r"pip install (-e '\.\[test\]') && (pytest.*)", README)
    assert match is not None
    install, test = match.groups()
    assert f'pip install --quiet "${{pinned[@]}}" {install}\n' in ci
    assert f"  {test}\n" in ci


def test_both_first_pages_begin_with_the_same_command():
    command = "pip install -e . && python train.py --config configs/digits.py\n"
    assert command in README
    assert command in page("start.md")[0]


def test_numbers_of_readme_are_those_of_the_record():
    found = read_record("adversary")["cells"]
    cells = {cell["row"]: cell for cell in found if cell["column"] == "50"}
    text = " ".join(README.split())
    sets = ("map", "occluded", "rotated")
    shown = [
        " / ".join(f"{cells[row][name][0]:.3f}" for name in sets)
        for row in ("SSAH", "random, whole family", "supervised")
    ]
    assert f"has {shown[0]}, random deformations {shown[1]} and" in text
    assert f"hashing {shown[2]} (one run each" in text


def test_numbers_of_the_results_are_those_of_the_records():
    text, flat = page("results/index.md")
    for name in ("digits", "fashion_mnist_50", "fashion_mnist_10"):
        found = read_record(name)
        mean = found["map"]
        cells = [found["labels_per_class"], found["bits"]]
        cells += [f"{mean[k]:.3f}" for k in ("trained", "itq", "untrained_mean")]
        assert "| " + " | ".join(map(str, cells)) + " |" in text
    for cell in read_record("earlier_digits_parts")["cells"]:
        assert f"{cell['mean']:.3f} ± {cell['sd']:.3f}" in text
    cost = read_record("step_cost")
    assert f"takes {cost['median_seconds_a_step']['full']:.2f} s" in flat
    assert f"{cost['full_over_supervised']:.1f} times a step" in flat
    assert f"costs {cost['full_over_random']:.2f} times" in flat
    speed = read_record("retrieval_speed")
    single, several = speed["single_label"], speed["multi_label"]
    assert f"in {1000 * single['map_ms_per_query']:.0f} microseconds" in flat
    assert f"{single['speedup']:.0f} times as fast as the loop" in flat
    whole = f"{single['evaluate_speedup']:.1f} and {several['evaluate_speedup']:.1f}"
    assert f"All of `evaluate` is {whole} times as fast" in flat
    assert f"{several['speedup']:.0f} times on 193,734 codes" in flat
    assert f"within {several['extra_memory_mb']:.0f} MB" in flat
    assert f"take {speed['million']['seconds']:.1f} s" in flat


def test_numbers_of_the_method_are_those_of_the_records():
    text = page("method.md")[1]
    curves = read_record("mechanism")["curves"]
    late = len(curves["step"]) // 2
    ratios = [
        np.mean(curves[kind][late:]) / np.mean(curves["threshold"][late:])
        for kind in ("occluded", "rotated")
    ]
    assert f"is {ratios[0]:.2f} and {ratios[1]:.2f} of the threshold" in text
    window, angle = (70 * curves["windows"][-1], 90 * curves["angles to"][-1])
    assert (
        f"windows to {window:.0f} % of the side and angles to {angle:.0f} deg" in text
    )


def test_numbers_of_the_input_are_those_of_the_record():
    text = page("data.md")[1]
    found = read_record("input_speed")
    for speed in found["images_per_second"].values():
        assert f"| {speed['workers_1']:.0f} | {speed['workers_2']:.0f} |" in text
    for run in found["training"].values():
        assert f"{100 * run['data_wait']:.1f} % " in text


def test_numbers_of_large_sets_are_those_of_the_record():
    text = (ROOT / "docs/scaling.md").read_text()
    record = read_record("large_sets")
    rows = record["seconds_by_images"]
    assert f"large_sets.py --steps {record['steps']}`" in text
    for size, row in rows.items():
        shown = (
            "list_and_split",
            "list_and_split_cpu",
            "first_batch",
            "warm_step_cpu",
            "cold_step_cpu",
            "peak_megabytes",
        )
        cells = [f"{int(size):,}", *(str(row[name]) for name in shown)]
        assert f"| {' | '.join(cells)} |" in text
        assert f"memory, {row['cold_step_kilobytes_read']:.0f} kB a step" in text
        assert row["warm_step_kilobytes_read"] == row["warm_garbage_collections"] == 0
    few, many = min(rows, key=int), max(rows, key=int)
    grown = rows[many]["peak_megabytes"] - rows[few]["peak_megabytes"]
    each = grown * 2**20 / (int(many) - int(few))
    assert f"some {10 * round(each / 10)} bytes an image" in " ".join(text.split())


def test_the_table_of_protocols_is_complete():
    text = page("data.md")[0]
    protocols = text.split("## Protocols")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", protocols, re.MULTILINE)
    assert {name for row in rows for name in re.findall("`(.*?)`", row)} == {
        *PROTOCOLS,
        "data.protocol",
    }
    sources = text.split("## Data sets")[1].split("##")[0]
    rows = re.findall(r"^\| `(.*?)` \|", sources, re.MULTILINE)
    assert set(rows) == {*SOURCES, "data.source"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (path.parent / target).exists(), target


def test_configs_tell_what_was_measured():
    digits = (ROOT / "configs/digits.py").read_text()
    assert f"map {read_record('digits')['map']['trained']:.3f}." in digits
    fashion = (ROOT / "configs/fashion_mnist.py").read_text()
    cifar = (ROOT / "configs/cifar10.py").read_text()
    for run in read_record("gpu_cifar10").values():
        assert f"{run['map']:.3f}" in cifar
    for labels in (50, 10):
        trained = read_record(f"fashion_mnist_{labels}")["map"]["trained"]
        assert f"{trained:.3f}" in fashion


def test_numbers_of_the_roofline_are_those_of_the_record():
    text = " ".join((ROOT / "docs/scaling.md").read_text().split())
    record = read_record("roofline")
    shown = 0
    for name, part in record["parts"].items():
        by_hand, by_xla = part["gflop_by_hand"], part["gflop_xla"]
        line = f"| {name} | {by_hand:.3g} | {by_xla:.3g} | {part['megabytes_xla']:,.0f}"
        if f"| {name} |" in text:
            assert f"{line} | {1e3 * part['seconds']:.3g} |" in text
            shown += 1
    assert shown == 8
    ratio, said = record["ratio"], record["exchange"]["pmap"]
    assert f"has {ratio['gflop_by_hand']:.2f} times the operations" in text
    assert f"takes {ratio['seconds']:.2f} times as long" in text
    assert f"{said['count']} collectives of {said['bytes'] / 1e6:.2f} MB" in text
    paper = record["predicted"]["pmap"]
    eight = paper["8 GPUs with NVLink"]["efficiency"]
    many = paper["32 hosts of 8"]["efficiency"]
    assert f"efficiency of {eight:.2f} on 8 GPUs and {many:.2f} on 32 hosts" in text


def test_numbers_of_the_gpu_are_those_of_the_records():
    text = (ROOT / "docs/results/gpu.md").read_text()
    rows = {
        "SSAH": "ssah",
        "random, whole family": "random",
        "supervised": "supervised",
    }
    trained = read_record("gpu_cifar10")
    for row, name in rows.items():
        run = trained[name]
        low, high = run["map_interval"]
        cells = [f"{run['map']:.3f}", f"{low:.3f} to {high:.3f}"]
        cells += [f"{value:.3f}" for _, value in run["validation"]]
        cells.append(f"{run['wall_seconds']:.0f}")
        assert f"| {row} | {' | '.join(cells)} |" in text
    record = read_record("gpu_roofline")
    shown = 0
    for name, part in record["parts"].items():
        by_hand, took = part["gflop_by_hand"], part["seconds"]
        if f"| {name} |" in text:
            rate = by_hand / took / 1e3
            line = f"| {name} | {by_hand:.3g} | {1e3 * took:.3g} | {rate:.3g} |"
            assert f"{line} {100 * rate / record['peak_tflops'][0]:.1f} % |" in text
            shown += 1
    assert shown == 8
    ratio = record["ratio"]
    assert f"has {ratio['gflop_by_hand']:.2f} times the operations" in text
    assert f"takes {ratio['seconds']:.2f} times as long" in text
    assert f"took {1e3 * record['data_seconds']:.0f} ms" in text
    speed = read_record("gpu_retrieval_speed")
    for part in ("single_label", "multi_label"):
        row = speed[part]
        loop, ours = row["argsort_loop_ms_per_query"], row["map_ms_per_query"]
        assert f"| {loop:.3g} | {ours} | {row['speedup']:.0f} |" in text
    digits = [f"{run['map']:.3f}" for run in read_record("gpu_digits").values()]
    assert f"{digits[0]}, {digits[1]} (both `pmap`) and {digits[2]}" in text


def test_seconds_to_the_first_step_are_those_of_the_record():
    text = " ".join((ROOT / "docs/scaling.md").read_text().split())
    record = read_record("first_step")
    cold, warm = record["cold"]["step"]["cpu"], record["warm"]["step"]["cpu"]
    imports = record["warm"]["command"]["cpu"]
    assert f"takes {cold:.0f} seconds of the processor, later ones {warm:.1f}" in text
    assert f"({imports:.1f} are imports" in text
