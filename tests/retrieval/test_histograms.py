"""Distance histograms against loops, at odd sizes, and what they refuse."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import ranking_cases
from quick_cases import slow_but

from ssah_jax import retrieval
from ssah_jax.retrieval import bit_sliced, histograms, inputs, sharded

make = functools.partial(ranking_cases.make, queries=7, items=83, classes=5)


def loops(query_codes, query_labels, database_codes, database_labels):
    bits = query_codes.shape[1]
    count = np.zeros((len(query_codes), bits + 1), int)
    relevant = np.zeros_like(count)
    for q in range(len(query_codes)):
        for n in range(len(database_codes)):
            distance = 0
            for k in range(bits):
                one, two = query_codes[q, k] >= 0, database_codes[n, k] >= 0
                distance += one != two
            count[q, distance] += 1
            relevant[q, distance] += (query_labels[q] * database_labels[n]).max() > 0
    return count, relevant


@pytest.mark.parametrize(
    ("bits", "classes"), [(1, 2), (12, 5), (48, 40), (100, 300), (127, 3), (200, 3)]
)
def test_equals_loops(bits, classes):
    sets = make(bits, bits=bits, classes=classes, items=41, density=1.2 / classes)
    count, relevant = retrieval.distance_histograms(*sets)
    wanted = loops(*sets)
    np.testing.assert_array_equal(count, wanted[0])
    np.testing.assert_array_equal(relevant, wanted[1])
    assert count.dtype == relevant.dtype == np.int64


def test_farthest_and_nearest_at_every_key_width():
    for bits in (127, 128, 300):
        ones = np.ones((1, bits), np.float32)
        both = np.concatenate([ones, -ones])
        count, relevant = retrieval.distance_histograms(
            ones, np.array([1]), both, np.array([0, 1])
        )
        assert (count[0, 0], count[0, bits], count.sum()) == (1, 1, 2)
        assert (relevant[0, bits], relevant.sum()) == (1, 1)


@pytest.fixture(scope="module")
def large():
    """Sets of three blocks at the smallest block, and their histograms by grade."""
    sets = make(items=5000, classes=4)
    sets[1][0] = 1
    differ = (sets[0][:, None] >= 0) != (sets[2] >= 0)
    distance, shared = differ.sum(axis=2), (sets[1] @ sets[3].T).astype(int)
    graded = np.zeros((7, 5, 13), int)
    for q in range(7):
        np.add.at(graded[q], (shared[q], distance[q]), 1)
    return sets, graded


@pytest.mark.parametrize("query_block", [1, 3, 7, 256])
@pytest.mark.parametrize("database_block", [1, 4096, 10**9])
def test_blocks_do_not_matter(large, query_block, database_block):
    sets, graded = large
    found = retrieval.distance_histograms(
        *sets, query_block=query_block, database_block=database_block
    )
    np.testing.assert_array_equal(found[0], graded.sum(axis=1))
    np.testing.assert_array_equal(found[1], graded[:, 1:].sum(axis=1))


@pytest.mark.parametrize("database_block", [1, 10**9])
def test_grades_equal_numpy(large, database_block):
    sets, graded = large
    found = histograms.graded_histograms(*sets, database_block=database_block)
    assert graded[:, 4].sum() > 0
    np.testing.assert_array_equal(found, graded)
    assert found.dtype == np.int64


@pytest.mark.parametrize("bits", slow_but([7, 100, 130, 255, 256], 7, 256))
def test_grades_where_fields_of_a_byte_overflow(bits):
    # Grades and distances in one byte, in two, and distances of more than a byte.
    classes = 300
    ones, labels = np.ones((1, bits)), np.ones((1, classes), int)
    items = np.concatenate([ones, -ones, ones])
    item_labels = np.zeros((3, classes), int)
    item_labels[0], item_labels[1, :17] = 1, 1
    found = histograms.graded_histograms(ones, labels, items, item_labels)
    wanted = np.zeros((1, classes + 1, bits + 1), int)
    wanted[0, classes, 0] = wanted[0, 17, bits] = wanted[0, 0, 0] = 1
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bits", "classes"),
    slow_but(
        [(63, 9), (64, 2), (127, 2), (128, 9), (255, 9), (256, 2), (300, 9)],
        (63, 9),
        (256, 2),
    ),
)
def test_full_fields_at_every_width(bits, classes):
    # All 32 items of a lane exist, at distances from 0 to K: no field may spill.
    rng = np.random.default_rng(bits)
    query = np.where(rng.random((3, bits)) < 0.5, 1, -1)
    flips = rng.random((6000, bits)) < rng.choice([0, 0.1, 0.5, 0.9, 1], (6000, 1))
    codes = np.where(flips, -query[0], query[0])
    labels = (rng.random((6000, classes)) < 0.5).astype(int)
    own = labels[:3]
    own[0] = 1
    found = histograms.graded_histograms(query, own, codes, labels)
    wanted = np.zeros(found.shape, int)
    distance, shared = (query[:, None] != codes).sum(axis=2), own @ labels.T
    for q in range(3):
        np.add.at(wanted[q], (shared[q], distance[q]), 1)
    np.testing.assert_array_equal(found, wanted)
    _, relevant = retrieval.distance_histograms(query, own, codes, labels)
    np.testing.assert_array_equal(relevant, wanted[:, 1:].sum(axis=1))


def test_a_full_block_at_one_distance():
    # 16-bit halves hold a block's counts: the fullest block there is.
    size = 32 * bit_sliced._SLICE * bit_sliced._MOST_SLICES
    assert size < 2**16
    codes = np.ones((size + 5, 3), np.int8)
    labels = np.zeros(size + 5, int)
    count, relevant = retrieval.distance_histograms(
        codes[:1], labels[:1], codes, labels
    )
    np.testing.assert_array_equal(count, [[size + 5, 0, 0, 0]])
    np.testing.assert_array_equal(relevant, count)


def test_one_compilation_for_all_blocks():
    sets = make(queries=11, items=100, bits=40)
    sharded._program.cache_clear()
    retrieval.distance_histograms(*sets, query_block=4, database_block=32)
    program = sharded._program(None, 40, False, 0)
    assert program._cache_size() == 1


def test_stages_may_fuse_as_on_other_backends(large):
    sets, graded = large
    packed = inputs.pack_sets(*sets)
    found = bit_sliced.count_lanes(
        jnp.asarray(packed.query_code),
        jnp.asarray(packed.query_label),
        bit_sliced.lanes(packed.database_code, packed.database_label),
        None,
        bits=12,
        by_number=False,
        grades=0,
    )
    np.testing.assert_array_equal(found[:, 0], graded.sum(axis=1))
    np.testing.assert_array_equal(found[:, 1], graded[:, 1:].sum(axis=1))


def test_one_hot_of_many_classes_with_unlabelled_rows():
    # Turned into numbers: rows without labels must not meet, nor meet a class.
    codes, labels = np.ones((70, 4)), np.eye(70)
    labels[[3, 69]] = 0
    packed = inputs.pack_sets(codes, labels, codes, labels)
    assert packed.by_number and packed.query_label.shape == (70, 1)
    _, relevant = retrieval.distance_histograms(codes, labels, codes, labels)
    wanted = np.ones(70)
    wanted[[3, 69]] = 0
    np.testing.assert_array_equal(relevant.sum(axis=1), wanted)
    labels[0, 1] = 1
    assert not inputs.pack_sets(codes, labels, codes, labels).by_number


def test_class_numbers_equal_one_hot():
    queries, _, items, _ = make()
    rng = np.random.default_rng(1)
    query, item = rng.integers(0, 40, 7), rng.integers(0, 40, 83)
    by_number = retrieval.distance_histograms(queries, query, items, item)
    one_hot = np.eye(40)
    by_flag = retrieval.distance_histograms(
        queries, one_hot[query], items, one_hot[item]
    )
    assert by_number[1].sum() > 0
    np.testing.assert_array_equal(by_number, by_flag)


def test_every_class_can_be_shared():
    codes, labels = np.ones((70, 4)), np.eye(70)
    _, relevant = retrieval.distance_histograms(codes, labels, codes, labels)
    np.testing.assert_array_equal(relevant.sum(axis=1), np.ones(70))


def test_kinds_of_arrays():
    queries, query, items, item = make()
    wanted = retrieval.distance_histograms(queries, query, items, item)
    for codes, labels in [
        (lambda a: jnp.asarray(a, jnp.bfloat16), jnp.asarray),
        (lambda a: np.where(a >= 0, 1, -1).astype(np.int8), lambda a: a.astype(bool)),
        (np.asfortranarray, lambda a: a.astype(np.int32)),
    ]:
        found = retrieval.distance_histograms(
            codes(queries), labels(query), codes(items), labels(item)
        )
        np.testing.assert_array_equal(found, wanted)


def test_zero_output_counts_as_positive():
    # Published code takes sign(0) = 0, whose distances are halves.
    zero, one = np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)
    label = np.array([0])
    count, _ = retrieval.distance_histograms(zero, label, one, label)
    np.testing.assert_array_equal(count, [[1, 0, 0, 0, 0]])


CASES = {
    "bits": (dict(database_codes=np.ones((4, 5))), "database_codes: found 5 bits"),
    "classes": (dict(database_labels=np.ones((4, 2))), "database_labels: found a lab"),
    "kinds": (dict(database_labels=np.ones(4, int)), "database_labels: found a label"),
    "length": (dict(query_labels=np.ones((2, 3))), r"query_labels: found shape \(2, 3"),
    "items": (dict(database_labels=np.ones((5, 3))), "database_labels: found shape"),
    "no query": (dict(query_codes=np.ones((0, 6))), "query_codes: found shape"),
    "no item": (dict(database_codes=np.ones((0, 6))), "database_codes: found shape"),
    "no bit": (dict(query_codes=np.ones((3, 0))), "query_codes: found shape"),
    "bits too many": (dict(query_codes=np.ones((3, 32768))), "bits 1 to 32767"),
    "nan": (dict(database_codes=np.full((4, 6), np.nan)), "database_codes: found NaN"),
    "bits as numbers": (dict(query_codes=np.eye(6)[:3]), "query_codes: found 0 and 1"),
    "bytes": (dict(query_codes=np.ones((3, 6), np.uint8)), "found dtype uint8"),
    "minus one": (dict(query_labels=-np.ones((3, 3))), "query_labels: found values"),
    "real": (dict(query_labels=np.ones(3)), "query_labels: found one float64 a row"),
    "negative": (dict(query_labels=-np.ones(3, int)), "query_labels: found class num"),
    "query block": (dict(query_block=0), "query_block: found 0"),
    "database block": (dict(database_block=-1), "database_block: found -1"),
}


@pytest.mark.parametrize("name", CASES)
def test_errors(name):
    change, message = CASES[name]
    good = dict(
        query_codes=np.ones((3, 6)),
        query_labels=np.ones((3, 3)),
        database_codes=np.ones((4, 6)),
        database_labels=np.ones((4, 3)),
    )
    retrieval.distance_histograms(**good)
    with pytest.raises(ValueError, match=message) as error:
        retrieval.distance_histograms(**good | change)
    assert "\n" not in str(error.value)
    assert "accepted" in str(error.value)
