import dataclasses
import json
import pathlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from ssah_jax.data import (
    Part,
    Source,
    find_leaks,
    load_source,
    make_split,
    split_from_json,
    split_to_json,
)

FASHION_MNIST = pathlib.Path("/usr/share/datasets/fashion-mnist")
FIELDS = ("query", "validation", "labelled", "unlabelled", "database")


def source_of(train, test, *, multi_label=False):
    """A source of blank images with the given multi-hot labels."""

    def part(labels):
        labels = np.asarray(labels, np.float32)
        return Part(np.zeros((len(labels), 2, 2, 1), np.uint8), labels)

    return Source(
        name="toy",
        train=part(train),
        test=part(test),
        class_names=tuple(f"c{index}" for index in range(np.shape(train)[1])),
        multi_label=multi_label,
    )


def shuffled_one_hot(counts, seed):
    classes = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(seed).shuffle(classes)
    return np.eye(len(counts), dtype=np.float32)[classes]


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def toy():
    return source_of(
        shuffled_one_hot([30, 25, 40], 0), shuffled_one_hot([20, 12, 9], 1)
    )


SIZES = dict(labels_per_class=5, num_queries=12, num_validation=6, seed=0)


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=60, deadline=None)
def test_low_label_properties(data):
    num_classes = data.draw(st.integers(1, 5))
    counts = st.lists(st.integers(2, 12), min_size=num_classes, max_size=num_classes)
    train, test = data.draw(counts), data.draw(counts)
    source = source_of(shuffled_one_hot(train, 0), shuffled_one_hot(test, 1))
    labels_per_class = data.draw(st.integers(1, min(train) - 1))
    num_queries = data.draw(st.integers(1, sum(test) - 1))
    num_validation = data.draw(st.integers(1, sum(test) - num_queries))
    rest = sum(train) - labels_per_class * num_classes
    num_unlabelled = data.draw(st.none() | st.integers(1, rest))
    split = make_split(
        source,
        labels_per_class=labels_per_class,
        num_queries=num_queries,
        num_validation=num_validation,
        seed=data.draw(st.integers(0, 2**40)),
        num_unlabelled=num_unlabelled,
    )
    sets = {name: set(getattr(split, name).tolist()) for name in FIELDS}
    for name in FIELDS:
        indices = getattr(split, name)
        assert indices.dtype == np.int64
        assert indices.tolist() == sorted(sets[name])
    assert len(sets["query"]) == num_queries
    assert len(sets["validation"]) == num_validation
    assert not sets["query"] & sets["validation"]
    assert sets["query"] | sets["validation"] <= set(range(sum(test)))
    assert sets["labelled"] | sets["database"] == set(range(sum(train)))
    assert not sets["labelled"] & sets["database"]
    assert sets["unlabelled"] <= sets["database"]
    assert len(sets["unlabelled"]) == (num_unlabelled or rest)
    np.testing.assert_array_equal(
        source.train.labels[split.labelled].sum(0), labels_per_class
    )
    # As equal as the classes allow: whoever has less than another has no more.
    queries = source.test.labels[split.query].sum(0)
    left = np.array(test) - queries
    validation = source.test.labels[split.validation].sum(0)
    for found, available in ((queries, np.array(test)), (validation, left)):
        for count, size in zip(found, available, strict=True):
            assert count == size or count >= found.max() - 1


def test_the_seed_decides(toy):
    one, again = make_split(toy, **SIZES), make_split(toy, **SIZES)
    other = make_split(toy, **SIZES | {"seed": 1})
    assert one.digest == again.digest != other.digest
    for name in ("query", "validation", "labelled"):
        assert getattr(one, name).tolist() == getattr(again, name).tolist()
        assert getattr(one, name).tolist() != getattr(other, name).tolist()


def test_a_split_is_the_same_for_ever():
    # A change here breaks the comparison with every published run: do not update it
    # without a new protocol name. The data use no generator, whose draws may change.
    labels = np.eye(3, dtype=np.float32)[np.arange(60) % 3]
    split = make_split(source_of(labels, labels), **SIZES, num_unlabelled=20)
    assert split.digest == (
        "106baf949b2b4e5960494b28df0509f6c85987a58fac259d1c2a18c97f61d7c0"
    )


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"num_validation": 9}, ("query", "labelled", "unlabelled", "database")),
        (
            {"num_unlabelled": 10},
            ("query", "validation", "labelled", "database"),
        ),
        ({"labels_per_class": 7}, ("query", "validation")),
        ({"num_queries": 15}, ("labelled", "unlabelled", "database")),
    ],
)
def test_draws_are_independent(toy, changed, same):
    one, other = make_split(toy, **SIZES), make_split(toy, **SIZES | changed)
    for name in same:
        assert getattr(one, name).tolist() == getattr(other, name).tolist()
    assert one.digest != other.digest


def test_more_labels_contain_fewer(toy):
    few = make_split(toy, **SIZES)
    more = make_split(toy, **SIZES | {"labels_per_class": 7})
    assert set(few.labelled.tolist()) < set(more.labelled.tolist())


def test_draws_differ_from_each_other():
    # Streams of one seed: the same stream twice would pick the same positions.
    labels = shuffled_one_hot([50, 50], 0)
    split = make_split(
        source_of(labels, labels),
        labels_per_class=10,
        num_queries=20,
        num_validation=20,
        seed=0,
    )
    assert split.labelled.tolist() != split.query.tolist()


def test_multi_label_walk_against_a_loop():
    source = load_source("synthetic", num_classes=5, multi_label=True, seed=2)
    split = make_split(
        source, labels_per_class=8, num_queries=40, num_validation=20, seed=0
    )
    assert len(split.labelled) == 5 * 8
    labels = source.train.labels
    # Every class has at least its eight, and some image counts for each of them.
    assert (labels[split.labelled].sum(0) >= 8).all()
    assert (source.test.labels[split.query].sum(0) >= 8).all()
    assert len(split.query) == 40
    # An image of two labels fills one place only: its first class, then its second.
    pair = source_of(
        [[1, 1], [1, 1], [1, 1], [1, 1]], [[1, 0], [0, 1]], multi_label=True
    )
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
                source_of(train, [[1, 0], [0, 1]], multi_label=True),
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


def test_images_without_labels_are_never_labelled_and_query_last():
    train = [[1, 0], [0, 1], [0, 0], [0, 0], [1, 1]]
    test = [[0, 0], [1, 0], [0, 0], [0, 1]]
    source = source_of(train, test, multi_label=True)
    for seed in range(5):
        split = make_split(
            source, labels_per_class=1, num_queries=2, num_validation=2, seed=seed
        )
        assert not {2, 3} & set(split.labelled.tolist())
        assert split.query.tolist() == [1, 3]
        assert split.validation.tolist() == [0, 2]


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
        ({"labels_per_class": 0}, "labels_per_class: found 0, expected at least 1"),
        ({"num_queries": 0}, "num_queries: found 0, expected at least 1"),
        ({"num_validation": -1}, "num_validation: found -1, expected at least 1"),
        ({"num_unlabelled": 0}, "num_unlabelled: found 0, expected at least 1"),
        (
            {"protocol": "cifar10"},
            "protocol: found 'cifar10', accepted are low_label",
        ),
    ],
)
def test_errors_name_both_numbers(toy, changed, message):
    with pytest.raises(ValueError) as error:
        make_split(toy, **SIZES | changed)
    assert one_line(error) == message


def test_limits_are_exact(toy):
    split = make_split(toy, **SIZES | {"labels_per_class": 25, "num_queries": 35})
    assert len(split.query) + len(split.validation) == len(toy.test)
    everything = source_of(shuffled_one_hot([4, 4], 0), shuffled_one_hot([4, 4], 1))
    with pytest.raises(ValueError, match="all 8 training images are labelled"):
        make_split(
            everything, labels_per_class=4, num_queries=1, num_validation=1, seed=0
        )


@pytest.mark.parametrize("value", [np.nan, 0.5, -1])
def test_labels_must_be_multi_hot(toy, value):
    labels = toy.train.labels.copy()
    labels[3, 1] = value
    bad = dataclasses.replace(toy, train=Part(toy.train.images, labels))
    with pytest.raises(ValueError, match=r"source.train.labels: found the value"):
        make_split(bad, **SIZES)


def test_single_label_sources_have_one_label(toy):
    labels = toy.test.labels.copy()
    labels[3] = 1
    bad = dataclasses.replace(toy, test=Part(toy.test.images, labels))
    with pytest.raises(ValueError, match=r"source.test.labels: found 3 labels of im"):
        make_split(bad, **SIZES)
    make_split(dataclasses.replace(bad, multi_label=True), **SIZES)


@pytest.mark.parametrize(
    ("field", "indices", "message"),
    [
        ("query", lambda s: s.validation, "in both query and validation"),
        ("unlabelled", lambda s: s.labelled, "in both labelled and unlabelled"),
        ("database", lambda s: s.labelled[:1], "1 images in both labelled and data"),
        ("query", lambda s: s.query[::-1], "repeat or are not sorted"),
        ("database", lambda s: np.array([1, 1]), "repeat or are not sorted"),
        ("validation", lambda s: np.array([3, 41]), "3 to 41, expected 0 to 40"),
        ("unlabelled", lambda s: np.array([-1, 3]), "-1 to 3, expected 0 to 94"),
    ],
)
def test_check(toy, field, indices, message):
    split = make_split(toy, **SIZES)
    split.check(toy)
    bad = dataclasses.replace(split, **{field: indices(split)})
    with pytest.raises(ValueError, match=message) as error:
        bad.check(toy)
    one_line(error)


def test_check_takes_empty_sets(toy):
    empty = np.zeros(0, np.int64)
    dataclasses.replace(make_split(toy, **SIZES), validation=empty).check(toy)


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


def test_find_leaks():
    source = load_source("synthetic", num_classes=3, train_per_class=9, seed=0)
    split = make_split(
        source, labels_per_class=2, num_queries=9, num_validation=6, seed=0
    )
    clean = {"query_in_labelled": 0, "query_in_database": 0, "query_in_validation": 0}
    assert find_leaks(source, split) == clean
    images = source.test.images.copy()
    images[split.query[0]] = source.train.images[split.labelled[1]]
    images[split.query[3]] = source.train.images[split.database[4]]
    images[split.query[5]] = source.train.images[split.database[4]]
    images[split.query[6]] = images[split.validation[2]]
    leaky = dataclasses.replace(source, test=Part(images, source.test.labels))
    assert find_leaks(leaky, split) == {
        "query_in_labelled": 1,
        "query_in_database": 2,
        "query_in_validation": 1,
    }


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Fashion-MNIST not installed")
def test_real_fashion_mnist_has_no_leaks():
    source = load_source("idx", path=FASHION_MNIST)
    split = make_split(
        source, labels_per_class=50, num_queries=9000, num_validation=1000, seed=0
    )
    np.testing.assert_array_equal(source.test.labels[split.query].sum(0), 900)
    assert len(split.database) == 59_500
    assert set(find_leaks(source, split).values()) == {0}
