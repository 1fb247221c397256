"""A workdir to report on."""

import json
from pathlib import Path

import numpy as np

from ssah_jax.run.report.gallery import Gallery, write_gallery
from ssah_jax.run.report.pictures import draw_picture


def make_results() -> dict:
    return {
        "map": 0.71234,
        "map_stable": 0.7,
        "map_optimistic": 0.75,
        "map_pessimistic": 0.65,
        "precision_at": {"100": 0.8, "500": 0.7},
        "ndcg": 0.8125,
        "map_per_class": {
            "0": {
                "map": 0.61,
                "optimistic": 0.64,
                "pessimistic": 0.5925,
                "num_query": 40,
            },
            "1": {
                "map": None,
                "optimistic": None,
                "pessimistic": None,
                "num_query": 0,
            },
            "2": {
                "map": 0.83,
                "optimistic": 0.85,
                "pessimistic": 0.8,
                "num_query": 1060,
            },
        },
        "code_statistics": {
            "balance": [0.5, 0.875, 1.0],
            "entropy": 0.5145,
            "max_correlation": 0.25,
            "most_correlated": [0, 1],
            "constant_bits": [2],
            "num_codes": 1500,
            "num_distinct": 1234,
            "largest_share": 0.0425,
        },
        "pr_curve": {
            "radius": [0, 1, 2],
            "precision": [0.0, 0.9, 0.5],
            "recall": [0.0, 0.4, 1.0],
        },
        "precision_radius2": 0.6,
        "protocol": "digits_100",
        "bits": 16,
        "num_query": 100,
        "num_database": 1500,
        "num_labelled": 50,
        "seed": 12345,
        "steps": 200,
        "wall_seconds": 61.25,
        "versions": {"jax": "0.10.2"},
    }


def make_gallery(directory: Path, *, labels: str = "cat", name: str = "a.jpg") -> None:
    """Two queries; the worst one's nearest image has lost its picture."""

    def about(index: int) -> dict:
        picture = f"image_{index:06d}.png"
        return {"index": index, "id": name, "labels": [labels], "picture": picture}

    def near(index: int, *, distance: int, hit: bool) -> dict:
        return about(index) | {"distance": distance, "hit": hit}

    found = [near(11, distance=0, hit=True), near(12, distance=3, hit=False)]
    queries = [
        {"group": "worst", "average_precision": 0.125, **about(3)}
        | {"neighbours": [near(13, distance=7, hit=False)]},
        {"group": "best", "average_precision": 0.975, **about(2)}
        | {"neighbours": found},
    ]
    pictures = {
        index: draw_picture(np.full((4, 4, 1), index, np.uint8))
        for index in (2, 3, 11, 12)
    }
    write_gallery(directory, Gallery(queries, pictures))


def fill(workdir: Path, *, rows=None, results=None, config=None) -> None:
    if rows is not None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (workdir / "metrics.jsonl").write_text(text)
    if results is not None:
        (workdir / "results.json").write_text(json.dumps(results))
    if config is not None:
        (workdir / "config.json").write_text(json.dumps(config))
