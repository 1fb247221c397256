"""Plots of a run as SVG for the page of `ssah_jax.run.report.run_page`.

Inline in the page, a plot's text takes the colour of the page's, light or dark.
Drawn with Matplotlib's figures directly, without the global state of pyplot.
"""

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from jaxtyping import Float
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

Rows = Sequence[Mapping[str, Any]]

# Stands for the page's text colour until the SVG is in the page.
_TEXT = "#010203"
# Mid-tones: at least 3:1 on white and on near-black.
_COLOURS = [
    "#3b82c4",
    "#d9772b",
    "#3a9d5d",
    "#cf4f58",
    "#8f6bd0",
    "#9c7a55",
    "#c55fa6",
    "#7a8a99",
]
# More would be heavy and look the same.
_MOST_POINTS = 500
# Powers of ten would need mathematical type.
_NUMBERS = "{x:,.10g}"
_STYLE: Any = {
    "axes.edgecolor": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.prop_cycle": cycler(linestyle=["-", "--", ":"]) * cycler(color=_COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "font.size": 9.0,
    "grid.color": "#808080",
    "grid.alpha": 0.25,
    "legend.fontsize": 8.0,
    "legend.framealpha": 0.0,
    "legend.labelcolor": _TEXT,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.0,
    "svg.fonttype": "none",
    # The same ids in every report of the same run.
    "svg.hashsalt": "ssah_jax",
    "text.color": _TEXT,
    "text.parse_math": False,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
}


def is_number(value: Any) -> bool:
    """Whether a value can be drawn."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _series(rows: Rows, key: str) -> tuple[list[float], list[float]]:
    """Steps and finite values of one key, absent from any row; of many, some."""
    pairs = [
        (float(row["step"]), float(row[key])) for row in rows if is_number(row.get(key))
    ]
    if len(pairs) > _MOST_POINTS:
        last = len(pairs) - 1
        places = (round(i * last / (_MOST_POINTS - 1)) for i in range(_MOST_POINTS))
        pairs = [pairs[place] for place in places]
    return [step for step, _ in pairs], [value for _, value in pairs]


def _keys(rows: Rows, prefix: str) -> list[str]:
    """The keys of a group that have values, in the order of their first mention."""
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith(prefix))
    return [key for key in keys if _series(rows, key)[0]]


def training_plots(rows: Rows) -> list[Markup]:
    """A figure for each group of keys that has values; the losses come first."""
    groups = dict.fromkeys(["loss/", "pace/", "validation/", "monitor/"])
    groups |= dict.fromkeys(
        key.split("/")[0] + "/" for row in rows for key in row if "/" in key
    )
    titles = {
        "loss/": "Losses",
        "pace/": "Self-paced policy",
        "monitor/": "Monitors",
        "entropy/": "Entropy of A-Net's choices",
        "gradient/": "Gradient norms",
    }
    figures = []
    for group in groups:
        keys = _keys(rows, group)
        title = titles.get(group, group.rstrip("/").capitalize())
        if not keys:
            continue
        if group == "pace/":
            figures.append(_pace_plot(rows, keys, title))
        else:
            figures.append(_group_plot(rows, keys, title, log=group == "loss/"))
    if _keys(rows, "images_per_second"):
        figures.append(_group_plot(rows, ["images_per_second"], "Speed", log=False))
    return figures


_COMPARED = ("loss/total", "pace/threshold", "pace/hardness", "images_per_second")


def comparison_plots(runs: Sequence[Rows]) -> list[Markup]:
    """A figure for each curve that says most, with a line for each run.

    Args:
        runs: the logged objects of each; lines are called by its number, from 1.
    """
    keys = dict.fromkeys(key for rows in runs for row in rows for key in row)
    chosen = [k for k in keys if k.startswith("validation/") or k in _COMPARED]
    figures = []
    for key in chosen:
        drawn = {number: _series(rows, key) for number, rows in enumerate(runs, 1)}
        drawn = {number: found for number, found in drawn.items() if found[0]}
        if not drawn:
            continue
        with matplotlib.rc_context(_STYLE):
            figure = Figure(figsize=(4.8, 3.2), layout="constrained")
            axes = figure.add_subplot()
            styles = list(_STYLE["axes.prop_cycle"])
            for number, (steps, values) in drawn.items():
                # A run looks the same in every figure, also where others are missing.
                style = styles[(number - 1) % len(styles)]
                axes.plot(steps, values, label=str(number), **style)
            axes.set_xlabel("step")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
            axes.xaxis.set_major_formatter(_NUMBERS)
            figure.legend(loc="outside upper left", ncols=8)
            title = key.replace("/", ": ").replace("_", " ").capitalize()
            about = f"{key} over steps, of {len(drawn)} runs"
            figures.append(_svg(figure, title, about))
    return figures


def _draw(axes: Axes, rows: Rows, keys: Iterable[str]) -> list[float]:
    """Draws keys over steps; returns all their values."""
    drawn: list[float] = []
    for key in keys:
        steps, values = _series(rows, key)
        # A short series is one of evaluations: its points are worth seeing.
        marker = "o" if len(steps) <= 30 else ""
        label = key.split("/")[-1].replace("_", " ")
        axes.plot(steps, values, label=label, marker=marker)
        drawn += values
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(_NUMBERS)
    return drawn


def _group_plot(rows: Rows, keys: Sequence[str], title: str, *, log: bool) -> Markup:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.8, 3.2), layout="constrained")
        axes = figure.add_subplot()
        values = _draw(axes, rows, keys)
        # Below a decade a logarithmic axis may have no label at all.
        if log and 0 < 10 * min(values) <= max(values):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(_NUMBERS)
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("step")
        # Outside, where it hides no curve.
        figure.legend(loc="outside upper left", ncols=4)
        return _svg(figure, title, f"{', '.join(keys)} over steps")


def _pace_plot(rows: Rows, keys: Sequence[str], title: str) -> Markup:
    """Levels of hardness, shares of samples and the reach, each on an axis."""
    names = {
        "share": ("recognised", "evidence"),
        "reach": ("reach_window", "reach_angle"),
    }
    panels = {
        label: [key for key in keys if key.split("/")[1] in parts]
        for label, parts in names.items()
    }
    rest = [key for key in keys if not any(key in panel for panel in panels.values())]
    panels = {label: x for label, x in ({"hardness": rest} | panels).items() if x}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.8, 4.0), layout="constrained")
        axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
        drawn = 0
        for (label, panel), ax in zip(panels.items(), axes, strict=True):
            # Colours of its own: one legend serves all.
            ax.set_prop_cycle(color=_COLOURS[drawn:] or _COLOURS)
            _draw(ax, rows, panel)
            drawn += len(panel)
            ax.set_ylabel(label)
            if label == "share":
                ax.set_ylim(-0.05, 1.05)
        axes[-1].set_xlabel("step")
        figure.legend(loc="outside upper left", ncols=3)
        return _svg(figure, title, f"{', '.join(keys)} over steps")


def retrieval_plots(results: Mapping[str, Any]) -> list[Markup]:
    """Precision over recall, and precision over the number of ranks."""
    figures = []
    curve = results.get("pr_curve")
    if isinstance(curve, Mapping) and {"precision", "recall"} <= curve.keys():
        # Where nothing is retrieved there is no precision to show.
        points = [
            (float(recall), float(precision))
            for recall, precision in zip(
                curve["recall"], curve["precision"], strict=False
            )
            if recall > 0 or precision > 0
        ]
        if points:
            figures.append(_curve_plot(points, "Precision-recall curve", "recall"))
    at = results.get("precision_at")
    if isinstance(at, Mapping) and len(at) > 1:
        points = sorted((float(n), float(value)) for n, value in at.items())
        figures.append(_curve_plot(points, "Precision at n", "n nearest"))
    return figures


def code_plots(statistics: Mapping[str, Any]) -> list[Markup]:
    """How often each bit of the database's codes is +1."""
    balance = statistics.get("balance")
    if not balance:
        return []
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.8, 2.4), layout="constrained")
        axes = figure.add_subplot()
        axes.bar(range(len(balance)), balance, color=_COLOURS[0], width=0.7)
        axes.axhline(0.5, linestyle="--", color=_COLOURS[1])
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.xaxis.grid(False)
        axes.set(xlabel="bit", ylabel="share of +1", ylim=(0, 1.02))
        axes.set_xlim(-0.6, len(balance) - 0.4)
        low, high = min(balance), max(balance)
        spread = f"share of images in which each of {len(balance)} bits is +1"
        return [_svg(figure, "Balance", f"{spread}, {low:.2f} to {high:.2f}")]


MARKERS = {"o": "●", "s": "■", "^": "▲"}
"""How the points of a class look in a map, and the same in text."""

CLASS_STYLES = [(colour, marker) for marker in MARKERS for colour in _COLOURS]
"""Colour and marker of each class of a map."""


def map_plot(
    points: Mapping[int, Float[np.ndarray, "n 2"]],
    queries: Float[np.ndarray, "m 2"],
    shares: Float[np.ndarray, "2"],
) -> Markup:
    """Codes on the plane in which they vary most, queries by their numbers from 1.

    Args:
        points: `[n, 2]` by the number of a style in `CLASS_STYLES`; grey by others.
        queries: `[m, 2]`.
        shares: of the variance along the axes, `[2]` in [0, 1].
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 4.8), layout="constrained")
        axes = figure.add_subplot()
        for style, group in points.items():
            known = 0 <= style < len(CLASS_STYLES)
            colour, marker = CLASS_STYLES[style] if known else ("#808080", "o")
            axes.plot(
                *group.T, color=colour, marker=marker, linestyle="none", alpha=0.6
            )
        for number, place in enumerate(queries.tolist(), 1):
            axes.plot(*place, "o", markersize=13, fillstyle="none", color=_TEXT)
            axes.annotate(
                str(number), place, ha="center", va="center", weight="bold", size=9
            )
        for name, share in zip(("x", "y"), shares.tolist(), strict=True):
            which = "first" if name == "x" else "second"
            label = f"{which} principal component ({share:.0%} of the variance)"
            axes.set(**{f"{name}label": label})
        number = sum(len(group) for group in points.values())
        about = f"{number} database images and {len(queries)} queries"
        return _svg(figure, "Map of codes", about)


def flip_plot(shares: Float[np.ndarray, "K"], number: int) -> Markup:
    """How often each bit changes when a window hides part of one image.

    Args:
        shares: of the windows, `[K]` in [0, 1].
        number: of the query, from 1.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.8, 2.0), layout="constrained")
        axes = figure.add_subplot()
        axes.bar(range(len(shares)), shares, color=_COLOURS[0], width=0.7)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.xaxis.grid(False)
        axes.set(xlabel="bit", ylabel="share of windows", ylim=(0, 1.02))
        axes.set_xlim(-0.6, len(shares) - 0.4)
        about = f"share of windows that flip each of {len(shares)} bits"
        return _svg(figure, f"Flips by bit, query {number}", about)


def _curve_plot(points: Sequence[tuple[float, float]], title: str, over: str) -> Markup:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.8, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(*zip(*points, strict=True), marker="o")
        axes.set(xlabel=over, ylabel="precision", ylim=(-0.02, 1.02))
        axes.set_xlim(left=0)
        return _svg(figure, title, f"precision over {over}")


def _svg(figure: Figure, title: str, description: str) -> Markup:
    """A figure as inline SVG: no namespaces, own ids, the page's text colour."""
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    # Several figures share a page, so each gets ids of its own.
    name = re.sub(r"\W+", "-", title.lower())
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = text.replace("xlink:href", "href").replace(_TEXT, "currentColor")
    label = f"{title}: {description}"
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    # Matplotlib has escaped what it drew.
    head = Markup('<svg role="img" aria-label="{}" {}>').format(label, Markup(box[0]))
    svg = head + Markup(text.split(">", 1)[1].strip())
    return Markup("<figure><figcaption>{}</figcaption>\n{}\n</figure>").format(
        title, svg
    )
