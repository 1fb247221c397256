"""Splits drawn by a named protocol, and what none of them takes."""

import dataclasses

import numpy as np

from ssah_jax.data import seeded
from ssah_jax.data.draws import (
    LABELLED_LEAVE_DATABASE,
    UNIFORM,
    Numbers,
    draw_labelled,
    draw_some,
)
from ssah_jax.data.listing import UNLABELLED
from ssah_jax.data.protocols import PROTOCOLS, Roles, pooled
from ssah_jax.data.source import Source
from ssah_jax.data.splits import Split, without

ON_LEAK = ("raise", "drop")
"""What may become of queries that are in the database too."""


def make_split(
    source: Source,
    *,
    protocol: str = "low_label",
    labels_per_class: int,
    num_queries: int,
    num_validation: int,
    seed: int,
    num_labelled: int = 0,
    unseen_share: float = 0.25,
    num_unlabelled: int | None = None,
    on_leak: str = "raise",
) -> Split:
    """Draws a split by a named protocol; the module says what each of them does.

    Labelled images: a random order of the images is walked until each class has
    `labels_per_class` of them. An image of several classes counts for the first of
    them, by column, that still has room; one without any is never taken.

    Queries: the same walk, with as equal a room for all classes as their sizes allow;
    images without any class come last.

    Validation queries are drawn like queries, from database images that are not
    labelled, and stay in the database; `low_label` draws them from the rest of part
    `test` instead. Where all labels are used and too few other images are left, they
    come first and the labelled images are the rest. Training never sees them, not even
    without labels: they are to do what queries do. In `unseen` they show unseen
    classes, the only ones that its database can answer for; model selection by them
    uses labels that the protocol hides, and a strict run does without.

    Each draw has its own random stream: a change of `num_validation` changes nothing
    that is drawn, save that `unlabelled` (and `labelled` where all labels are used)
    leaves out other images, and one of `labels_per_class` does not change the
    queries. Protocols share the streams, so `54k` and `59k` differ in the database
    alone.

    Args:
        source: the data set.
        protocol: the name of the rule, one of `PROTOCOLS`.
        labels_per_class: labelled images of each class; 0 for all, where labelled
            images stay in the database.
        num_queries: queries; 0 for all of the part they come from, where they come
            from one.
        num_validation: validation queries; may be 0.
        seed: of the draws; any integer.
        num_labelled: labelled images of any class, for `nus_wide_81` only; 0 for all.
        unseen_share: share of classes that `unseen` holds out, in (0, 1); at least one
            class is, and at least two are not.
        num_unlabelled: how many unlabelled images to train with; None for all.
        on_leak: what queries do that the data set also has in the part of the labelled
            or the database, as some published lists do: "raise", or "drop" takes them
            out of these and counts them in `Split.num_leaks`.

    Returns:
        A split that has passed its `check`.

    Raises:
        ValueError: an unknown protocol, a part that it needs and the source lacks, a
            number that the source cannot serve, labels that are not multi-hot, or
            queries that lie in the database.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"protocol: found {protocol!r}, accepted are {', '.join(PROTOCOLS)}"
        )
    if on_leak not in ON_LEAK:
        raise ValueError(f"on_leak: found {on_leak!r}, accepted are raise, drop")
    numbers = Numbers(
        protocol=protocol,
        labels_per_class=labels_per_class,
        num_labelled=num_labelled,
        num_queries=num_queries,
        num_validation=num_validation,
        num_unlabelled=num_unlabelled,
        unseen_share=unseen_share,
        seed=seed,
    )
    _check_numbers(numbers)
    _check_labels(source)
    if not source.num_classes:
        return _without_labels(source, seed)
    roles, num_leaks = PROTOCOLS[protocol](source, numbers), 0
    if on_leak == "drop":
        roles, num_leaks = _without_leaks(roles)
    split = _draw(source, roles, numbers)
    split = dataclasses.replace(split, num_leaks=num_leaks)
    split.check(source)
    return split


def _without_labels(source: Source, seed: int) -> Split:
    """All images are there to learn from and to be found, none to measure by."""
    if len(source) < 2:
        raise ValueError(
            f"{source.name}: found {len(source)} images without labels, expected at "
            "least 2 to learn from"
        )
    nothing, everything = np.zeros(0, np.int64), np.arange(len(source))
    split = Split(
        protocol=UNLABELLED,
        seed=seed,
        query=nothing,
        validation=nothing,
        labelled=nothing,
        unlabelled=everything,
        database=everything,
    )
    split.check(source)
    return split


def _without_leaks(roles: Roles) -> tuple[Roles, int]:
    """The roles without queries that are something else too; how many there were."""
    sets = ("training", "database", "unlabelled")
    other = {name: getattr(roles, name) for name in sets}
    leaks = np.isin(roles.query, np.concatenate(list(other.values())))
    kept = {name: without(rows, roles.query) for name, rows in other.items()}
    return dataclasses.replace(roles, **kept), int(leaks.sum())


def _draw(source: Source, roles: Roles, numbers: Numbers) -> Split:
    """Draws everything but the queries."""
    database, validation = roles.database, roles.validation
    labelled = draw_labelled(source, roles.training, numbers, hidden=roles.hidden)
    if numbers.protocol in LABELLED_LEAVE_DATABASE:
        database = without(database, labelled)
        if not len(database):
            raise ValueError(
                f"labels_per_class: found {numbers.labels_per_class}, expected fewer: "
                f"all {len(labelled)} images are labelled and the database is empty"
            )
    free = without(database if validation is None else validation, labelled)
    all_labelled = not (numbers.labels_per_class or numbers.num_labelled)
    if validation is None and all_labelled and len(free) < numbers.num_validation:
        free = database
    most = len(free) if validation is not None else min(len(free), len(database) - 1)
    if numbers.num_validation > max(most, 0):
        where = f"of {len(database)} database images"
        if roles.validation is not None:
            where = f"of {len(roles.validation)} images of the part they come from"
        none = "; 0 is for none, with eval.every=0" if most < 1 else ""
        raise ValueError(
            f"num_validation: found {numbers.num_validation}, expected at most "
            f"{max(most, 0)} {where}{none}"
        )
    validation = draw_some(
        source.labels, free, numbers.num_validation, numbers, name="validation"
    )
    # An order of all, then without the validation images: fewer of those change little.
    unlabelled = without(roles.unlabelled, labelled)
    if numbers.num_unlabelled is not None:
        order = seeded.permutation(numbers.seed, len(unlabelled), "unlabelled")
        unlabelled = unlabelled[order]
    unlabelled = unlabelled[~np.isin(unlabelled, validation)]
    if (numbers.num_unlabelled or 0) > len(unlabelled):
        raise ValueError(
            f"num_unlabelled: found {numbers.num_unlabelled}, expected at most "
            f"{len(unlabelled)}, the number of training images without labels"
        )
    split = Split(
        protocol=numbers.protocol,
        seed=numbers.seed,
        query=roles.query,
        validation=validation,
        labelled=np.sort(without(labelled, validation)),
        unlabelled=np.sort(unlabelled[: numbers.num_unlabelled]),
        database=database,
    )
    for name in ("labelled", "database"):
        if not len(getattr(split, name)):
            raise ValueError(
                f"protocol {numbers.protocol!r}: found no {name} images, expected at "
                "least 1"
            )
    return split


def _check_numbers(numbers: Numbers) -> None:
    """Raises ValueError for numbers that no source could serve."""
    why = f"because of protocol {numbers.protocol!r}"
    least = {"labels_per_class": 0, "num_labelled": 0, "num_validation": 0}
    least |= {"num_queries": 0, "num_unlabelled": 1}
    for name, smallest in least.items():
        found = getattr(numbers, name)
        if found is not None and found < smallest:
            raise ValueError(f"{name}: found {found}, expected at least {smallest}")
    if not 0 < numbers.unseen_share < 1:
        raise ValueError(
            f"unseen_share: found {numbers.unseen_share}, expected more than 0 and "
            "less than 1"
        )
    needed = []
    if numbers.protocol in LABELLED_LEAVE_DATABASE:
        needed.append("labels_per_class")
    if numbers.protocol == "low_label" or PROTOCOLS[numbers.protocol] is pooled:
        needed.append("num_queries")
    for name in needed:
        if not getattr(numbers, name):
            raise ValueError(f"{name}: found 0, expected at least 1 {why}")
    unused, other = "num_labelled", "labels_per_class"
    if numbers.protocol in UNIFORM:
        unused, other = other, unused
    if getattr(numbers, unused):
        raise ValueError(
            f"{unused}: found {getattr(numbers, unused)}, expected 0 {why}, which "
            f"takes {other}"
        )


def _check_labels(source: Source) -> None:
    """Raises ValueError unless labels are multi-hot, or one-hot where they must be."""
    labels = source.labels
    wrong = (labels != 0) & (labels != 1)
    if wrong.any():
        raise ValueError(
            f"source.labels: found the value {labels[wrong][0]}, expected 0 or 1"
        )
    counts = labels.sum(axis=1)
    unknown = source.part("unlabelled")
    if counts[unknown].any():
        image = unknown[np.argmax(counts[unknown] > 0)]
        raise ValueError(
            f"source.labels: found {counts[image]:.0f} labels of image {image}, "
            "expected none because it is in part 'unlabelled'"
        )
    if not source.multi_label:
        counts[unknown] = 1
        if (counts != 1).any():
            image = np.argmax(counts != 1)
            raise ValueError(
                f"source.labels: found {counts[image]:.0f} labels of image {image}, "
                "expected 1 because the source is not multi-label"
            )
