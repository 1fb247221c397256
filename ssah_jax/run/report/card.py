"""The card of a model: what it is, was measured on, and is for; `model_card.md`.

Reads only what lies in the workdir, and says the same of the same: no time, no path. In
the form of the Hugging Face hub: what machines read comes first, then Markdown.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssah_jax.retrieval.files import one_line, write_atomically
from ssah_jax.run.workdir import Workdir

_MOST_CLASSES = 40

_HEAD = """---
library_name: ssah_jax
pipeline_tag: image-feature-extraction
tags:
- image-retrieval
- hashing
- jax
---
"""


def write_card(workdir: Workdir) -> Path:
    """Writes `model_card.md` of a finished run, whole or not at all.

    Returns:
        Its path.

    Raises:
        ValueError: a file of the run is missing or damaged.
    """
    config = json.loads((workdir.path / "config.json").read_text())
    info, results = workdir.read_model_info(), workdir.read_results()
    height, width, channels = info.image_shape
    colours = {1: "grey", 3: "in colour"}.get(channels, f"of {channels} channels")
    backbone = as_text(config["hnet"]["backbone"])
    names = [as_text(name) for name in info.class_names]
    shown = ", ".join(names[:_MOST_CLASSES])
    more = f", and {len(names) - _MOST_CLASSES} more" * (len(names) > _MOST_CLASSES)
    classes = "images without labels"
    if names:
        classes = f"{len(names)} classes: {shown}{more}"
    alike = "It learnt to call views of one image alike, without labels."
    if results["num_labelled"]:
        alike = "What it calls alike is what shared a label in training."
    text = f"""{_HEAD}
# {as_text(results["source"])}, {results["bits"]} bits

An encoder of images into binary codes of {results["bits"]} bits, for retrieval by
Hamming distance. Trained by ssah\\_jax, with the backbone {backbone}, on images of
{height} x {width} pixels, {colours}.

## Data

- Source: {as_text(results["source"])}, {classes}.
- Protocol {as_text(results["protocol"])}, seed {results["seed"]}; digest of the split
  `{results["split_digest"]}`.
- {results["num_labelled"]:,} labelled images; {results["num_query"]:,} queries against
  {results["num_database"]:,} database images.
- First weights: {as_text(info.weights) or "random"}.

## Figures

{_figures(results)}

## Intended use

Finding images like a query among images like those it was trained on, and as a first
stage before a finer comparison. Codes are comparable only with those of the same
fingerprint.

## Limits

- {alike} Other notions of likeness,
  other kinds of images and classes that it has not seen were not measured.
- It sees {height} x {width} pixels: what is smaller in a photograph is lost.
- Not for identifying people, nor for any decision about them; biases of the training
  images are in the codes.

## How to use

```bash
ssah encode --model FILE photos --out codes.parquet
```
"""
    write_atomically(workdir.card, text.encode(errors="backslashreplace"))
    return workdir.card


def as_text(name: str) -> str:
    """A name such that Markdown and HTML show it as it is, on one line."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", one_line(name))


def _figures(results: Mapping[str, Any]) -> str:
    if reason := results.get("not_measured"):
        return (
            f"Nothing was measured of the checkpoint of step {results['steps']:,}: "
            f"{reason}."
        )
    rows = "\n".join(f"| {name} | {value} |" for name, value in _rows(results))
    return f"""\
Of the checkpoint of step {results["steps"]:,}, on queries that training did not see.

| | |
| --- | --- |
{rows}

The interval is of the mean over these queries (normal, 95 %). It says nothing of other
seeds, splits or images. A code of {results["bits"]} bits knows {results["bits"] + 1}
distances, so most of a ranking is ties; mAP is the expectation over their orders."""


def _rows(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("mAP, expected over ties", f"{results['map']:.4f}")]
    if interval := results.get("map_interval"):
        low, high = interval
        rows.append(("mAP, interval", f"{low:.4f} to {high:.4f}"))
    for key, title in (
        ("map_stable", "mAP, ties in database order"),
        ("ndcg", "nDCG"),
        ("precision_radius2", "Precision within Hamming radius 2"),
    ):
        if results.get(key) is not None:
            rows.append((title, f"{results[key]:.4f}"))
    for number, value in results.get("precision_at", {}).items():
        rows.append((f"Precision at {number}", f"{value:.4f}"))
    versions = results.get("versions", {})
    said = ", ".join(f"{as_text(k)} {as_text(v)}" for k, v in versions.items())
    return [*rows, ("Computed by", said)]
