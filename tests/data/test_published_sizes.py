"""Protocols give the sizes that papers print: CIFAR-10, NUS-WIDE, CUB, dogs, lists."""

import time

import numpy as np
import pytest
from image_files import one_line
from label_sources import (
    FIELDS,
    POOLED,
    arguments_of,
    cifar10,
    random_multi_hot,
    sets_of,
    shuffled_one_hot,
    sizes_of,
    source_of,
    train_and_test,
)

from ssah_jax.data.source import consecutive_parts
from ssah_jax.data.splitting import make_split


@pytest.mark.parametrize(
    ("protocol", "labels_per_class", "num_queries", "sizes"),
    [
        ("54k", 500, 1000, [1000, 0, 5000, 54_000, 54_000]),
        ("59k", 500, 1000, [1000, 0, 5000, 54_000, 59_000]),
        ("pooled", 500, 1000, [1000, 0, 5000, 54_000, 59_000]),
        ("full", 0, 0, [10_000, 0, 50_000, 0, 50_000]),
        ("full", 500, 1000, [1000, 0, 5000, 45_000, 50_000]),
        ("low_label", 50, 1000, [1000, 0, 500, 49_500, 49_500]),
        ("unseen", 0, 0, [2000, 0, 40_000, 0, 10_000]),
        ("unseen", 500, 1000, [1000, 0, 4000, 36_000, 10_000]),
    ],
)
def test_cifar10(protocol, labels_per_class, num_queries, sizes):
    source = cifar10()
    split = make_split(
        source,
        protocol=protocol,
        labels_per_class=labels_per_class,
        num_queries=num_queries,
        num_validation=0,
        unseen_share=0.2,
        seed=3,
    )
    assert split.protocol == protocol
    assert sizes_of(split) == sizes
    for name in FIELDS:
        # Each class that is there at all is there equally often.
        counts = source.labels[getattr(split, name)].sum(0)
        assert len(set(counts[counts > 0].tolist())) <= 1
    if protocol in POOLED:
        # Drawn from both official parts, and no parts are needed.
        assert set(split.query // 50_000) == set(split.labelled // 50_000) == {0, 1}
        again = make_split(
            cifar10(official=False),
            protocol=protocol,
            labels_per_class=labels_per_class,
            num_queries=num_queries,
            num_validation=0,
            seed=3,
        )
        assert again.digest == split.digest


def test_54k_and_59k_differ_in_the_database_alone():
    splits = [
        make_split(
            cifar10(),
            protocol=protocol,
            labels_per_class=500,
            num_queries=1000,
            num_validation=2000,
            seed=0,
        )
        for protocol in ("54k", "59k")
    ]
    for split in splits:
        assert sizes_of(split)[:4] == [1000, 2000, 5000, 52_000]
    small, large = map(sets_of, splits)
    for name in ("query", "validation", "labelled", "unlabelled"):
        assert small[name] == large[name]
    assert large["database"] == small["database"] | small["labelled"]


def test_nus_wide_21():
    labels = random_multi_hot(195_834, np.linspace(0.01, 0.35, 21), 0)
    assert labels.sum(0).min() >= 600
    source = source_of(labels, {"all": np.arange(195_834)}, multi_label=True)
    start = time.process_time()
    split = make_split(
        source,
        protocol="nus_wide_21",
        labels_per_class=500,
        num_queries=2100,
        num_validation=0,
        seed=0,
    )
    # The limit is 3 s of a processor that does nothing else.
    assert time.process_time() - start < 10
    assert sizes_of(split) == [2100, 0, 10_500, 183_234, 193_734]
    for name, room in (("query", 100), ("labelled", 500)):
        assert (labels[getattr(split, name)].sum(0) >= room).all()


def test_nus_wide_81():
    shares = np.geomspace(0.0005, 0.3, 81)
    labels = random_multi_hot(173_692, shares, 0)
    source = source_of(labels, {"all": np.arange(173_692)}, multi_label=True)
    split = make_split(
        source,
        protocol="nus_wide_81",
        labels_per_class=0,
        num_labelled=10_000,
        num_queries=5000,
        num_validation=0,
        seed=0,
    )
    assert sizes_of(split) == [5000, 0, 10_000, 158_692, 168_692]
    # Uniform: the frequent classes stay frequent, unlike in a draw per class. Images
    # without any class come last.
    shown = labels[labels.any(axis=1)].mean(0)[-20:]
    for name in ("query", "labelled"):
        drawn = labels[getattr(split, name)]
        assert drawn.any(axis=1).all()
        np.testing.assert_allclose(drawn.mean(0)[-20:], shown, atol=0.03)


@pytest.mark.parametrize(
    ("train", "test"), [([30] * 194 + [29] * 6, [29] * 194 + [28] * 6)]
)
@pytest.mark.parametrize("protocol", ["official", "full", "listed"])
def test_cub(protocol, train, test):
    source = train_and_test(shuffled_one_hot(train, 0), shuffled_one_hot(test, 1))
    assert len(source) == 5994 + 5794
    arguments = dict(protocol=protocol, num_queries=0, num_validation=0, seed=0)
    split = make_split(source, labels_per_class=0, **arguments)
    assert sizes_of(split) == [5794, 0, 5994, 0, 5994]
    split = make_split(source, labels_per_class=10, **arguments)
    assert sizes_of(split) == [5794, 0, 2000, 3994, 5994]
    np.testing.assert_array_equal(source.labels[split.labelled].sum(0), 10)


def test_dogs():
    test = shuffled_one_hot([72] * 60 + [71] * 60, 1)
    source = train_and_test(shuffled_one_hot([100] * 120, 0), test)
    arguments = dict(protocol="official", labels_per_class=0, seed=0)
    split = make_split(source, num_queries=0, num_validation=0, **arguments)
    assert sizes_of(split) == [8580, 0, 12_000, 0, 12_000]
    split = make_split(source, num_queries=1200, num_validation=600, **arguments)
    assert sizes_of(split) == [1200, 600, 11_400, 0, 12_000]
    for name, count in (("query", 10), ("validation", 5)):
        found = source.labels[getattr(split, name)].sum(0)
        np.testing.assert_array_equal(found, count)


def image_lists(*, database):
    """Lists in the manner of ImageNet-100's: the training list is in the database."""
    labels = np.eye(100)[np.arange(500 + 1300 + 5000) % 100]
    parts = consecutive_parts(test=500, train=1300)
    parts["database"] = np.arange(*database)
    return source_of(labels, parts)


@pytest.mark.parametrize(
    ("database", "labels_per_class", "sizes"),
    [
        ((500, 6800), 0, [500, 200, 1300, 4800, 6300]),
        ((500, 6800), 5, [500, 200, 500, 5600, 6300]),
        ((1800, 6800), 0, [500, 200, 1300, 4800, 5000]),
        ((1800, 6800), 5, [500, 200, 500, 4800, 5000]),
        # Only 100 others: the validation queries come from the training list as well.
        ((500, 1900), 0, [500, 200, None, 0, 1400]),
    ],
)
def test_listed(database, labels_per_class, sizes):
    source = image_lists(database=database)
    split = make_split(
        source,
        protocol="listed",
        labels_per_class=labels_per_class,
        num_queries=0,
        num_validation=200,
        seed=0,
    )
    found = sets_of(split)
    assert found["query"] == set(range(500))
    assert found["database"] == set(range(*database))
    assert found["labelled"] <= set(range(500, 1800))
    assert found["validation"] <= found["database"]
    if sizes[2] is None:
        assert found["labelled"] == set(range(500, 1800)) - found["validation"]
        assert found["unlabelled"] == set(range(1800, 1900)) - found["validation"]
        assert found["validation"] & set(range(500, 1800))
    else:
        assert sizes_of(split) == sizes


def test_lists_that_leak_are_refused():
    # As HashNet's lists of COCO do.
    source = image_lists(database=(490, 6800))
    with pytest.raises(ValueError) as error:
        make_split(source, **arguments_of("listed") | {"num_queries": 0})
    assert one_line(error) == (
        "split: found 10 images in both query and database: image 490, image 491, "
        "image 492 and 7 more, expected none; data.on_leak=drop takes them out of the "
        "database and of training"
    )
    dropped = make_split(
        source, **arguments_of("listed") | {"num_queries": 0, "on_leak": "drop"}
    )
    assert dropped.num_leaks == 10
    assert not set(dropped.query.tolist()) & set(dropped.database.tolist())
    assert len(dropped.query) == 500
