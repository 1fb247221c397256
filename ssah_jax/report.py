"""One page for people about a run: `report.html`, complete in itself.

Reads only what lies in the workdir, so it can be written again at any time, of a
finished run or of one under way. The page loads nothing, follows the reader's light
or dark theme (the plots too: their text takes the colour of the page's), and fits a
phone.
"""

import base64
import html
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.image import imsave

from ssah_jax.plots import is_number, retrieval_plots, training_plots
from ssah_jax.workdir import write_atomically

_RESULTS = {
    "map": "mAP, expected over ties",
    "map_stable": "mAP, stable order",
    "map_optimistic": "mAP, best order of ties",
    "map_pessimistic": "mAP, worst order of ties",
    "precision_radius2": "Precision within Hamming radius 2",
    "precision_at": "Precision at",
    "top_k": "Ranks counted by mAP",
    "protocol": "Protocol",
    "source": "Images",
    "bits": "Bits",
    "num_query": "Queries",
    "num_database": "Database images",
    "num_labelled": "Labelled images",
    "labels_per_class": "Labels a class (0: all)",
    "num_missing": "Images listed and not on disk",
    "num_skipped": "Images that could not be read",
    "seed": "Seed",
    "steps": "Steps",
    "wall_seconds": "Seconds of training",
    "split_digest": "Digest of the split",
    "versions": "Versions",
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --back: #fff; --text: #1b1f24; --line: #d5d9de; --card: #f6f7f9; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --back: #15181c; --text: #dfe3e8; --line: #363c44; --card: #1c2026; }}
}}
body {{ margin: 0 auto; padding: 1rem; max-width: 70rem; background: var(--back);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.15rem; margin: 2rem 0 .5rem; }}
table {{ border-collapse: collapse; width: 100%; max-width: 44rem; }}
th, td {{ padding: .3rem .5rem; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; overflow-wrap: anywhere; }}
th {{ font-weight: 400; width: 45%; }}
td {{ font-variant-numeric: tabular-nums; }}
tr:first-child > * {{ font-weight: 600; }}
.plots {{ display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }}
figure {{ margin: 0; padding: .75rem; background: var(--card); border-radius: .5rem;
  min-width: 0; }}
figcaption {{ font-weight: 600; margin-bottom: .25rem; }}
svg {{ display: block; width: 100%; height: auto; }}
svg text {{ font-family: system-ui, sans-serif !important; }}
.strips figure {{ margin-bottom: .75rem; }}
img {{ display: block; max-width: 100%; image-rendering: pixelated; }}
pre {{ overflow-x: auto; padding: .75rem; background: var(--card);
  border-radius: .5rem; font-size: .85rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def write_report(workdir: str | os.PathLike[str]) -> Path:
    """Writes `report.html` into a workdir, whole or not at all.

    Args:
        workdir: the directory of a run. Read are `config.json`, `metrics.jsonl`,
            `results.json` and `strips/step_*.png`; whatever is missing is left out.

    Returns:
        The path of the page.

    Raises:
        ValueError: `config.json` or `results.json` is not a JSON object.
    """
    workdir = Path(workdir)
    config = _read_object(workdir / "config.json")
    results = _read_object(workdir / "results.json")
    rows = _read_rows(workdir / "metrics.jsonl")
    known = {**config, **results}
    about = [str(known[key]) for key in ("protocol",) if key in known]
    about += [f"{known['bits']} bits"] if "bits" in known else []
    about += [f"seed {known['seed']}"] if "seed" in known else []
    parts = [
        _section("Results", _table(results) or "<p>No results yet.</p>"),
        _section("Training", _grid(training_plots(rows)) or "<p>Nothing logged.</p>"),
        _section("Retrieval", _grid(retrieval_plots(results))),
        _section("What A-Net makes", _strips(workdir / "strips")),
        _section("Configuration", _details(config)),
    ]
    path = workdir / "report.html"
    title = html.escape(" · ".join(["SSAH", *about]))
    write_atomically(
        path, _PAGE.format(title=title, body="\n".join(filter(None, parts)))
    )
    return path


def draw_strip(
    images: Float[np.ndarray, "n H W ch"], generated: Float[np.ndarray, "n H W ch"]
) -> bytes:
    """Draws images above what was generated of them.

    Args:
        images: `[n, H, W, ch]` in [0, 1], clipped to it; ch is 1 (grey) or 3.
        generated: `[n, H, W, ch]`, likewise.

    Returns:
        A PNG of two rows, small images enlarged by a whole factor, pixels kept
        square, gaps transparent.

    Raises:
        ValueError: there are no images, or ch is neither 1 nor 3.
    """
    number, height, width, channels = images.shape
    if not number or channels not in (1, 3):
        raise ValueError(
            f"images: found shape {images.shape}, accepted is [n >= 1, H, W, 1 or 3]"
        )
    factor = max(1, 96 // max(height, width))
    gap = 4
    tall, wide = factor * height + gap, factor * width + gap
    canvas = np.zeros((2 * tall - gap, number * wide - gap, 4), np.uint8)
    for row, batch in enumerate((images, generated)):
        pixels = np.rint(np.clip(batch, 0, 1) * 255).astype(np.uint8)
        pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
        for column, image in enumerate(pixels):
            top, left = row * tall, column * wide
            cell = canvas[top : top + tall - gap, left : left + wide - gap]
            cell[..., :3] = image
            cell[..., 3] = 255
    file = io.BytesIO()
    imsave(file, canvas, format="png")
    return file.getvalue()


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


def _section(title: str, content: str) -> str:
    return f"<h2>{html.escape(title)}</h2>\n{content}" if content else ""


def _shown(key: str, value: Any) -> str:
    """A value as text, not yet escaped."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_shown(name, v)}" for name, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(key, v) for v in value)
    if isinstance(value, float):
        return f"{value:,.1f}" if key.endswith("seconds") else f"{value:.4f}"
    if isinstance(value, int) and not isinstance(value, bool) and key != "seed":
        return f"{value:,}"
    if value is None:
        return "all" if key == "top_k" else "none"
    return str(value)


def _table(results: Mapping[str, Any]) -> str:
    """The results in rows, known ones first; the curve is drawn, not listed."""
    keys = [key for key in _RESULTS if key in results]
    keys += [key for key in results if key not in _RESULTS and key != "pr_curve"]
    rows = []
    for key in keys:
        name = html.escape(_RESULTS.get(key, key))
        # A line for each entry: easier to read than a row of pairs.
        entries = (
            [f"{n}: {_shown(n, v)}" for n, v in results[key].items()]
            if isinstance(results[key], Mapping)
            else [_shown(key, results[key])]
        )
        value = "<br>".join(html.escape(entry) for entry in entries)
        rows.append(f'<tr><th scope="row">{name}</th><td>{value}</td></tr>')
    return f"<table>\n{chr(10).join(rows)}\n</table>" if rows else ""


def _details(config: Mapping[str, Any]) -> str:
    if not config:
        return ""
    text = html.escape(json.dumps(config, indent=2, ensure_ascii=False))
    return f"<details><summary>config.json</summary><pre>{text}</pre></details>"


def _strips(folder: Path) -> str:
    """Figures of `step_*.png` in the order of their steps, as data URIs."""
    steps = {}
    for path in folder.glob("step_*.png"):
        if found := re.fullmatch(r"step_(\d+)", path.stem):
            steps[int(found[1])] = path
    figures = []
    for step, path in sorted(steps.items()):
        data = base64.b64encode(path.read_bytes()).decode()
        alt = f"Images of step {step} above what A-Net generated of them"
        figures.append(
            f"<figure><figcaption>Step {step:,}</figcaption>"
            f'<img alt="{alt}" src="data:image/png;base64,{data}"></figure>'
        )
    if not figures:
        return ""
    return (
        "<p>Originals above, generated below.</p>\n"
        f'<div class="strips">\n{chr(10).join(figures)}\n</div>'
    )


def _grid(figures: Sequence[str]) -> str:
    return f'<div class="plots">\n{chr(10).join(figures)}\n</div>' if figures else ""
