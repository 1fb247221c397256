"""Which images are queries, labelled, unlabelled and database: named, seeded splits.

Every draw has its own random stream, named after what it draws, so that asking for
more of one thing does not change another.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32, Int64

from ssah_jax.data import seeded
from ssah_jax.data.sources import Part, Source
from ssah_jax.data.splits import Split, find_leaks, split_from_json, split_to_json

__all__ = ["Split", "find_leaks", "make_split", "split_from_json", "split_to_json"]


def make_split(
    source: Source,
    *,
    protocol: str = "low_label",
    labels_per_class: int,
    num_queries: int,
    num_validation: int,
    seed: int,
    num_unlabelled: int | None = None,
) -> Split:
    """Draws a split by a named protocol.

    Protocol `low_label`, for few labels:

    - labelled: `labels_per_class` images of each class of the training part. Where an
      image has several labels, a random order of all images is walked, and an image
      counts for the first of its classes, by column, that still has room;
    - unlabelled: all other training images, or `num_unlabelled` of them at random;
    - database: all training images that are not labelled, used for training or not;
    - query: `num_queries` images of the test part, as equally from all classes as
      their sizes allow, by the same walk;
    - validation: `num_validation` images of the rest of the test part, likewise.

    Each of the four draws has its own random stream: a change of `num_validation` or
    `num_unlabelled` changes nothing else, and one of `labels_per_class` changes
    neither query nor validation.

    Args:
        source: the data set.
        protocol: the name of the rule.
        labels_per_class: labelled images of each class, at least 1.
        num_queries: queries, at least 1.
        num_validation: validation queries, at least 1.
        seed: of the draws; any integer.
        num_unlabelled: how many unlabelled images to train with; None for all.

    Returns:
        A split that has passed its `check`.

    Raises:
        ValueError: an unknown protocol, a number below 1 or above what the data set
            holds, or labels that are not multi-hot.
    """
    if protocol not in _PROTOCOLS:
        raise ValueError(
            f"protocol: found {protocol!r}, accepted are "
            f"{', '.join(sorted(_PROTOCOLS))}"
        )
    for name, found in (
        ("labels_per_class", labels_per_class),
        ("num_queries", num_queries),
        ("num_validation", num_validation),
        ("num_unlabelled", num_unlabelled),
    ):
        if found is not None and found < 1:
            raise ValueError(f"{name}: found {found}, expected at least 1")
    for name, part in (("train", source.train), ("test", source.test)):
        _check_labels(f"source.{name}", part, multi_label=source.multi_label)
    split = _PROTOCOLS[protocol](
        source,
        labels_per_class=labels_per_class,
        num_queries=num_queries,
        num_validation=num_validation,
        seed=seed,
        num_unlabelled=num_unlabelled,
    )
    split.check(source)
    return split


def _low_label(
    source: Source,
    *,
    labels_per_class: int,
    num_queries: int,
    num_validation: int,
    seed: int,
    num_unlabelled: int | None,
) -> Split:
    """The protocol `low_label`; see `make_split`."""
    if num_queries + num_validation > len(source.test):
        raise ValueError(
            f"num_queries + num_validation: found {num_queries} + {num_validation} = "
            f"{num_queries + num_validation}, expected at most {len(source.test)}, "
            "the number of test images"
        )
    labels = source.train.labels
    order = seeded.permutation(seed, len(labels), "labelled")
    taken, room = _walk(labels[order], np.full(source.num_classes, labels_per_class))
    if room.any():
        lacking = int(np.argmax(room))
        raise ValueError(
            f"labels_per_class: found {labels_per_class}, expected at most "
            f"{labels_per_class - room[lacking]}, the number of training images left "
            f"for class {source.class_names[lacking]!r}"
        )
    labelled = np.sort(order[taken])
    database = np.sort(order[~taken])
    unlabelled = database
    if num_unlabelled is not None:
        if num_unlabelled > len(database):
            raise ValueError(
                f"num_unlabelled: found {num_unlabelled}, expected at most "
                f"{len(database)}, the number of training images without labels"
            )
        chosen = seeded.permutation(seed, len(database), "unlabelled")
        unlabelled = np.sort(database[chosen[:num_unlabelled]])
    if not len(database):
        raise ValueError(
            f"labels_per_class: found {labels_per_class}, expected fewer: all "
            f"{len(labels)} training images are labelled and the database is empty"
        )
    test = source.test.labels
    query = _draw_balanced(
        test, np.arange(len(test)), num_queries, seed=seed, name="query"
    )
    rest = np.setdiff1d(np.arange(len(test)), query)
    validation = _draw_balanced(
        test, rest, num_validation, seed=seed, name="validation"
    )
    return Split(
        protocol="low_label",
        seed=seed,
        query=query,
        validation=validation,
        labelled=labelled,
        unlabelled=unlabelled,
        database=database,
    )


_PROTOCOLS: dict[str, Callable[..., Split]] = {"low_label": _low_label}


def _check_labels(name: str, part: Part, *, multi_label: bool) -> None:
    """Raises ValueError unless labels are multi-hot, or one-hot where they must be."""
    wrong = ~np.isin(part.labels, (0, 1))
    if wrong.any():
        raise ValueError(
            f"{name}.labels: found the value {part.labels[wrong][0]}, expected 0 or 1"
        )
    counts = part.labels.sum(axis=1)
    if not multi_label and (counts != 1).any():
        row = int(np.argmax(counts != 1))
        raise ValueError(
            f"{name}.labels: found {counts[row]:.0f} labels of image {row}, expected 1 "
            "because the source is not multi-label"
        )


def _walk(
    labels: Float32[np.ndarray, "N C"], room: Int64[np.ndarray, "C"]
) -> tuple[Bool[np.ndarray, "N"], Int64[np.ndarray, "C"]]:
    """Takes images in order, each for its first class with room, until all is full.

    Args:
        labels: multi-hot labels in the order of the walk, `[N, C]`.
        room: how many images each class may take, `[C]`.

    Returns:
        Which images were taken, `[N]`, and the room that is left, `[C]`.
    """
    left = room.tolist()
    places = sum(left)
    taken = np.zeros(len(labels), bool)
    rows, classes = np.nonzero(labels)
    for row, label in zip(rows.tolist(), classes.tolist(), strict=True):
        if not places:
            break
        if left[label] and not taken[row]:
            taken[row] = True
            left[label] -= 1
            places -= 1
    return taken, np.array(left, np.int64)


def _draw_balanced(
    labels: Float32[np.ndarray, "N C"],
    candidates: Int64[np.ndarray, "M"],
    number: int,
    *,
    seed: int,
    name: str,
) -> Int64[np.ndarray, "n"]:
    """Draws `number <= M` of the candidates, sorted, as equally from all classes.

    Places go equally to the classes that still have images, those that have taken
    fewest first, until all places are filled; images without any label come last.
    """
    num_classes = labels.shape[1]
    class_order = seeded.permutation(seed, num_classes, name, "classes")
    left = candidates[seeded.permutation(seed, len(candidates), name)]
    filled = np.zeros(num_classes, np.int64)
    drawn = left[:0]
    while len(drawn) < number:
        missing = number - len(drawn)
        open_classes = class_order[labels[left].any(axis=0)[class_order]]
        if not len(open_classes):
            return np.sort(np.concatenate([drawn, left[:missing]]))
        fewest_first = open_classes[np.argsort(filled[open_classes], kind="stable")]
        room = np.zeros(num_classes, np.int64)
        room[fewest_first] = missing // len(fewest_first)
        room[fewest_first[: missing % len(fewest_first)]] += 1
        taken, unused = _walk(labels[left], room)
        filled += room - unused
        drawn = np.concatenate([drawn, left[taken]])
        left = left[~taken]
    return np.sort(drawn)
