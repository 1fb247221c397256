"""Protocols: who is what in each, by properties, and where draws come from."""

import dataclasses
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from image_files import one_line
from label_sources import (
    FIELDS,
    POOLED,
    arguments_of,
    sets_of,
    shuffled_one_hot,
    source_of,
    train_and_test,
)

from ssah_jax.data.protocols import PROTOCOLS
from ssah_jax.data.splitting import make_split


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=60, deadline=None)
def test_low_label_properties(data):
    num_classes = data.draw(st.integers(1, 5))
    counts = st.lists(st.integers(2, 12), min_size=num_classes, max_size=num_classes)
    train, test = data.draw(counts), data.draw(counts)
    more = data.draw(st.sampled_from([0, 7]))
    source = train_and_test(
        shuffled_one_hot(train, 0), shuffled_one_hot(test, 1), unlabelled=more
    )
    labels_per_class = data.draw(st.integers(1, min(train) - 1))
    num_queries = data.draw(st.integers(1, sum(test)))
    num_validation = data.draw(st.integers(0, sum(test) - num_queries))
    rest = sum(train) - labels_per_class * num_classes
    num_unlabelled = data.draw(st.none() | st.integers(1, rest + more))
    split = make_split(
        source,
        labels_per_class=labels_per_class,
        num_queries=num_queries,
        num_validation=num_validation,
        seed=data.draw(st.integers(0, 2**40)),
        num_unlabelled=num_unlabelled,
    )
    sets = sets_of(split)
    parts = {name: set(indices.tolist()) for name, indices in source.parts.items()}
    assert len(sets["query"]) == num_queries
    assert len(sets["validation"]) == num_validation
    assert not sets["query"] & sets["validation"]
    assert sets["query"] | sets["validation"] <= parts["test"]
    assert sets["labelled"] | sets["database"] == parts["train"]
    assert not sets["labelled"] & sets["database"]
    unlabelled = sets["database"] | parts.get("unlabelled", set())
    if num_unlabelled is None:
        assert sets["unlabelled"] == unlabelled
    else:
        assert sets["unlabelled"] <= unlabelled
        assert len(sets["unlabelled"]) == num_unlabelled
    np.testing.assert_array_equal(
        source.labels[split.labelled].sum(0), labels_per_class
    )
    # As equal as the classes allow: whoever has less than another has no more.
    queries = source.labels[split.query].sum(0)
    left = np.array(test) - queries
    validation = source.labels[split.validation].sum(0)
    for found, available in ((queries, np.array(test)), (validation, left)):
        for count, size in zip(found, available, strict=True):
            assert count == size or count >= found.max() - 1


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=150, deadline=None)
def test_who_is_what_in_every_protocol(data):
    # Multi-label images in any order of the pool, some of no class, some unknown.
    protocol = data.draw(st.sampled_from(sorted(PROTOCOLS)))
    random = np.random.default_rng(data.draw(st.integers(0, 2**20)))
    size, num_classes = 500, 3
    labels = (random.random((size, num_classes)) < 0.4).astype(np.float32)
    names = ["train", "test", "unlabelled"]
    names += ["database"] * data.draw(st.integers(0, 1))
    where = random.integers(len(names), size=size)
    parts = {name: np.flatnonzero(where == i) for i, name in enumerate(names)}
    labels[parts["unlabelled"]] = 0
    source = source_of(labels, parts, multi_label=True)
    labels_per_class = data.draw(st.integers(0, 2))
    if protocol in ("low_label", "54k"):
        labels_per_class = max(labels_per_class, 1)
    if protocol == "nus_wide_81":
        labels_per_class = 0
    num_labelled = 9 * (protocol == "nus_wide_81") * data.draw(st.integers(0, 1))
    by_part = protocol in ("full", "official", "unseen", "listed")
    num_queries = data.draw(st.integers(0 if by_part else 1, 2))
    num_validation = data.draw(st.integers(0, 3))
    split = make_split(
        source,
        protocol=protocol,
        labels_per_class=labels_per_class,
        num_labelled=num_labelled,
        num_queries=num_queries,
        num_validation=num_validation,
        seed=data.draw(st.integers(0, 2**40)),
    )
    split.check(source)
    sets = sets_of(split)
    for name in FIELDS:
        assert getattr(split, name).dtype == np.int64
        assert getattr(split, name).tolist() == sorted(sets[name])
    part = {name: set(indices.tolist()) for name, indices in parts.items()}
    known = set(range(size)) - part["unlabelled"]
    query, validation, labelled, unlabelled, database = (sets[f] for f in FIELDS)
    for name in FIELDS[1:]:
        assert not query & sets[name]
    assert not labelled & unlabelled
    assert not validation & (labelled | unlabelled)
    assert (query | validation | labelled | database) <= known
    if num_queries:
        assert len(query) == num_queries
    assert len(validation) == num_validation
    has_class = labels.any(axis=1)
    if labels_per_class:
        seen = num_classes - (protocol == "unseen")
        assert len(labelled) == labels_per_class * seen
        assert has_class[split.labelled].all()
    if protocol == "unseen":
        hidden = labels[split.query].any(axis=0)
        assert hidden.sum() == 1
        only = (labels.astype(bool) == hidden).all(axis=1)
        seen = ~labels.astype(bool)[:, hidden].any(axis=1)
        assert query <= part["test"] & set(np.flatnonzero(only).tolist())
        assert database == part["train"] & set(np.flatnonzero(only).tolist())
        assert labelled | unlabelled == part["train"] & set(
            np.flatnonzero(seen).tolist()
        )
        assert validation <= database
        return
    if protocol == "low_label":
        assert labelled | database == part["train"]
        assert query | validation <= part["test"]
        assert unlabelled == database | part["unlabelled"]
        return
    assert validation <= database
    if protocol in POOLED:
        everything = known - query
        assert database == everything - (labelled if protocol == "54k" else set())
    else:
        assert query <= part["test"] if num_queries else query == part["test"]
        everything = part["train"]
        listed = protocol == "listed" and "database" in part
        assert database == part["database" if listed else "train"]
    assert labelled <= everything
    assert unlabelled == ((database | part["unlabelled"]) - labelled - validation)
    if not (labels_per_class or num_labelled):
        assert labelled == everything - validation


def test_unseen_classes_depend_on_the_seed_alone():
    train, test = shuffled_one_hot([20] * 9, 0), shuffled_one_hot([10] * 9, 1)
    source = train_and_test(train, test)

    def classes(name="query", **changed):
        split = make_split(source, **arguments_of("unseen") | changed)
        shown = source.labels[getattr(split, name)].any(axis=0)
        return tuple(np.flatnonzero(shown).tolist())

    assert len({classes(seed=seed) for seed in range(8)}) > 4
    assert classes() == classes(num_queries=0, labels_per_class=0, num_validation=0)
    for seed in range(3):
        hidden = classes(seed=seed)
        assert len(hidden) == 2
        for name in ("validation", "database"):
            assert classes(name, seed=seed) == hidden
        for name in ("labelled", "unlabelled"):
            assert classes(name, seed=seed) == tuple(sorted({*range(9)} - {*hidden}))
    # At least one class is held out, and at least two are not.
    shares = {0.01: 1, 0.2: 2, 0.5: 4, 0.99: 7}
    for share, number in shares.items():
        assert len(classes(unseen_share=share, num_queries=0)) == number


def test_more_labels_a_class_than_several_classes_leave():
    # Every image of class c1 also shows c0, and counts for that.
    labels = np.zeros((40, 2), np.float32)
    labels[:, 0] = 1
    labels[:10, 1] = 1
    source = source_of(labels, {"all": np.arange(40)}, multi_label=True)
    numbers = {"protocol": "pooled", "num_queries": 1, "num_validation": 0, "seed": 0}
    with pytest.raises(ValueError) as error:
        make_split(source, labels_per_class=30, **numbers)
    found = re.fullmatch(
        r"labels_per_class: found 30, expected at most (\d+), or 0 for all: (\d+) "
        r"training images show class 'c1', and \d+ of them count for another class of "
        "theirs",
        one_line(error),
    )
    assert int(found[2]) in (9, 10)
    works = int(found[1])
    assert len(make_split(source, labels_per_class=works, **numbers).labelled)
    with pytest.raises(ValueError):
        make_split(source, labels_per_class=works + 1, **numbers)


def test_validation_queries_come_from_a_part_of_theirs():
    train, test = shuffled_one_hot([20] * 3, 0), shuffled_one_hot([10] * 3, 1)
    source = train_and_test(train, test)
    parts = dict(source.parts)
    parts["validation"], parts["test"] = parts["test"][:12], parts["test"][12:]
    source = dataclasses.replace(source, parts=parts)
    for protocol, labels in (("official", 0), ("listed", 0), ("low_label", 2)):
        numbers = {"labels_per_class": labels, "num_queries": 5, "seed": 0}
        split = make_split(source, protocol=protocol, num_validation=12, **numbers)
        np.testing.assert_array_equal(split.validation, parts["validation"])
        assert set(split.query.tolist()) <= set(parts["test"].tolist())
        with pytest.raises(
            ValueError, match="at most 12 of 12 images of the part they"
        ):
            make_split(source, protocol=protocol, num_validation=13, **numbers)
