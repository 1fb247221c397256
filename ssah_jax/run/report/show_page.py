"""The page of `ssah show`, complete in itself: neighbours, a map, attention of bits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ssah_jax.retrieval.files import one_line
from ssah_jax.run.report.looks import sections
from ssah_jax.run.report.page import render
from ssah_jax.run.report.pictures import draw_heat, draw_picture
from ssah_jax.run.show import Answer, Shown

_MOST_POINTS = 2_000


def describe(
    shown: Shown, *, class_names: Sequence[str], multi_label: bool, step: int
) -> dict[str, Any]:
    """What is shown, as JSON but for the `view` and `heat` of queries, which are PNG.

    Args:
        shown: of `ssah_jax.run.show.look`.
        class_names: of all classes.
        multi_label: whether an image may have several.
        step: of the checkpoint.
    """
    answers = shown.answers
    # One scale for all queries: they can be compared.
    heats = np.concatenate([a.places.ravel() for a in answers])
    heats = heats[np.isfinite(heats)]
    least, most = float(heats.min()), float(heats.max())
    stride = -(-len(shown.classes) // _MOST_POINTS)
    return {
        "step": step,
        "class_names": [one_line(name) for name in class_names],
        "first_class": multi_label,
        "classes": shown.classes[::stride].tolist(),
        "points": shown.points[::stride].round(4).tolist(),
        "query_points": shown.query_points.round(4).tolist(),
        "variance": shown.shares.round(6).tolist(),
        "windows": int(np.prod(answers[0].flips.shape[:3])),
        "bits": answers[0].flips.shape[-1],
        "least": least,
        "most": most,
        "queries": [_query(answer, (least, most)) for answer in answers],
    }


def _query(answer: Answer, ends: tuple[float, float]) -> dict[str, Any]:
    least, most = ends
    counts = answer.flips.sum(axis=-1)
    return {
        "id": answer.id,
        "labels": ", ".join(answer.labels or ()),
        "mean": float(counts.mean()),
        "most": int(counts.max()),
        "shares": answer.flips.mean(axis=(0, 1, 2)).round(6).tolist(),
        "view": draw_picture(answer.view),
        "heat": draw_heat(answer.view, (answer.places - least) / (most - least or 1.0)),
    }


def show_page(
    shown: Shown,
    looks: Mapping[str, Any],
    *,
    title: str,
    about: str,
    scales: Sequence[float],
) -> str:
    """The page, as HTML.

    Args:
        shown: of `ssah_jax.run.show.look`.
        looks: of `describe`, of the same.
        title: of the page.
        about: a line below it.
        scales: of A-Net's windows.
    """
    return render(
        "show.html",
        title=title,
        about=about,
        queries=[
            {
                "id": answer.id,
                "labels": ", ".join(answer.labels or ()),
                "png": answer.png,
                "neighbours": answer.neighbours,
            }
            for answer in shown.answers
        ],
        known=any(answer.labels is not None for answer in shown.answers),
        encoded=len(shown.points),
        database=shown.num_database,
        **sections(looks, scales=scales),
    )
