"""Splits that cannot be made, and splits that are wrong."""

import dataclasses
import json

import numpy as np
import pytest
from image_files import one_line
from label_sources import (
    FIELDS,
    SIZES,
    arguments_of,
    shuffled_one_hot,
    sizes_of,
    source_of,
    train_and_test,
)

from ssah_jax.data.protocols import PROTOCOLS
from ssah_jax.data.splits import split_from_json, split_to_json
from ssah_jax.data.splitting import make_split


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"labels_per_class": 26},
            "labels_per_class: found 26, expected at most 25, the number of training "
            "images left for class 'c1'",
        ),
        (
            {"num_queries": 36},
            "num_queries + num_validation: found 36 + 6 = 42, expected at most 41, "
            "the number of test images",
        ),
        (
            {"num_validation": 30},
            "num_queries + num_validation: found 12 + 30 = 42, expected at most 41, "
            "the number of test images",
        ),
        (
            {"num_unlabelled": 81},
            "num_unlabelled: found 81, expected at most 80, the number of training "
            "images without labels",
        ),
        ({"labels_per_class": -1}, "labels_per_class: found -1, expected at least 0"),
        ({"num_queries": -1}, "num_queries: found -1, expected at least 0"),
        ({"num_validation": -1}, "num_validation: found -1, expected at least 0"),
        ({"num_labelled": -1}, "num_labelled: found -1, expected at least 0"),
        ({"num_unlabelled": 0}, "num_unlabelled: found 0, expected at least 1"),
        (
            {"labels_per_class": 0},
            "labels_per_class: found 0, expected at least 1 because of protocol "
            "'low_label'",
        ),
        (
            {"protocol": "54k", "labels_per_class": 0},
            "labels_per_class: found 0, expected at least 1 because of protocol '54k'",
        ),
        (
            {"num_queries": 0},
            "num_queries: found 0, expected at least 1 because of protocol 'low_label'",
        ),
        (
            {"protocol": "59k", "num_queries": 0},
            "num_queries: found 0, expected at least 1 because of protocol '59k'",
        ),
        (
            {"protocol": "official", "num_queries": 42},
            "num_queries: found 42, expected at most 41, the number of test images",
        ),
        (
            {"protocol": "pooled", "num_queries": 137},
            "num_queries: found 137, expected at most 136, the number of images with "
            "known labels",
        ),
        (
            {"protocol": "pooled", "num_queries": 136},
            "labels_per_class: found 5, but no training image of class 'c0' is left, "
            "expected some of each class, or 0 for all",
        ),
        (
            {"protocol": "unseen", "num_queries": 13},
            "num_queries: found 13, expected at most 12, the number of test images "
            "that show only unseen classes",
        ),
        (
            {"protocol": "official", "num_validation": 81},
            "num_validation: found 81, expected at most 80 of 95 database images",
        ),
        (
            {"protocol": "54k", "num_validation": 109},
            "num_validation: found 109, expected at most 108 of 109 database images",
        ),
        (
            {"protocol": "full", "labels_per_class": 0, "num_validation": 95},
            "num_validation: found 95, expected at most 94 of 95 database images",
        ),
        (
            {"num_labelled": 10},
            "num_labelled: found 10, expected 0 because of protocol 'low_label', which "
            "takes labels_per_class",
        ),
        (
            {"protocol": "nus_wide_81", "num_labelled": 10},
            "labels_per_class: found 5, expected 0 because of protocol 'nus_wide_81', "
            "which takes num_labelled",
        ),
        (
            {"protocol": "nus_wide_81", "labels_per_class": 0, "num_labelled": 125},
            "num_labelled: found 125, expected at most 124, the number of images that "
            "are not queries",
        ),
        (
            {"unseen_share": 1.0},
            "unseen_share: found 1.0, expected more than 0 and less than 1",
        ),
        (
            {"protocol": "cifar10"},
            "protocol: found 'cifar10', accepted are low_label, 54k, 59k, pooled, "
            "nus_wide_21, nus_wide_81, full, official, unseen, listed",
        ),
    ],
)
def test_errors_name_both_numbers(toy, changed, message):
    with pytest.raises(ValueError) as error:
        make_split(toy, **SIZES | changed)
    assert one_line(error) == message


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ({"all": np.arange(95)}, "all"),
        ({"train": np.arange(95), "test": np.arange(0)}, "train"),
        ({"test": np.arange(95), "database": np.arange(3)}, "database, test"),
        ({}, "none"),
    ],
)
@pytest.mark.parametrize(
    "protocol", ["low_label", "full", "official", "unseen", "listed"]
)
def test_parts_that_lack(protocol, parts, found):
    source = source_of(shuffled_one_hot([30, 25, 40], 0), parts)
    with pytest.raises(ValueError) as error:
        make_split(source, **arguments_of(protocol))
    assert one_line(error) == (
        f"protocol {protocol!r}: found parts {found}, expected train and test"
    )


def test_unseen_needs_classes():
    two = train_and_test(shuffled_one_hot([9, 9], 0), shuffled_one_hot([9, 9], 1))
    with pytest.raises(ValueError) as error:
        make_split(two, **arguments_of("unseen"))
    assert one_line(error) == "protocol 'unseen': found 2 classes, expected at least 3"
    # No image shows only one class: the set of queries would be empty.
    every = train_and_test(np.ones((9, 3)), np.ones((9, 3)), multi_label=True)
    arguments = dict(num_queries=0, num_validation=0, labels_per_class=0, seed=0)
    with pytest.raises(ValueError) as error:
        make_split(every, protocol="unseen", **arguments)
    assert one_line(error) == (
        "protocol 'unseen': found no test images that show only unseen classes, "
        "expected at least 1"
    )
    # Every training image shows an unseen class among others.
    every = train_and_test(np.ones((9, 3)), np.eye(3), multi_label=True)
    with pytest.raises(ValueError) as error:
        make_split(every, protocol="unseen", **arguments)
    assert one_line(error) == (
        "protocol 'unseen': found no labelled images, expected at least 1"
    )
    some = np.concatenate([np.eye(3), np.ones((9, 3))])[[0, 1, 2, 4]]
    for seed in range(3):
        mixed = train_and_test(some, np.eye(3), multi_label=True)
        split = make_split(mixed, protocol="unseen", **arguments | {"seed": seed})
        assert sizes_of(split) == [1, 0, 2, 0, 1]


def test_limits_are_exact(toy):
    split = make_split(toy, **SIZES | {"labels_per_class": 25, "num_queries": 35})
    assert len(split.query) + len(split.validation) == len(toy.parts["test"])
    for protocol, labels_per_class, most in (
        ("official", 5, 80),
        ("54k", 5, 108),
        ("full", 0, 94),
    ):
        changed = dict(num_validation=most, labels_per_class=labels_per_class)
        split = make_split(toy, **arguments_of(protocol) | changed)
        assert len(split.validation) == most
        assert len(split.labelled) == (15 if labels_per_class else 1)
    four = shuffled_one_hot([4, 4], 0)
    with pytest.raises(ValueError, match="all 8 images are labelled and the database"):
        make_split(
            train_and_test(four, four),
            labels_per_class=4,
            num_queries=1,
            num_validation=1,
            seed=0,
        )


@pytest.mark.parametrize("value", [np.nan, 0.5, -1])
def test_labels_must_be_multi_hot(toy, value):
    labels = toy.labels.copy()
    labels[3, 1] = value
    with pytest.raises(ValueError, match=r"source\.labels: found the value"):
        make_split(dataclasses.replace(toy, labels=labels), **SIZES)


@pytest.mark.parametrize("row", [0, 1])
def test_single_label_sources_have_one_label(toy, row):
    labels = toy.labels.copy()
    labels[100] = row
    bad = dataclasses.replace(toy, labels=labels)
    message = f"source.labels: found {3 * row} labels of image 100, expected 1 because"
    with pytest.raises(ValueError, match=message):
        make_split(bad, **SIZES)
    make_split(dataclasses.replace(bad, multi_label=True), **SIZES)


def test_unknown_labels_are_zero(toy):
    parts = {"train": np.arange(95), "test": np.arange(95, 130)}
    parts["unlabelled"] = np.arange(130, 136)
    labels = toy.labels.copy()
    labels[130:132] = 0
    bad = dataclasses.replace(toy, labels=labels, parts=parts)
    with pytest.raises(ValueError) as error:
        make_split(bad, **SIZES)
    assert one_line(error) == (
        "source.labels: found 1 labels of image 132, expected none because it is in "
        "part 'unlabelled'"
    )


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
@pytest.mark.parametrize("other", FIELDS[1:])
def test_a_planted_query_is_caught(toy, protocol, other):
    split = make_split(toy, **arguments_of(protocol))
    planted = np.union1d(getattr(split, other), split.query[3:5])
    # Alone in that set: elsewhere, the check of another pair would catch it.
    bad = dataclasses.replace(split, **{other: planted})
    with pytest.raises(ValueError) as error:
        bad.check(toy)
    advice = "; data.on_leak=drop takes them out of the database and of training"
    assert one_line(error) == (
        f"split: found 2 images in both query and {other}: image {split.query[3]}, "
        f"image {split.query[4]}, expected none"
        + advice
        * (other in ("database", "labelled"))
    )


@pytest.mark.parametrize(
    ("field", "indices", "message"),
    [
        ("unlabelled", lambda s: s.labelled, "15 images in both labelled and unlabel"),
        ("validation", lambda s: s.labelled[:1], "1 images in both labelled and val"),
        ("query", lambda s: s.query[::-1], "found query indices that repeat or are"),
        ("database", lambda s: np.array([1, 1]), "found database indices that repeat"),
        ("validation", lambda s: np.array([3, 136]), "validation indices 3 to 136, ex"),
        ("unlabelled", lambda s: np.array([-1, 3]), "-1 to 3, expected 0 to 135, the"),
    ],
)
def test_check(toy, field, indices, message):
    split = make_split(toy, **SIZES)
    split.check(toy)
    bad = dataclasses.replace(split, **{field: indices(split)})
    with pytest.raises(ValueError, match=message) as error:
        bad.check(toy)
    one_line(error)


@pytest.mark.parametrize("field", ["query", "validation", "labelled", "database"])
def test_unknown_images_are_caught(toy, field):
    split = make_split(toy, **SIZES)
    image = getattr(split, field)[:2]
    source = dataclasses.replace(toy, parts=toy.parts | {"unlabelled": image})
    split = dataclasses.replace(split, unlabelled=split.unlabelled[:0])
    with pytest.raises(ValueError) as error:
        split.check(source)
    assert one_line(error) == (
        f"split: found 2 {field} images whose labels are not known, the first of them "
        f"image {image[0]}, expected none"
    )


def test_check_takes_empty_sets_and_what_may_overlap(toy):
    empty = np.zeros(0, np.int64)
    split = make_split(toy, **SIZES)
    dataclasses.replace(split, validation=empty, unlabelled=empty).check(toy)
    database = np.union1d(split.database, split.labelled)
    dataclasses.replace(split, database=database).check(toy)
    dataclasses.replace(split, validation=split.database).check(toy)


def test_json_round_trip(toy):
    split = make_split(toy, **SIZES)
    again = split_from_json(split_to_json(split))
    assert (again.protocol, again.seed) == (split.protocol, split.seed)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(again, name), getattr(split, name))
        assert getattr(again, name).dtype == np.int64
    assert again.digest == split.digest


def test_json_errors(toy):
    text = split_to_json(make_split(toy, **SIZES))
    fields = json.loads(text)
    fields["query"][0] += 1
    with pytest.raises(ValueError, match="found indices of digest") as error:
        split_from_json(json.dumps(fields))
    one_line(error)
    del fields["query"]
    for wrong in (json.dumps(fields), "[]", "{", json.dumps(fields | {"query": "x"})):
        with pytest.raises(ValueError, match="found no split in the JSON") as error:
            split_from_json(wrong)
        one_line(error)


def test_digest_depends_on_everything(toy):
    split = make_split(toy, **SIZES)
    changed = [
        dataclasses.replace(split, protocol="other"),
        dataclasses.replace(split, seed=7),
        *(
            dataclasses.replace(split, **{name: getattr(split, name)[1:]})
            for name in FIELDS
        ),
        # The border between two arrays counts, not only their concatenation.
        dataclasses.replace(
            split,
            query=np.append(split.query, split.validation[0]),
            validation=split.validation[1:],
        ),
    ]
    digests = {split.digest, *(other.digest for other in changed)}
    assert len(digests) == 1 + len(changed)
