"""The parts of `report.html`: from what a run has recorded to HTML, nothing read.

Every function returns complete elements, or nothing where there is nothing to show;
all text in them is escaped.
"""

import base64
import html
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ssah_jax.run.report.page_template import PAGE

RESULTS = {
    "map": "mAP, expected over ties",
    "map_stable": "mAP, stable order",
    "map_optimistic": "mAP, best order of ties",
    "map_pessimistic": "mAP, worst order of ties",
    "ndcg": "nDCG",
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
"""What the table of results says, by key; other keys follow under their own names."""

# Drawn, or shown in a table of their own.
_ELSEWHERE = {"pr_curve", "map_per_class", "code_statistics"}

# With more classes than twice as many, only so many of the best and of the worst.
_CLASSES = 20

_GROUPS = {
    "best": "Best queries",
    "typical": "Typical queries",
    "worst": "Worst queries",
}


def page(title: str, sections: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        title: plain text.
        sections: HTML by title; empty ones are left out.
    """
    body = "\n".join(
        f"<h2>{html.escape(name)}</h2>\n{content}"
        for name, content in sections.items()
        if content
    )
    return PAGE.format(title=html.escape(title), body=body)


def results_table(results: Mapping[str, Any]) -> str:
    """The results in rows, known ones first; what is shown elsewhere is not listed."""
    keys = [key for key in RESULTS if key in results]
    keys += [key for key in results if key not in {*RESULTS, *_ELSEWHERE}]
    rows = []
    for key in keys:
        # A line for each entry: easier to read than a row of pairs.
        entries = (
            [f"{n}: {_shown(n, v)}" for n, v in results[key].items()]
            if isinstance(results[key], Mapping)
            else [_shown(key, results[key])]
        )
        rows.append((RESULTS.get(key, key), entries))
    return _table(rows, "results")


def class_tables(
    per_class: Mapping[str, Mapping[str, Any]], class_names: Sequence[str]
) -> str:
    """The mAP of each class as a dot on its bounds, best first.

    Args:
        per_class: by a class's number, `map`, `optimistic` and `pessimistic` in
            [0, 1], None for a class without queries, and `num_query`.
        class_names: of all classes; a number without a name is shown as such.

    Returns:
        One table, or two of the best and the worst classes where there are many.
    """
    found = [item for item in per_class.items() if item[1]["map"] is not None]
    found.sort(key=lambda item: (-item[1]["map"], int(item[0])))
    if not found:
        return ""

    def name(number: str) -> str:
        known = int(number) < len(class_names)
        return class_names[int(number)] if known else f"Class {number}"

    def table(items: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
        rows = "\n".join(_class_row(name(number), value) for number, value in items)
        return (
            '<table class="classes">\n<thead><tr><th scope="col">Class</th>'
            '<th scope="col">0 to 1</th><th scope="col">mAP</th>'
            f'<th scope="col">Queries</th></tr></thead>\n<tbody>\n{rows}\n</tbody>'
            "\n</table>"
        )

    how = "<p>Dot: expected over ties. Bar: from the worst to the best order of ties."
    if silent := len(per_class) - len(found):
        how += f" Without queries, so not shown: {silent}."
    if len(found) <= 2 * _CLASSES:
        return f"{how}</p>\n{table(found)}"
    return (
        f"{how} {len(found)} classes; shown are {_CLASSES} at either end.</p>\n"
        f"<h3>Best classes</h3>\n{table(found[:_CLASSES])}\n"
        f"<h3>Worst classes</h3>\n{table(found[-_CLASSES:])}"
    )


def _class_row(name: str, value: Mapping[str, Any]) -> str:
    centre = 100 * value["map"]
    low = 100 * value.get("pessimistic", value["map"])
    high = 100 * value.get("optimistic", value["map"])
    bounds = f"{low / 100:.3f} to {high / 100:.3f}"
    bar = (
        f'<span class="track" role="img" aria-label="{bounds}">'
        '<span class="bar"></span>'
        f'<span class="range" style="left:{low:.2f}%;width:{high - low:.2f}%"></span>'
        f'<span class="dot" style="left:{centre:.2f}%"></span></span>'
    )
    return (
        f'<tr><th scope="row">{html.escape(name)}</th><td>{bar}</td>'
        f'<td title="{bounds}">{value["map"]:.3f}</td>'
        f"<td>{_shown('num_query', value.get('num_query'))}</td></tr>"
    )


def code_table(statistics: Mapping[str, Any]) -> str:
    """What `ssah_jax.retrieval.statistics` says of the database's codes."""
    if not statistics:
        return ""
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
    return _table([(name, [value]) for name, value in rows.items()], "codes")


def gallery(
    queries: Sequence[Mapping[str, Any]], picture: Callable[[str], bytes | None]
) -> str:
    """Queries with their nearest images, hits marked by sign, frame and colour.

    Args:
        queries: as `ssah_jax.run.report.gallery.describe` makes them.
        picture: the PNG of a name in them, None if it is lost.
    """
    if not queries:
        return ""

    def image(about: Mapping[str, Any], alt: str) -> str:
        png = picture(about["picture"])
        if png is None:
            return f"<div>{html.escape(alt)} (no picture)</div>"
        return _image(png, f"{alt}, {about['id']}")

    def labels(about: Mapping[str, Any]) -> str:
        return ", ".join(about["labels"]) or "no label"

    def neighbour(number: int, near: Mapping[str, Any]) -> str:
        kind, mark = ("hit", "✓") if near["hit"] else ("miss", "✗")
        alt = f"{number}: {kind}, distance {near['distance']}, {labels(near)}"
        return (
            f'<li class="{kind}">{image(near, alt)}<span aria-hidden="true">'
            f'<b>{mark} {near["distance"]}</b><span class="clamp">'
            f"{html.escape(labels(near))}</span></span></li>"
        )

    parts = [
        "<p>A query and its nearest images. ✓ and a solid frame: shares a class with "
        "the query; ✗ and a dashed frame: does not. The number is the Hamming "
        "distance. AP: average precision of the query, expected over ties.</p>"
    ]
    for group, title in _GROUPS.items():
        shown = [query for query in queries if query["group"] == group]
        parts += [f"<h3>{title}</h3>"] if shown else []
        for query in shown:
            near = query["neighbours"]
            items = "\n".join(neighbour(i, n) for i, n in enumerate(near, start=1))
            hits = sum(bool(n["hit"]) for n in near)
            parts.append(
                f'<div class="answer">\n<figure>'
                f"{image(query, f'Query: {labels(query)}')}<figcaption>"
                f"<b>{html.escape(labels(query))}</b><br>"
                f"AP {query['average_precision']:.3f}<br>{hits} of {len(near)} are "
                f"hits<br><small>{html.escape(str(query['id']))}</small></figcaption>"
                f'</figure>\n<ol class="neighbours">\n{items}\n</ol>\n</div>'
            )
    return "\n".join(parts)


def strips(pictures: Mapping[int, bytes], *, total: int) -> str:
    """What A-Net made of the same images.

    Args:
        pictures: PNG by step.
        total: evaluations there were; those without a picture here are mentioned.
    """
    if not pictures:
        return ""
    some = f" {len(pictures)} of {total} evaluations." if len(pictures) < total else ""
    figures = "\n".join(
        f"<figure><figcaption>Step {step:,}</figcaption>"
        f'<div class="scroll" tabindex="0" role="group" aria-label="Step {step}">'
        f"{_image(png, f'Images of step {step} above what A-Net generated of them')}"
        "</div></figure>"
        for step, png in pictures.items()
    )
    return (
        f"<p>Originals above, generated below.{some}</p>\n"
        f'<div class="strips">\n{figures}\n</div>'
    )


def details(config: Mapping[str, Any]) -> str:
    """The configuration, folded away."""
    if not config:
        return ""
    text = html.escape(json.dumps(config, indent=2, ensure_ascii=False))
    return f"<details><summary>config.json</summary><pre>{text}</pre></details>"


def grid(figures: Sequence[str]) -> str:
    """Figures side by side where there is room."""
    return f'<div class="plots">\n{chr(10).join(figures)}\n</div>' if figures else ""


def _image(png: bytes, alt: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'


def _table(rows: Sequence[tuple[str, Sequence[str]]], kind: str) -> str:
    """Rows of a name and lines, all plain text."""
    lines = [
        f'<tr><th scope="row">{html.escape(name)}</th>'
        f"<td>{'<br>'.join(map(html.escape, values))}</td></tr>"
        for name, values in rows
    ]
    return f'<table class="{kind}">\n{chr(10).join(lines)}\n</table>' if lines else ""


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
