import dataclasses
import json
import pathlib
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from ssah_jax.data.bundled import idx_directory
from ssah_jax.data.protocols import PROTOCOLS, make_split
from ssah_jax.data.source import DataError, Source, consecutive_parts
from ssah_jax.data.splits import find_leaks, split_from_json, split_to_json

FASHION_MNIST = pathlib.Path("/usr/share/datasets/fashion-mnist")
FIELDS = ("query", "validation", "labelled", "unlabelled", "database")
POOLED = ("54k", "59k", "pooled", "nus_wide_21", "nus_wide_81")


def source_of(labels, parts, *, multi_label=False):
    """A source of blank images, which take no memory, with multi-hot labels."""
    labels = np.asarray(labels, np.float32)
    blank = np.zeros((1, 1, 1, 1), np.uint8)
    return Source(
        name="toy",
        images=np.broadcast_to(blank, (len(labels), 1, 1, 1)),
        labels=labels,
        parts=parts,
        class_names=tuple(f"c{index}" for index in range(labels.shape[1])),
        multi_label=multi_label,
    )


def train_and_test(train, test, *, unlabelled=0, multi_label=False):
    """A source of official parts that follow one another in the pool."""
    unknown = np.zeros((unlabelled, np.shape(train)[1]))
    sizes = dict(train=len(train), test=len(test), unlabelled=unlabelled)
    return source_of(
        np.concatenate([train, test, unknown]),
        consecutive_parts(**sizes),
        multi_label=multi_label,
    )


def shuffled_one_hot(counts, seed):
    classes = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(seed).shuffle(classes)
    return np.eye(len(counts), dtype=np.float32)[classes]


def random_multi_hot(number, shares, seed):
    random = np.random.default_rng(seed).random((number, len(shares)))
    return (random < shares).astype(np.float32)


def sizes_of(split):
    return [len(getattr(split, name)) for name in FIELDS]


def sets_of(split):
    return {name: set(getattr(split, name).tolist()) for name in FIELDS}


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def toy():
    return train_and_test(
        shuffled_one_hot([30, 25, 40], 0), shuffled_one_hot([20, 12, 9], 1)
    )


SIZES = dict(labels_per_class=5, num_queries=12, num_validation=6, seed=0)


def arguments_of(protocol):
    """SIZES as the protocol takes them."""
    if protocol == "nus_wide_81":
        return SIZES | dict(protocol=protocol, labels_per_class=0, num_labelled=15)
    return SIZES | dict(protocol=protocol)


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


def cifar10(*, official=True):
    train, test = shuffled_one_hot([5000] * 10, 0), shuffled_one_hot([1000] * 10, 1)
    if official:
        return train_and_test(train, test)
    return source_of(np.concatenate([train, test]), {"all": np.arange(60_000)})


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
    start = time.perf_counter()
    split = make_split(
        source,
        protocol="nus_wide_21",
        labels_per_class=500,
        num_queries=2100,
        num_validation=0,
        seed=0,
    )
    # The limit is 3 s of a machine that does nothing else.
    assert time.perf_counter() - start < 10
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
        "split: found 10 images in both query and database, the first of them image "
        "490, expected none"
    )


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
            "labels_per_class: found 5, expected at most 0, the number of training "
            "images left for class 'c0'",
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
    assert one_line(error) == (
        f"split: found 2 images in both query and {other}, the first of them image "
        f"{split.query[3]}, expected none"
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


class Files:
    """Images behind an index that say what is read of them."""

    def __init__(self, images, *, bad=()):
        self.images, self.bad, self.read = images, bad, []
        self.shape = images.shape

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.read.append(index)
        if index in self.bad:
            raise DataError(f"image {index}: found nothing, expected an image")
        return self.images[index]


class EncodedFiles(Files):
    """The same, with their files: a byte before the pixels tells copies apart."""

    def encoded(self, index):
        return bytes([index in self.bad]) + self.images[index].tobytes()


NO_LEAKS = {
    f"query_in_{name}": 0
    for name in ("labelled", "database", "validation", "unlabelled")
}


@pytest.fixture
def leaky(toy):
    """A source with copies of queries, and its split."""
    split = make_split(toy, **SIZES | {"num_validation": 20})
    random = np.random.default_rng(0)
    images = random.integers(256, size=(len(toy), 4, 4, 3), dtype=np.uint8)
    assert set(find_leaks(dataclasses.replace(toy, images=images), split).values()) == {
        0
    }
    images[split.query[0]] = images[split.labelled[1]]
    images[split.query[3]] = images[split.database[4]]
    images[split.query[5]] = images[split.database[4]]
    images[split.query[6]] = images[split.validation[2]]
    unlabelled = np.setdiff1d(split.unlabelled, split.database[4])
    return images, toy, dataclasses.replace(split, unlabelled=unlabelled)


def test_find_leaks(leaky):
    images, toy, split = leaky
    expected = NO_LEAKS | {
        "query_in_labelled": 1,
        "query_in_database": 2,
        "query_in_validation": 1,
    }
    files = Files(images)
    for these in (images, files):
        assert find_leaks(dataclasses.replace(toy, images=these), split) == expected
    # However many sets an image is in.
    used = np.concatenate([getattr(split, name) for name in FIELDS])
    assert sorted(files.read) == np.unique(used).tolist()
    split = dataclasses.replace(split, unlabelled=split.database)
    expected["query_in_unlabelled"] = 2
    assert find_leaks(dataclasses.replace(toy, images=images), split) == expected


def test_find_leaks_passes_over_what_cannot_be_read(leaky):
    images, toy, split = leaky
    bad = {split.query[0], split.query[1], split.database[4], split.database[7]}
    source = dataclasses.replace(toy, images=Files(images, bad=bad))
    assert find_leaks(source, split) == NO_LEAKS | {"query_in_validation": 1}


def test_find_leaks_compares_files_without_decoding(leaky):
    images, toy, split = leaky
    # The file of one of two images of the same pixels is another one.
    files = EncodedFiles(images, bad={split.query[3]})
    found = find_leaks(dataclasses.replace(toy, images=files), split)
    assert not files.read
    assert found == NO_LEAKS | {
        "query_in_labelled": 1,
        "query_in_database": 1,
        "query_in_validation": 1,
    }


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Fashion-MNIST not installed")
def test_real_fashion_mnist_has_no_leaks():
    source = idx_directory(FASHION_MNIST)
    split = make_split(
        source, labels_per_class=50, num_queries=9000, num_validation=1000, seed=0
    )
    np.testing.assert_array_equal(source.labels[split.query].sum(0), 900)
    assert len(split.database) == 59_500
    assert set(find_leaks(source, split).values()) == {0}
