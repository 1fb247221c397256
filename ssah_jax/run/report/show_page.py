"""The page of `ssah show`, complete in itself: neighbours, a map, attention of bits."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ssah_jax.data.images import printable
from ssah_jax.run.report.page import render
from ssah_jax.run.report.pictures import draw_heat, draw_picture
from ssah_jax.run.report.plots import CLASS_STYLES, MARKERS, flip_plot, map_plot
from ssah_jax.run.show import Answer, Shown

_MOST_POINTS = 2_000
_MOST_BITS = 5


def show_page(
    shown: Shown,
    *,
    title: str,
    about: str,
    class_names: Sequence[str],
    multi_label: bool,
    scales: Sequence[float],
) -> str:
    """The page, as HTML.

    Args:
        shown: of `ssah_jax.run.show.look`.
        title: of the page.
        about: a line below it.
        class_names: of all classes.
        multi_label: whether an image may have several.
        scales: of A-Net's windows.
    """
    answers = shown.answers
    # One scale for all queries: they can be compared.
    heats = np.concatenate([a.places.ravel() for a in answers])
    heats = heats[np.isfinite(heats)]
    least, most = float(heats.min()), float(heats.max())
    drawn = shown.classes[:: -(-len(shown.classes) // _MOST_POINTS)]
    points = shown.points[:: -(-len(shown.points) // _MOST_POINTS)]
    # Classes beyond the styles are one group.
    order = [c for c, _ in Counter(drawn[drawn >= 0].tolist()).most_common()]
    styled = sorted(order[: len(CLASS_STYLES)])
    groups = {c: drawn == c for c in styled}
    key = [
        (colour, MARKERS[marker], printable(class_names[c]), int(groups[c].sum()))
        for (colour, marker), c in zip(CLASS_STYLES, styled, strict=False)
    ]
    by_style = {style: points[groups[c]] for style, c in enumerate(styled)}
    rest = ~np.isin(drawn, styled)
    if rest.any():
        by_style = {-1: points[rest]} | by_style
        key.append(("#808080", "●", "others, or no class", int(rest.sum())))
    windows = answers[0].flips.shape[:3]
    return render(
        "show.html",
        title=title,
        about=about,
        queries=[_query(a, i, (least, most)) for i, a in enumerate(answers, 1)],
        known=any(a.labels is not None for a in answers),
        encoded=len(shown.points),
        database=shown.num_database,
        drawn=len(drawn),
        first_class=multi_label,
        map=map_plot(by_style, shown.query_points, shown.shares),
        key=key,
        windows=int(np.prod(windows)),
        sizes=", ".join(f"{scale:g}" for scale in scales),
        bits=answers[0].flips.shape[-1],
        least=least,
        most=most,
    )


def _query(answer: Answer, number: int, ends: tuple[float, float]) -> dict[str, object]:
    least, most = ends
    shares = answer.flips.mean(axis=(0, 1, 2))
    counts = answer.flips.sum(axis=-1)
    order = np.argsort(-shares, kind="stable")[:_MOST_BITS].tolist()
    return {
        "id": answer.id,
        "labels": ", ".join(answer.labels or ()),
        "png": answer.png,
        "neighbours": answer.neighbours,
        "view": draw_picture(answer.view),
        "heat": draw_heat(answer.view, (answer.places - least) / (most - least or 1.0)),
        "mean": float(counts.mean()),
        "most": int(counts.max()),
        "bits": [(bit, float(shares[bit])) for bit in order if shares[bit] > 0],
        "plot": flip_plot(shares, number),
    }
