"""One page for people about a run: `report.html`, complete in itself.

Reads only what lies in the workdir, so it can be written again at any time, of a
finished run or of one under way. The page loads nothing, follows the reader's light
or dark theme (the plots too: their text takes the colour of the page's), and fits a
phone.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ssah_jax.run.report import page
from ssah_jax.run.report.pictures import reduce_picture
from ssah_jax.run.report.plots import (
    code_plots,
    is_number,
    retrieval_plots,
    training_plots,
)
from ssah_jax.run.workdir import write_atomically

# Of all strips the page shows some, and heavy ones smaller; the files stay whole.
_MOST_STRIPS = 6
_STRIP_BYTES = 1 << 16
_STRIP_WIDTH = 900


def write_report(workdir: str | os.PathLike[str]) -> Path:
    """Writes `report.html` into a workdir, whole or not at all.

    Args:
        workdir: the directory of a run. Read are `config.json`, `model.json`,
            `metrics.jsonl`, `results.json`, `gallery/gallery.json` with its pictures
            and `strips/step_*.png`; whatever is missing is left out.

    Returns:
        The path of the page.

    Raises:
        ValueError: one of the files is not a JSON object.
    """
    workdir = Path(workdir)
    config = _read_object(workdir / "config.json")
    results = _read_object(workdir / "results.json")
    names = _read_object(workdir / "model.json").get("class_names", [])
    rows = _read_rows(workdir / "metrics.jsonl")
    known = {**config, **results}
    about = [str(known[key]) for key in ("protocol",) if key in known]
    about += [f"{known['bits']} bits"] if "bits" in known else []
    about += [f"seed {known['seed']}"] if "seed" in known else []
    statistics = results.get("code_statistics", {})
    plots = page.grid(code_plots(statistics))
    sections = {
        "Results": page.results_table(results) or "<p>No results yet.</p>",
        "Training": page.grid(training_plots(rows)) or "<p>Nothing logged.</p>",
        "Retrieval": page.grid(retrieval_plots(results)),
        "mAP by class": page.class_tables(results.get("map_per_class", {}), names),
        "Codes of the database": page.code_table(statistics) + plots,
        "What is found": _gallery(workdir / "gallery"),
        "What A-Net makes": _strips(workdir / "strips"),
        "Configuration": page.details(config),
    }
    path = workdir / "report.html"
    write_atomically(path, page.page(" · ".join(["SSAH", *about]), sections))
    return path


def _read_object(path: Path) -> dict[str, Any]:
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


def _read_rows(path: Path) -> list[dict[str, Any]]:
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


def _gallery(folder: Path) -> str:
    """The queries of `gallery.json`; a picture that is lost is left out."""
    queries = _read_object(folder / "gallery.json").get("queries", [])

    def picture(name: str) -> bytes | None:
        path = folder / Path(name).name
        return path.read_bytes() if path.is_file() else None

    return page.gallery(queries, picture)


def _strips(folder: Path) -> str:
    """`step_*.png` in the order of their steps: the first, the last, some between."""
    found = {}
    for path in folder.glob("step_*.png"):
        if number := re.fullmatch(r"step_(\d+)", path.stem):
            found[int(number[1])] = path
    steps = sorted(found)
    places = np.linspace(0, len(steps) - 1, min(_MOST_STRIPS, len(steps)))
    chosen = [steps[round(place)] for place in places.tolist()]
    pictures = {}
    for step in chosen:
        png = found[step].read_bytes()
        heavy = len(png) > _STRIP_BYTES
        pictures[step] = reduce_picture(png, longest=_STRIP_WIDTH) if heavy else png
    return page.strips(pictures, total=len(steps))
