"""One page for people about a run: `report.html`, complete in itself.

Reads only what lies in the workdir, so it can be written again at any time, of a
finished run or of one under way. The page loads nothing, follows the reader's light
or dark theme (the plots too: their text takes the colour of the page's), and fits a
phone.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssah_jax.data.sealed import SEAL
from ssah_jax.retrieval.files import one_line, write_atomically
from ssah_jax.run.report.gallery import GROUPS
from ssah_jax.run.report.looks import read_looks, sections
from ssah_jax.run.report.page import render
from ssah_jax.run.report.pictures import reduce_picture
from ssah_jax.run.report.plots import (
    code_plots,
    is_number,
    retrieval_plots,
    training_plots,
)

MEASURED = {
    "not_measured": "Not measured",
    "map": "mAP, expected over ties",
    "map_interval": "its 95 % interval over queries",
    "map_answerable": "mAP without queries that nothing answers",
    "map_stable": "mAP, stable order",
    "map_optimistic": "mAP, best order of ties",
    "map_pessimistic": "mAP, worst order of ties",
    "ndcg": "nDCG",
    "precision_radius2": "Precision within Hamming radius 2",
    "precision_at": "Precision at",
    "top_k": "Ranks counted by mAP",
}
"""What the table of measurements says, by key of `results.json`."""

RUN = {
    "protocol": "Protocol",
    "source": "Images",
    "bits": "Bits",
    "num_query": "Queries",
    "num_database": "Database images",
    "num_labelled": "Labelled images",
    "labels_per_class": "Labels a class (0: all)",
    "num_unanswerable": "Queries that share no class with the database (count 0)",
    "num_leaks": "Queries taken out of database and training",
    "num_missing": "Images listed and not on disk",
    "num_skipped": "Images that could not be read",
    "seed": "Seed",
    "steps": "Steps",
    "wall_seconds": "Seconds of training",
    "split_digest": "Digest of the split",
    "versions": "Versions",
}
"""What the table of the run says; other keys follow under their own names."""

# Drawn, or shown in a table of their own.
_ELSEWHERE = {"pr_curve", "map_per_class", "code_statistics", SEAL}

# With more classes than twice as many, only so many of the best and of the worst.
_CLASSES = 20

# Of all strips the page shows some, and heavy ones smaller; the files stay whole.
_MOST_STRIPS = 6
_STRIP_BYTES = 1 << 16
_STRIP_WIDTH = 900

Row = tuple[str, list[str]]
"""Of a table: a name, and one line or several."""


def write_report(workdir: str | os.PathLike[str]) -> Path:
    """Writes `report.html` into a workdir, whole or not at all.

    Args:
        workdir: the directory of a run. Read are `config.json`, `model.json`,
            `data.json`, `metrics.jsonl`, `results.json`, `strips/step_*.png`,
            `gallery/gallery.json` with its pictures, and what `ssah show` left in
            `looks/`; whatever is missing is left out.

    Returns:
        The path of the page.

    Raises:
        ValueError: one of the files is not a JSON object.
    """
    workdir = Path(workdir)
    config = read_object(workdir / "config.json")
    results = read_object(workdir / "results.json")
    class_names = read_object(workdir / "model.json").get("class_names", [])
    rows = read_rows(workdir / "metrics.jsonl")
    statistics = results.get("code_statistics", {})
    others = results.keys() - MEASURED.keys() - RUN.keys() - _ELSEWHERE
    text = render(
        "run.html",
        title=_title({**config, **results}),
        measured=_table(results, MEASURED),
        run=_table(results, RUN | {key: key for key in results if key in others}),
        data=read_object(workdir / "data.json").get("said", []),
        training=training_plots(rows),
        retrieval=retrieval_plots(results),
        codes=_code_table(statistics) if statistics else [],
        balance=code_plots(statistics),
        gallery=_gallery(workdir / "gallery"),
        **_looks(workdir / "looks", config, results),
        config=json.dumps(config, indent=2, ensure_ascii=False) if config else "",
        **_classes(results.get("map_per_class", {}), class_names),
        **_strips(workdir / "strips"),
    )
    path = workdir / "report.html"
    # Names of files need not be UTF-8; the page is.
    write_atomically(path, text.encode(errors="backslashreplace"))
    return path


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is missing."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: found {type(found).__name__}, accepted is an object")
    return found


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The logged objects by step; lines that a killed run left unfinished are not."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and is_number(row.get("step")):
            rows.append(row)
    return sorted(rows, key=lambda row: row["step"])


def _title(known: Mapping[str, Any]) -> str:
    words = {"protocol": "{}", "bits": "{} bits", "seed": "seed {}"}
    about = [form.format(known[key]) for key, form in words.items() if key in known]
    return " · ".join(["SSAH", *about])


def _table(results: Mapping[str, Any], names: Mapping[str, str]) -> list[Row]:
    """The results that have a name, in the order of the names."""
    rows = []
    for key, title in names.items():
        if key not in results:
            continue
        value = results[key]
        # A line for each entry: easier to read than a row of pairs.
        lines = (
            [f"{name}: {shown(name, entry)}" for name, entry in value.items()]
            if isinstance(value, Mapping)
            else [shown(key, value)]
        )
        rows.append((title, lines))
    return rows


def shown(key: str, value: Any) -> str:
    """A value as text."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {shown(name, v)}" for name, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(key, v) for v in value)
    if isinstance(value, float):
        return f"{value:,.1f}" if key.endswith("seconds") else f"{value:.4f}"
    if isinstance(value, int) and not isinstance(value, bool) and key != "seed":
        return f"{value:,}"
    if value is None:
        return "all" if key == "top_k" else "none"
    return str(value)


def _classes(
    per_class: Mapping[str, Mapping[str, Any]], class_names: Sequence[str]
) -> dict[str, Any]:
    """The mAP of each class and its bounds, best first: all, or those at either end.

    Args:
        per_class: by a class's number, `map`, `optimistic` and `pessimistic` in
            [0, 1], None for a class without queries, and `num_query`.
        class_names: of all classes; a number without a name is shown as such.
    """

    def row(number: str, found: Mapping[str, Any]) -> dict[str, Any]:
        known = int(number) < len(class_names)
        return {
            "name": one_line(class_names[int(number)]) if known else f"Class {number}",
            "value": found["map"],
            "low": found.get("pessimistic", found["map"]),
            "high": found.get("optimistic", found["map"]),
            "queries": shown("num_query", found.get("num_query")),
        }

    asked = [item for item in per_class.items() if item[1]["map"] is not None]
    asked.sort(key=lambda item: (-item[1]["map"], int(item[0])))
    rows = [row(*item) for item in asked]
    many = len(rows) > 2 * _CLASSES
    return {
        "num_classes": len(rows),
        "silent_classes": len(per_class) - len(rows),
        "best_classes": rows[:_CLASSES] if many else rows,
        "worst_classes": rows[-_CLASSES:] if many else [],
    }


def _code_table(statistics: Mapping[str, Any]) -> list[Row]:
    """What `ssah_jax.retrieval.statistics` says of the database's codes."""
    balance = statistics["balance"]
    constant = statistics["constant_bits"]
    pair = statistics["most_correlated"]
    between = f", bits {pair[0]} and {pair[1]} counted from 0" if pair else ""
    worst = max(range(len(balance)), key=lambda bit: abs(balance[bit] - 0.5))
    rows = {
        "Different codes": f"{statistics['num_distinct']:,} of "
        f"{statistics['num_codes']:,} database images",
        "Images with the most frequent code": f"{statistics['largest_share']:.1%}",
        "Mean entropy of a bit (at most 1)": f"{statistics['entropy']:.4f}",
        "Least balanced bit": f"+1 in {balance[worst]:.1%}, bit {worst}",
        "Largest correlation of two bits": f"{statistics['max_correlation']:.4f}"
        + between,
        "Constant bits": f"{len(constant)}: {', '.join(map(str, constant))}"
        if constant
        else "none",
    }
    return [(name, [line]) for name, line in rows.items()]


def _gallery(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The queries of `gallery.json` by group; a picture that is lost is None."""
    queries = read_object(folder / "gallery.json").get("queries", [])

    def about(image: Mapping[str, Any]) -> dict[str, Any]:
        path = folder / Path(image["picture"]).name
        return {
            **image,
            "labels": one_line(", ".join(image["labels"])) or "no label",
            "png": path.read_bytes() if path.is_file() else None,
        }

    groups: dict[str, list[dict[str, Any]]] = {
        group: [
            {**about(query), "neighbours": [about(n) for n in query["neighbours"]]}
            for query in queries
            if query["group"] == group
        ]
        for group in GROUPS
    }
    return {group: shown for group, shown in groups.items() if shown}


def _looks(
    folder: Path, config: Mapping[str, Any], results: Mapping[str, Any]
) -> dict[str, Any]:
    """What `ssah show` kept of the step that the results are of, if it did."""
    looks = read_looks(folder, step=results.get("steps"))
    try:
        return sections(looks, scales=config["anet"]["scales"])
    except (KeyError, IndexError, TypeError, ValueError):
        return {"looks": []}


def _strips(folder: Path) -> dict[str, Any]:
    """The first, the last and some other `step_*.png` by step; how many there are."""
    found = {}
    for path in folder.glob("step_*.png"):
        if number := re.fullmatch(r"step_(\d+)", path.stem):
            found[int(number[1])] = path
    steps = sorted(found)
    places = np.linspace(0, len(steps) - 1, min(_MOST_STRIPS, len(steps)))
    pictures = {}
    for step in (steps[round(place)] for place in places.tolist()):
        png = found[step].read_bytes()
        heavy = len(png) > _STRIP_BYTES
        pictures[step] = reduce_picture(png, longest=_STRIP_WIDTH) if heavy else png
    return {"strips": pictures, "num_strips": len(steps)}
