"""A few queries with what a run finds for them: which to show, and what of them.

Choosing is a function of arrays. `write_gallery` is the only one here that touches a
disk: it leaves `gallery.json` and a picture of each image, for the page of a run.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Int64

from ssah_jax.retrieval.files import one_line, write_atomically

Group = Literal["best", "typical", "worst"]

GROUPS: tuple[Group, ...] = get_args(Group)
"""The groups of queries, in the order in which they are shown."""


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """One of the images nearest to a query.

    Attributes:
        row: in the database, 0 .. N - 1.
        distance: Hamming distance, 0 .. K.
        hit: whether it shares a label with the query.
    """

    row: int
    distance: int
    hit: bool


@dataclasses.dataclass(frozen=True)
class Answer:
    """A query and what is found for it.

    Attributes:
        group: why it is shown.
        row: among the queries, 0 .. Q - 1.
        average_precision: in [0, 1], expected over ties.
        neighbours: by distance, ties in database order.
    """

    group: Group
    row: int
    average_precision: float
    neighbours: tuple[Neighbour, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
    """What `write_gallery` writes.

    Attributes:
        queries: a JSON object each, as `describe` makes them.
        pictures: PNG of every image in them, by its index in the data set.
    """

    queries: list[dict[str, Any]]
    pictures: dict[int, bytes]


def choose_queries(
    average_precision: Float[np.ndarray, "Q"],
    codes: Bool[np.ndarray, "Q K"],
    eligible: Bool[np.ndarray, "Q"],
    *,
    number: int = 3,
) -> dict[Group, list[int]]:
    """The best, the most typical and the worst queries.

    Typical are those nearest to the median of the eligible ones; among equals the
    first query comes first, so the choice is the same at every evaluation. Queries
    with one code are answered alike: a second one is taken only when the codes run
    out. No query is in two groups.

    Args:
        average_precision: of each query, `[Q]` in [0, 1].
        codes: their bits, `[Q, K]`.
        eligible: queries that may be shown, `[Q]`.
        number: of queries a group, >= 0; fewer where there are not enough.

    Returns:
        Rows of queries, by group, the most extreme (the most typical) first.
    """
    rows = np.flatnonzero(eligible)
    score = average_precision[rows]
    middle = np.abs(score - np.median(score)) if len(rows) else score
    # The extremes first: what is typical can be had from many.
    orders: dict[Group, np.ndarray] = {"best": -score, "worst": score}
    orders["typical"] = middle
    chosen: dict[Group, list[int]] = {}
    taken: set[int] = set()
    for group, key in orders.items():
        order = rows[np.argsort(key, kind="stable")].tolist()
        seen: set[bytes] = set()
        first: list[int] = []
        again: list[int] = []
        for row in order:
            if row in taken:
                continue
            code = codes[row].tobytes()
            (again if code in seen else first).append(row)
            seen.add(code)
        chosen[group] = (first + again)[:number]
        taken.update(chosen[group])
    return {group: chosen[group] for group in GROUPS}


def nearest(
    query_codes: Float32[np.ndarray, "n K"],
    database_codes: Float32[np.ndarray, "N K"],
    *,
    number: int = 10,
) -> tuple[Int32[np.ndarray, "n k"], Int64[np.ndarray, "n k"]]:
    """The nearest database items of each query, exactly.

    Args:
        query_codes: `[n, K]`, binarised at 0 (0 is +1).
        database_codes: `[N, K]`, likewise.
        number: of items, >= 0; k is N if that is less.

    Returns:
        distances: Hamming distances `[n, k]`, 0 .. K, ascending.
        rows: of the database, `[n, k]`; equal distances in database order.
    """
    queries = np.packbits(query_codes >= 0, axis=1)
    database = np.packbits(database_codes >= 0, axis=1)
    number = min(number, len(database))
    distances = np.empty((len(queries), number), np.int32)
    rows = np.empty((len(queries), number), np.int64)
    for i, query in enumerate(queries):
        distance = np.bitwise_count(database ^ query[None]).sum(axis=1, dtype=np.int32)
        rows[i] = np.argsort(distance, kind="stable")[:number]
        distances[i] = distance[rows[i]]
    return distances, rows


def answers(
    query_codes: Float32[np.ndarray, "Q K"],
    query_labels: Float32[np.ndarray, "Q C"],
    database_codes: Float32[np.ndarray, "N K"],
    database_labels: Float32[np.ndarray, "N C"],
    average_precision: Float[np.ndarray, "Q"],
    *,
    number: int = 3,
    neighbours: int = 10,
) -> tuple[Answer, ...]:
    """The queries worth showing, with the nearest items of each.

    Queries for which the database holds nothing relevant are not shown: no code could
    have answered them.

    Args:
        query_codes: `[Q, K]`, binarised at 0 (0 is +1).
        query_labels: multi-hot `[Q, C]` in {0, 1}.
        database_codes: `[N, K]`, binarised likewise.
        database_labels: multi-hot `[N, C]` in {0, 1}.
        average_precision: of each query, `[Q]` in [0, 1].
        number: of queries a group, >= 0.
        neighbours: of items a query, >= 0.

    Returns:
        At most `number` a group, the groups in the order of `GROUPS`.
    """
    present = np.any(database_labels, axis=0)[None]
    eligible = np.any(query_labels * present, axis=1)
    chosen = choose_queries(
        average_precision, query_codes >= 0, eligible, number=number
    )
    shown = [(group, row) for group in GROUPS for row in chosen[group]]
    queries = np.asarray([row for _, row in shown], np.int64)
    distances, rows = nearest(query_codes[queries], database_codes, number=neighbours)
    found = []
    for (group, query), distance, row in zip(shown, distances, rows, strict=True):
        hit = (database_labels[row] * query_labels[query][None]).any(axis=1)
        items = zip(row.tolist(), distance.tolist(), hit.tolist(), strict=True)
        average = float(average_precision[query])
        near = tuple(Neighbour(*item) for item in items)
        found.append(Answer(group, query, average, near))
    return tuple(found)


def describe(
    shown: Sequence[Answer],
    *,
    query: Int64[np.ndarray, "Q"],
    database: Int64[np.ndarray, "N"],
    labels: Float32[np.ndarray, "P C"],
    class_names: Sequence[str],
    names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """What `gallery.json` says of each query.

    Args:
        shown: queries and their neighbours.
        query: indices of the queries in a data set of P images, `[Q]`.
        database: indices of the database, `[N]`.
        labels: of all its images, multi-hot `[P, C]` in {0, 1}.
        class_names: of the C classes.
        names: of its P images; their numbers without.

    Returns:
        Objects of `group`, `average_precision`, and of the query `index`, `id` (its
        name), `labels` (names of its classes) and `picture` (the name of a file);
        `neighbours` are objects of the same four, `distance` and `hit`.
    """

    def about(index: int) -> dict[str, Any]:
        return {
            "index": index,
            "id": one_line(names[index]) if names is not None else str(index),
            "labels": [class_names[c] for c in np.flatnonzero(labels[index]).tolist()],
            "picture": _picture_name(index),
        }

    return [
        {
            "group": answer.group,
            "average_precision": answer.average_precision,
            **about(int(query[answer.row])),
            "neighbours": [
                about(int(database[near.row]))
                | {"distance": near.distance, "hit": near.hit}
                for near in answer.neighbours
            ],
        }
        for answer in shown
    ]


def write_gallery(directory: Path, gallery: Gallery) -> None:
    """Writes `gallery.json` and the pictures that it names.

    At every moment the list and its pictures fit together: pictures are written before
    the list, and those of an earlier list removed after it.

    Args:
        directory: of the gallery; made if missing.
        gallery: the queries and their pictures.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for index, png in gallery.pictures.items():
        write_atomically(directory / _picture_name(index), png)
    text = json.dumps({"queries": gallery.queries}, indent=1)
    write_atomically(directory / "gallery.json", text + "\n")
    kept = {_picture_name(index) for index in gallery.pictures}
    for path in directory.glob("image_*.png"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def _picture_name(index: int) -> str:
    return f"image_{index:06d}.png"
