"""Draws of a protocol: by seed, for ever the same, independent, nested."""

import dataclasses

import numpy as np
import pytest
from label_sources import (
    POOLED,
    SIZES,
    arguments_of,
    random_multi_hot,
    sets_of,
    shuffled_one_hot,
    train_and_test,
)

from ssah_jax.data.protocols import PROTOCOLS
from ssah_jax.data.splitting import make_split


def test_the_seed_decides(toy):
    for protocol in PROTOCOLS:
        arguments = arguments_of(protocol) | {"num_queries": 5}
        one, again = (make_split(toy, **arguments) for _ in range(2))
        other = make_split(toy, **arguments | {"seed": 1})
        assert one.digest == again.digest != other.digest
        for name in ("query", "validation", "labelled"):
            assert getattr(one, name).tolist() == getattr(again, name).tolist()
            assert getattr(one, name).tolist() != getattr(other, name).tolist()


GOLDEN = {
    "low_label": "1988443c44591f92",
    "54k": "77081aa211e9bcb5",
    "59k": "4e1e15b87e62b573",
    "pooled": "3263a2b8c407396c",
    "nus_wide_21": "3ff4ab17e4c2a2ee",
    "nus_wide_81": "413b348add7d6eb5",
    "full": "25cbde7c822058d6",
    "official": "c29513c97048f3a0",
    "unseen": "ba9f8b10de849a61",
    "listed": "8159dfcff9bba283",
}


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_a_split_is_the_same_for_ever(protocol):
    # A change here breaks the comparison with every published run: do not update it
    # without a new protocol name. The data use no generator, whose draws may change.
    labels = np.eye(3, dtype=np.float32)[np.arange(60) % 3]
    source = train_and_test(labels, labels, unlabelled=4)
    number = 10 if protocol == "unseen" else 20
    split = make_split(source, **arguments_of(protocol), num_unlabelled=number)
    assert split.digest[:16] == GOLDEN[protocol]


def test_low_label_draws_what_it_drew_when_parts_were_numbered_apart():
    labels = np.eye(3, dtype=np.float32)[np.arange(60) % 3]
    source = train_and_test(labels, labels)
    split = make_split(source, **SIZES, num_unlabelled=20)
    apart = dataclasses.replace(
        split, query=split.query - 60, validation=split.validation - 60
    )
    assert apart.digest == (
        "106baf949b2b4e5960494b28df0509f6c85987a58fac259d1c2a18c97f61d7c0"
    )


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"num_validation": 9}, ("query", "labelled", "database")),
        ({"num_validation": 0}, ("query", "labelled", "database")),
        ({"num_unlabelled": 10}, ("query", "validation", "labelled", "database")),
        ({"labels_per_class": 7}, ("query",)),
        ({"num_queries": 9}, ()),
    ],
)
def test_draws_are_independent(toy, protocol, changed, same):
    arguments = arguments_of(protocol)
    if protocol == "nus_wide_81" and "labels_per_class" in changed:
        changed = {"num_labelled": 21}
    one, other = (make_split(toy, **a) for a in (arguments, arguments | changed))
    if protocol == "low_label":
        same += ("validation",) if "labels_per_class" in changed else ()
        same += ("unlabelled",) if "num_validation" in changed else ()
    if protocol not in POOLED and "num_queries" in changed:
        same += ("labelled", "unlabelled", "database")
    for name in same:
        assert getattr(one, name).tolist() == getattr(other, name).tolist()
    assert one.digest != other.digest


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_more_contains_fewer(toy, protocol):
    arguments = arguments_of(protocol) | {"num_unlabelled": 10}
    number = "num_labelled" if protocol == "nus_wide_81" else "labels_per_class"
    more = {number: arguments[number] + 2}
    few, many = (make_split(toy, **a) for a in (arguments, arguments | more))
    assert set(few.labelled.tolist()) < set(many.labelled.tolist())
    many = make_split(toy, **arguments | {"num_unlabelled": 13})
    assert set(few.unlabelled.tolist()) < set(many.unlabelled.tolist())


def test_draws_differ_from_each_other():
    # Streams of one seed: the same stream twice would pick the same positions.
    labels = shuffled_one_hot([50, 50], 0)
    split = make_split(
        train_and_test(labels, labels),
        labels_per_class=10,
        num_queries=20,
        num_validation=20,
        seed=0,
    )
    assert split.labelled.tolist() != (split.query - 100).tolist()
    arguments = dict(labels_per_class=0, num_queries=20, num_validation=20, seed=0)
    source = train_and_test(labels, labels)
    split = make_split(source, protocol="official", **arguments)
    assert split.validation.tolist() != (split.query - 100).tolist()


def test_unknown_images_are_unlabelled_and_nothing_else():
    source = train_and_test(
        shuffled_one_hot([30, 25, 40], 0),
        shuffled_one_hot([20, 12, 9], 1),
        unlabelled=8,
    )
    unknown = set(range(136, 144))
    for protocol in PROTOCOLS:
        sets = sets_of(make_split(source, **arguments_of(protocol)))
        expected = set() if protocol == "unseen" else unknown
        assert sets.pop("unlabelled") & unknown == expected
        assert not any(indices & unknown for indices in sets.values())


def test_multi_label_walk_against_a_loop():
    labels = random_multi_hot(300, np.array([0.1, 0.2, 0.4, 0.4, 0.6]), 0)
    source = train_and_test(labels[:180], labels[180:], multi_label=True)
    split = make_split(
        source, labels_per_class=8, num_queries=40, num_validation=20, seed=0
    )
    assert len(split.labelled) == 5 * 8
    # Every class has at least its eight, and some image counts for each of them.
    assert (labels[split.labelled].sum(0) >= 8).all()
    assert (labels[split.query].sum(0) >= 8).all()
    assert len(split.query) == 40
    # An image of two labels fills one place only: its first class, then its second.
    pair = train_and_test([[1, 1]] * 4, [[1, 0], [0, 1]], multi_label=True)
    split = make_split(
        pair, labels_per_class=1, num_queries=1, num_validation=1, seed=0
    )
    assert len(split.labelled) == 2


def test_multi_label_counts_for_the_first_class_with_room():
    # Only the image of both classes can serve class c1; c0 needs the other one.
    train = [[1, 1], [1, 0], [0, 0]]
    found = []
    for seed in range(20):
        try:
            split = make_split(
                train_and_test(train, [[1, 0], [0, 1]], multi_label=True),
                labels_per_class=1,
                num_queries=1,
                num_validation=1,
                seed=seed,
            )
        except ValueError as error:
            # The walk met the image of both classes first: it counted for c0.
            assert "class 'c1'" in str(error)
            found.append("first")
        else:
            assert split.labelled.tolist() == [0, 1]
            found.append("second")
    assert set(found) == {"first", "second"}


def test_images_without_classes_are_never_labelled_by_class_and_query_last():
    train = [[1, 0], [0, 1], [0, 0], [0, 0], [1, 1]]
    test = [[0, 0], [1, 0], [0, 0], [0, 1]]
    source = train_and_test(train, test, multi_label=True)
    for seed in range(5):
        split = make_split(
            source, labels_per_class=1, num_queries=2, num_validation=2, seed=seed
        )
        assert not {2, 3} & set(split.labelled.tolist())
        assert {2, 3} <= set(split.database.tolist())
        assert split.query.tolist() == [6, 8]
        assert split.validation.tolist() == [5, 7]
        for protocol, number in (("nus_wide_81", 2), ("59k", 0)):
            split = make_split(
                source,
                protocol=protocol,
                labels_per_class=1 - number // 2,
                num_labelled=number,
                num_queries=2,
                num_validation=1,
                seed=seed,
            )
            for name in ("query", "labelled", "validation"):
                assert not {2, 3, 5, 7} & set(getattr(split, name).tolist())
    # They are labelled, as showing nothing, where all are.
    arguments = dict(labels_per_class=0, num_queries=0, num_validation=0, seed=0)
    split = make_split(source, protocol="official", **arguments)
    assert split.labelled.tolist() == [0, 1, 2, 3, 4]
