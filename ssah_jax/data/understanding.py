"""What was understood of a data set: told in a few lines, and doubted.

Most mistakes in a data set are no errors of its files: a split taken for classes, two
spellings of one class, tags that were never taken apart. What is certain is refused,
the rest is shown.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from ssah_jax.data.finding import describe_passed_over
from ssah_jax.data.naming import (
    check_different,
    look_alikes,
    part_of,
    twin_numbers,
)
from ssah_jax.data.source import DataError, Source
from ssah_jax.data.splits import Split, either, without

_LARGEST, _SMALLEST = 4, 2
_MAX_NAMED = 5
# What programs write where a value is absent.
_ABSENT = {"nan", "none", "null", "na", "n/a", "<na>", "nat", "#n/a", "undefined"}
_ROLES = ("query", "validation", "labelled", "unlabelled", "database")
# An image of a class with so much fewer images than the largest is easily forgotten.
_IMBALANCE = 10


@dataclasses.dataclass(frozen=True)
class Understanding:
    """What was made of a data set, ready to be shown and kept.

    Attributes:
        source: name of the data set.
        num_images: N, with those without labels.
        class_sizes: images of each class, from the largest class to the smallest.
        parts: images of each part.
        passed_over: how many files and folders of each kind were not taken.
        notes: what was understood otherwise than it is written.
        num_missing: images that are listed and absent.
        protocol: of the split; empty where there is none.
        roles: images of each role of the split.
        num_unanswerable: queries that share no class with any database image; they
            count 0 in mAP, as in most published tables.
        warnings: what is probably not meant so, a line each.
    """

    source: str
    num_images: int
    class_sizes: Mapping[str, int]
    parts: Mapping[str, int]
    passed_over: Mapping[str, int]
    notes: tuple[str, ...]
    num_missing: int
    protocol: str
    roles: Mapping[str, int]
    num_unanswerable: int
    warnings: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """The same for people, in two or three lines, and one for each warning."""
        parts = ", ".join(f"{name} {count:,}" for name, count in self.parts.items())
        said = f"{self.source}: {self.num_images:,} images"
        if self.class_sizes:
            said += (
                f" ({parts or 'no parts'}) of {len(self.class_sizes):,} classes: "
                f"{_shortened(self.class_sizes)}"
            )
        else:
            said += " without labels, to learn from; nothing can be measured"
        yield said
        aside = describe_passed_over(self.passed_over)
        more = [f"passed over: {aside}"] if aside else []
        if self.num_missing:
            more.append(f"{self.num_missing:,} listed images are not there")
        more += self.notes
        if more:
            yield "; ".join(more)
        if self.protocol and self.class_sizes:
            roles = ", ".join(f"{role} {n:,}" for role, n in self.roles.items())
            yield f"protocol {self.protocol}: {roles}"
        yield from (f"warning: {line}" for line in self.warnings)

    def to_json(self) -> dict[str, Any]:
        """The fields, as JSON keeps them, and `said`, the lines."""
        return dataclasses.asdict(self) | {"said": list(self.lines())}


def understand(source: Source, split: Split | None = None) -> Understanding:
    """What was made of a data set and its split.

    Args:
        source: the data set; no image is read.
        split: of it; None before there is one.

    Raises:
        DataError: what was understood can only be a mistake; see `check_sense`.
    """
    check_sense(source, split)
    sizes = _class_sizes(source)
    order = np.argsort(-sizes, kind="stable").tolist()
    class_sizes = {source.class_names[i]: int(sizes[i]) for i in order}
    warnings = list(_warnings(source, class_sizes)) if class_sizes else []
    unanswerable = 0
    if split is not None and len(split.query):
        unanswerable = int(_unanswerable(source, split).sum())
        warnings += _split_warnings(source, split, unanswerable)
    return Understanding(
        source=source.name,
        num_images=len(source),
        class_sizes=class_sizes,
        parts={name: len(rows) for name, rows in source.parts.items()},
        passed_over=dict(source.passed_over),
        notes=source.notes,
        num_missing=len(source.missing),
        protocol=split.protocol if split else "",
        roles={role: len(getattr(split, role)) for role in _ROLES} if split else {},
        num_unanswerable=unanswerable,
        warnings=tuple(warnings),
    )


def find_unanswerable(
    query_labels: Float32[np.ndarray, "Q C"],
    database_labels: Float32[np.ndarray, "N C"],
) -> Bool[np.ndarray, "Q"]:
    """Which queries share no class with any image of the database.

    Args:
        query_labels: multi-hot labels in {0, 1}, `[Q, C]`.
        database_labels: likewise, `[N, C]`.

    Returns:
        `[Q]`.
    """
    answered = database_labels.any(axis=0)
    return np.asarray(~query_labels[:, answered].any(axis=1))


def _unanswerable(source: Source, split: Split) -> Bool[np.ndarray, "Q"]:
    return find_unanswerable(source.labels[split.query], source.labels[split.database])


def check_sense(source: Source, split: Split | None = None) -> None:
    """Refuses what can only be a mistake.

    Args:
        source: the data set; without classes there is nothing to look at.
        split: of it, if there is one.

    Raises:
        DataError: one line: class names that differ only in case, blanks or Unicode
            form, or are one number; classes called like the parts of a split; fewer
            than two classes with an image; no two images of one class; no query that
            the database can answer; or queries of the test part with a class that no
            other part has, in a set with one label an image.
    """
    if not source.num_classes:
        return
    where = source.name
    check_different(source.class_names, where=where)
    if twins := twin_numbers(source.class_names):
        raise DataError(
            f"{where}: found the class names {twins[0]!r} and {twins[1]!r}, one number "
            "written in two ways, expected one name for one class"
        )
    parts = {name: part_of(name) for name in source.class_names}
    if all(parts.values()) and len(set(parts.values())) > 1:
        raise DataError(
            f"{where}: found the classes {_few(source.class_names)}, which are the "
            "parts of a split, expected classes of images"
        )
    sizes = _class_sizes(source)
    if np.count_nonzero(sizes) < 2:
        raise DataError(
            f"{where}: found {np.count_nonzero(sizes)} classes with images in "
            f"{len(source):,} images, expected at least 2"
        )
    if sizes.max() < 2:
        raise DataError(
            f"{where}: found {source.num_classes:,} classes "
            f"({_few(source.class_names)}) and no two images of one class, expected "
            "classes that several images show; are these the names of images?"
        )
    if split is not None:
        _check_answers(source, split)


def _check_answers(source: Source, split: Split) -> None:
    unanswerable = _unanswerable(source, split)
    if unanswerable.all():
        raise DataError(
            f"{source.name}: found no query of {len(split.query):,} that shares a "
            "class with a database image, expected queries that can be answered"
        )
    test = source.part("test")
    if source.multi_label or not np.isin(split.query, test).all():
        return
    apart = either(test, source.part("validation"))
    others = without(np.arange(len(source)), apart)
    untrained = source.labels[split.query].any(axis=0)
    untrained &= ~source.labels[others].any(axis=0)
    names = [source.class_names[i] for i in np.flatnonzero(untrained).tolist()]
    if names:
        count = int(source.labels[split.query][:, untrained].sum())
        raise DataError(
            f"{source.name}: found {count:,} queries of {len(names):,} classes that "
            f"no image outside of the test part shows ({_few(names)}), expected "
            "queries of classes that are trained or searched; is a name spelled in "
            "another way?"
        )


def _class_sizes(source: Source) -> np.ndarray:
    return np.asarray(source.labels.sum(axis=0, dtype=np.float64), np.int64)


def _warnings(source: Source, class_sizes: Mapping[str, int]) -> Iterator[str]:
    for group in look_alikes(source.class_names)[:_MAX_NAMED]:
        yield f"class names that look alike: {', '.join(map(repr, group))}"
    absent = [name for name in source.class_names if name.casefold() in _ABSENT]
    if absent:
        yield (
            f"classes called {_few(absent)}: if that is how a table writes an absent "
            "value, leave the cell empty"
        )
    folded = {name.casefold() for name in source.class_names}
    joined = [
        name
        for name in source.class_names
        if len(words := name.casefold().split()) > 1 and folded.issuperset(words)
    ]
    if joined:
        yield (
            f"class names made of others: {_few(joined)}; data.separator=' ' takes "
            "tags with blanks between them apart"
        )
    for mark in ",;|":
        marked = [name for name in source.class_names if mark in name]
        if source.name == "table" and 2 * len(marked) >= len(source.class_names):
            yield (
                f"classes with {mark!r} in their names: {_few(marked)}; if these are "
                f"several tags, data.separator={mark!r} takes them apart"
            )
    named = [name for name in source.class_names if part_of(name)]
    if named and len(named) < len(source.class_names):
        yield f"classes called like parts of a split: {_few(named)}"
    counts = list(class_sizes.values())
    empty = [name for name, count in class_sizes.items() if not count]
    if empty:
        yield f"{len(empty):,} classes without an image: {_few(empty)}"
    elif counts[0] >= _IMBALANCE * counts[-1]:
        largest, smallest = next(iter(class_sizes)), list(class_sizes)[-1]
        yield (
            f"imbalance: {largest!r} has {counts[0]:,} images, {smallest!r} has "
            f"{counts[-1]:,}"
        )
    single = [name for name, count in class_sizes.items() if count == 1]
    if 2 * len(single) > len(counts):
        yield f"{len(single):,} classes have one image alone: {_few(single)}"
    known = np.ones(len(source), bool)
    known[source.part("unlabelled")] = False
    without = known & ~source.labels.any(axis=1)
    if without.any():
        where = [
            f"{np.count_nonzero(without[rows]):,} in {part}"
            for part, rows in source.parts.items()
            if without[rows].any()
        ]
        yield (
            f"{np.count_nonzero(without):,} images show none of the classes "
            f"({', '.join(where)}): nothing answers them, and they answer nothing"
        )


def _split_warnings(source: Source, split: Split, unanswerable: int) -> Iterator[str]:
    if unanswerable:
        first = split.query[np.argmax(_unanswerable(source, split))]
        yield (
            f"{unanswerable:,} of {len(split.query):,} queries share no class with any "
            f"database image (first {source.describe(int(first))}); they count 0 in "
            "mAP, as in most published tables"
        )
    if split.num_leaks:
        yield (
            f"{split.num_leaks:,} queries were also in the database or training, and "
            "were taken out of these"
        )
    official = [p for p in ("train", "test", "database") if len(source.part(p))]
    drawn = np.concatenate([split.labelled, split.database])
    if (
        "test" in official
        and len(official) > 1
        and np.isin(source.parts["test"], drawn).any()
    ):
        named = " and ".join(official)
        also = "" if "train" in official else ", once it has a part train too"
        yield (
            f"the data set says which images are {named}, and protocol "
            f"{split.protocol!r} draws anew from all; data.protocol=listed takes them "
            f"as they are{also}"
        )
    untrained = ~source.labels[split.labelled].any(axis=0)
    asked = source.labels[split.query].any(axis=0) & untrained
    if asked.any() and len(split.labelled) and split.protocol != "unseen":
        names = [source.class_names[i] for i in np.flatnonzero(asked).tolist()]
        yield (
            f"{len(names):,} classes of queries have no labelled image, so training "
            f"never sees their names: {_few(names)}"
        )


def _shortened(class_sizes: Mapping[str, int]) -> str:
    words = [f"{name} {count:,}" for name, count in class_sizes.items()]
    if len(words) > _LARGEST + _SMALLEST + 1:
        words = [*words[:_LARGEST], "...", *words[-_SMALLEST:]]
    return ", ".join(words)


def _few(names: Any) -> str:
    shown = ", ".join(names[:_MAX_NAMED])
    return shown + (", ..." if len(names) > _MAX_NAMED else "")
