"""What `ssah search` found, as data and as text."""

import dataclasses
import unicodedata
from typing import Any


@dataclasses.dataclass(frozen=True)
class Hit:
    """An indexed image that was found.

    Attributes:
        rank: 1 for the nearest.
        distance: Hamming distance to the query, in bits, 0 .. K.
        id: what the image was called when it was encoded.
        labels: names of what it shows, empty where not known.
        similarity: cosine of its features and the query's, where hits are ordered by
            it.
    """

    rank: int
    distance: int
    id: str
    labels: tuple[str, ...]
    similarity: float | None = None


@dataclasses.dataclass(frozen=True)
class QueryResult:
    """What was found for one query.

    Attributes:
        query: the query's name.
        hits: nearest first; of equal ones, that indexed first.
    """

    query: str
    hits: tuple[Hit, ...]


def as_table(result: QueryResult) -> str:
    """A result for the terminal: the query's line, then an aligned line a hit."""
    # Not at the top: `ssah search --help` should not wait for data.
    from ssah_jax.retrieval.files import one_line

    lines = [one_line(result.query)]
    ordered = any(hit.similarity is not None for hit in result.hits)
    rows = [("rank", "distance  cosine" if ordered else "distance", "id", "labels")]
    for hit in result.hits:
        labels = ", ".join(one_line(label) for label in hit.labels)
        near = str(hit.distance)
        if hit.similarity is not None:
            near += f"  {hit.similarity:6.3f}"
        rows.append((str(hit.rank), near, one_line(hit.id), labels))
    if len(rows) == 1:
        return f"{lines[0]}\n  nothing found"
    if not any(labels for _, _, _, labels in rows[1:]):
        rows = [(*row[:3], "") for row in rows]
    widths = [max(_width(row[column]) for row in rows) for column in range(3)]
    for rank, distance, name, labels in rows:
        name += " " * (widths[2] - _width(name))
        line = f"  {rank:>{widths[0]}}  {distance:>{widths[1]}}  {name}  {labels}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def as_json(result: QueryResult) -> dict[str, Any]:
    """A result as an object for JSON: `query`, and `results` with a hit's fields.

    `similarity` is among them where there is one.
    """
    return {
        "query": result.query,
        "results": [
            {k: v for k, v in dataclasses.asdict(hit).items() if v is not None}
            for hit in result.hits
        ],
    }


def _width(text: str) -> int:
    """Columns of a terminal that printable text takes."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )
