"""README's picture, of any finished run: some queries, each with its ten nearest.

    python docs/make_picture.py --workdir RUN [--out docs/results/neighbours.png]

Queries are the first of the run's report in each group, by average precision, of
classes that differ where they can: nobody chose them. Wrong neighbours are red.
"""

import argparse
import json
from pathlib import Path

import matplotlib.image
from matplotlib.figure import Figure

_NEAREST = 10


_ROWS = ("best", "typical", "typical", "worst")


def draw(gallery: Path) -> Figure:
    """A row a query: itself, then its nearest images with their distances in bits."""
    queries = json.loads((gallery / "gallery.json").read_text())["queries"]
    shown: list[dict] = []
    for group in _ROWS:
        seen = [query["labels"] for query in shown]
        found = [query for query in queries if query["group"] == group]
        others = [query for query in found if query["labels"] not in seen]
        left = [query for query in others or found if query not in shown]
        shown += left[:1]
    figure = Figure(figsize=(10, 0.98 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), _NEAREST + 1, squeeze=False)
    for places, query in zip(grid, shown, strict=True):
        for place, image in zip(places, [query, *query["neighbours"]], strict=False):
            picture = matplotlib.image.imread(gallery / image["picture"])
            place.imshow(picture, cmap="gray", vmin=0, vmax=1)
            place.set(xticks=[], yticks=[])
            if image is query:
                place.set_title("query", fontsize=8, pad=2, weight="bold")
                place.set_ylabel(query["group"], fontsize=8)
                place.spines[:].set(color="black", linewidth=2)
                continue
            place.set_title(f"{image['distance']}", fontsize=8, pad=2)
            colour, width = ("0.8", 0.5) if image["hit"] else ("red", 2)
            place.spines[:].set(color=colour, linewidth=width)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument(
        "--out", default=Path(__file__).parent / "results/neighbours.png"
    )
    given = parser.parse_args()
    draw(given.workdir / "gallery").savefig(given.out, dpi=110)
