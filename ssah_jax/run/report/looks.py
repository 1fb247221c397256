"""A map of codes and the attention of bits: what pages show of them, and keep.

`ssah show` keeps those of a run's own queries in its workdir, where `report.html` takes
them from. Kept are numbers and pictures; what is drawn of the numbers is drawn anew.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssah_jax.retrieval.files import write_atomically
from ssah_jax.run.report.plots import CLASS_STYLES, MARKERS, flip_plot, map_plot

_MOST_BITS = 5
_FILE = "looks.json"
_PICTURES = ("view", "heat")


def sections(looks: Mapping[str, Any], *, scales: Sequence[float]) -> dict[str, Any]:
    """What the templates take of it: drawings, and a key to the classes.

    Args:
        looks: of `show_page.describe` or `read_looks`.
        scales: of A-Net's windows.
    """
    classes = np.asarray(looks["classes"], np.int64)
    points = np.asarray(looks["points"], np.float64).reshape(len(classes), 2)
    names = looks["class_names"]
    # Classes beyond the styles are one group.
    order = [c for c, _ in Counter(classes[classes >= 0].tolist()).most_common()]
    styled = sorted(order[: len(CLASS_STYLES)])
    groups = {c: classes == c for c in styled}
    key = [
        (colour, MARKERS[marker], str(names[c]), int(groups[c].sum()))
        for (colour, marker), c in zip(CLASS_STYLES, styled, strict=False)
    ]
    by_style = {style: points[groups[c]] for style, c in enumerate(styled)}
    rest = ~np.isin(classes, styled)
    if rest.any():
        by_style = {-1: points[rest]} | by_style
        key.append(("#808080", "●", "others, or no class", int(rest.sum())))
    query_points = np.asarray(looks["query_points"], np.float64).reshape(-1, 2)
    return {
        **{name: looks[name] for name in ("windows", "bits", "least", "most")},
        "drawn": len(classes),
        "first_class": looks["first_class"],
        "map": map_plot(by_style, query_points, np.asarray(looks["variance"], float)),
        "key": key,
        "sizes": ", ".join(f"{scale:g}" for scale in scales),
        "looks": [
            _drawn(query, number) for number, query in enumerate(looks["queries"], 1)
        ],
    }


def _drawn(query: Mapping[str, Any], number: int) -> dict[str, Any]:
    shares = np.asarray(query["shares"], np.float64)
    order = np.argsort(-shares, kind="stable")[:_MOST_BITS].tolist()
    bits = [(bit, float(shares[bit])) for bit in order if shares[bit] > 0]
    return {**query, "bits": bits, "plot": flip_plot(shares, number)}


def write_looks(folder: Path, looks: Mapping[str, Any]) -> None:
    """Keeps what `show_page.describe` made: pictures first, then the list of them."""
    folder.mkdir(parents=True, exist_ok=True)
    queries = []
    for number, query in enumerate(looks["queries"]):
        kept = dict(query)
        for kind in _PICTURES:
            kept[kind] = f"{kind}_{number}.png"
            write_atomically(folder / kept[kind], query[kind])
        queries.append(kept)
    text = json.dumps({**looks, "queries": queries}) + "\n"
    write_atomically(folder / _FILE, text)


def read_looks(folder: Path, *, step: int | None) -> dict[str, Any]:
    """What `write_looks` kept; empty where it did not, of another step or damaged.

    Args:
        folder: that it wrote to.
        step: which the rest of the page is of.
    """
    try:
        looks = json.loads((folder / _FILE).read_text())
        if looks["step"] != step:
            return {}
        for query in looks["queries"]:
            for kind in _PICTURES:
                query[kind] = (folder / Path(query[kind]).name).read_bytes()
        return dict(looks)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
