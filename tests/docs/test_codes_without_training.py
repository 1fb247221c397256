"""The table of docs/codes_without_training.md is that of its record."""

import re

from commands import ROOT
from docs_cases import read_record


def test_the_table_is_the_record():
    record = read_record("untrained_codes")
    page = (ROOT / "docs/codes_without_training.md").read_text()
    pattern = r"^\| `?([a-z0-9-]+)`? \| (\d+) \| (\d+) \| (.*) \|$"
    found = re.findall(pattern, page, re.M)
    wanted = []
    for row in record["rows"]:
        recall = row["recall_at_10"]
        cells = [row["map"], row["precision_at_100"], *recall.values()]
        numbers = [f"{value:.3f}" for value in cells]
        numbers += ["-"] * (6 - len(numbers))
        bits = row["bits"] or 32 * record["features"]
        wanted.append((row["kind"], str(bits), str(row["bytes"]), " | ".join(numbers)))
    assert found == wanted
    rows = {row["kind"]: row for row in record["rows"] if row["bits"] == 64}
    text = " ".join(page.split())
    for kind, said in (
        ("itq", "bits learns in {:.1f}"),
        ("unsupervised", "in {:.0f} w"),
    ):
        assert said.format(rows[kind]["fit_seconds"]) in text
    assert f"{record['of_features']['wall_seconds']:.0f} for the features" in text


def test_from_nothing_to_a_page_is_its_record():
    record = read_record("from_nothing")
    page = (ROOT / "docs/codes_without_training.md").read_text()
    rows = re.findall(r"^\| ([a-z ,A-Z]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.M)
    wanted = [
        (row["step"], f"{row['cpu_seconds']:.2f}", f"{row['wall_seconds']:.2f}")
        for row in record["steps"]
    ]
    assert rows == wanted and len(wanted) == 5
    assert record["cores_used"] == 2 and record["side"] == 64
    text = " ".join(page.split())
    seconds = sum(row["wall_seconds"] for row in record["steps"][:4])
    assert f"{seconds:.0f} seconds in all" in text
    for name, what in (
        ("parquet", "The codes take"),
        ("index", "the index"),
        ("features", "the features of the second stage"),
    ):
        assert f"{what} {record['bytes'][name] / 1e6:.1f} MB" in text
