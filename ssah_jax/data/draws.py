"""How images are drawn: seeded, and as equally from all classes as these allow."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float32, Int64

from ssah_jax.data import seeded
from ssah_jax.data.source import Source


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The arguments of `make_split`."""

    protocol: str
    labels_per_class: int
    num_labelled: int
    num_queries: int
    num_validation: int
    num_unlabelled: int | None
    unseen_share: float
    seed: int


LABELLED_LEAVE_DATABASE = ("low_label", "54k")
"""Protocols whose labelled images are not in the database."""

UNIFORM = ("nus_wide_81",)
"""Protocols that draw whatever the classes."""


def draw_queries(
    source: Source, candidates: Int64[np.ndarray, "M"], numbers: Numbers, *, of: str
) -> Int64[np.ndarray, "Q"]:
    """Draws the queries, or takes all candidates for 0; `of` is what these are."""
    if not len(candidates):
        raise ValueError(
            f"protocol {numbers.protocol!r}: found no {of}, expected at least 1"
        )
    if numbers.num_queries > len(candidates):
        raise ValueError(
            f"num_queries: found {numbers.num_queries}, expected at most "
            f"{len(candidates)}, the number of {of}"
        )
    if not numbers.num_queries:
        return candidates
    return draw_some(
        source.labels, candidates, numbers.num_queries, numbers, name="query"
    )


def draw_labelled(
    source: Source,
    training: Int64[np.ndarray, "M"],
    numbers: Numbers,
    *,
    hidden: Bool[np.ndarray, "C"] | None,
) -> Int64[np.ndarray, "L"]:
    """Draws labelled images, sorted, before validation queries may leave them.

    Args:
        source: the data set.
        training: those to draw from, or to take as they are.
        numbers: how many.
        hidden: classes that none is drawn for; None for none.

    Raises:
        ValueError: there are not so many.
    """
    if numbers.num_labelled > len(training):
        raise ValueError(
            f"num_labelled: found {numbers.num_labelled}, expected at most "
            f"{len(training)}, the number of images that are not queries"
        )
    if numbers.num_labelled:
        return draw_some(
            source.labels, training, numbers.num_labelled, numbers, name="labelled"
        )
    if not numbers.labels_per_class:
        return training
    order = training[seeded.permutation(numbers.seed, len(training), "labelled")]
    open_classes = np.ones(source.num_classes, np.int64)
    if hidden is not None:
        open_classes[hidden] = 0
    room = numbers.labels_per_class * open_classes
    taken, room = _walk(source.labels[order], room)
    if room.any():
        raise ValueError(_too_many_labels(source, order, room, open_classes, numbers))
    return np.sort(order[taken])


def _too_many_labels(
    source: Source,
    order: Int64[np.ndarray, "M"],
    room: Int64[np.ndarray, "C"],
    open_classes: Int64[np.ndarray, "C"],
    numbers: Numbers,
) -> str:
    """Why some class has too few labelled images, and how many it can have."""
    wanted, labels = numbers.labels_per_class, source.labels[order]
    lacking = int(np.argmax(room))
    name = repr(source.class_names[lacking])
    showing = int(np.sum(labels[:, lacking] > 0))
    zero = "" if numbers.protocol in LABELLED_LEAVE_DATABASE else ", or 0 for all"
    if not showing:
        return (
            f"labels_per_class: found {wanted}, but no training image of class {name} "
            f"is left, expected some of each class{zero}"
        )
    if not source.multi_label:
        return (
            f"labels_per_class: found {wanted}, expected at most {showing}, the number "
            f"of training images left for class {name}{zero}"
        )
    least, most = 0, wanted
    while most - least > 1:
        middle = (least + most) // 2
        if _walk(labels, middle * open_classes)[1].any():
            most = middle
        else:
            least = middle
    elsewhere = showing - (wanted - int(room[lacking]))
    return (
        f"labels_per_class: found {wanted}, expected at most {least}{zero}: {showing} "
        f"training images show class {name}, and {elsewhere} of them count for another "
        "class of theirs"
    )


def draw_some(
    labels: Float32[np.ndarray, "N C"],
    candidates: Int64[np.ndarray, "M"],
    number: int,
    numbers: Numbers,
    *,
    name: str,
) -> Int64[np.ndarray, "n"]:
    """Draws `number <= M` of the candidates, sorted, in the manner of the protocol."""
    seed = numbers.seed
    if numbers.protocol not in UNIFORM:
        return _draw_balanced(labels, candidates, number, seed=seed, name=name)
    order = candidates[seeded.permutation(seed, len(candidates), name)]
    # An image without any class is no use as a query, nor for its label.
    shown = labels[order].any(axis=1)
    return np.sort(np.concatenate([order[shown], order[~shown]])[:number])


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
