"""NDCG against every order of ties, enumerated; means over the queries of a class."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_cases import orders

from ssah_jax import retrieval
from ssah_jax.retrieval import graded, histograms

BITS, MOST = 3, 4
GAINS = dict(linear=lambda g: g, exponential=lambda g: 2**g - 1)
items = st.lists(
    st.tuples(st.integers(0, BITS), st.integers(0, MOST)), min_size=1, max_size=7
)
cuts = st.one_of(st.none(), st.integers(1, 9))


def dcg(gains, top_k):
    ranked = enumerate(gains[:top_k], start=1)
    return sum(gain / math.log2(rank + 1) for rank, gain in ranked)


def histogram(distance, grade):
    count = np.zeros((1, MOST + 1, BITS + 1), int)
    for d, g in zip(distance, grade, strict=True):
        count[0, g, d] += 1
    return count


@settings(max_examples=150, deadline=None)
@given(items=items, top_k=cuts, gain=st.sampled_from(list(GAINS)))
def test_all_orders(items, top_k, gain):
    distance, grade = zip(*items, strict=True)
    gains = [GAINS[gain](g) for g in grade]
    best = dcg(sorted(gains, reverse=True), top_k)
    values = [dcg([gains[n] for n in order], top_k) for order in orders(distance)]
    wanted = np.mean(values) / best if best else 0.0
    found = graded.expected_ndcg(histogram(distance, grade), gain=gain, top_k=top_k)
    assert found[0] == pytest.approx(wanted, abs=1e-12)
    assert 0 <= found[0] <= 1 + 1e-12


@settings(max_examples=50, deadline=None)
@given(items=items, top_k=cuts)
def test_gains_agree_on_one_bit_of_relevance(items, top_k):
    distance, grade = zip(*items, strict=True)
    count = histogram(distance, [min(g, 1) for g in grade])
    linear = graded.expected_ndcg(count, top_k=top_k)
    # Grades that do not occur change nothing.
    for part in (count, count[:, :2]):
        found = graded.expected_ndcg(part, gain="exponential", top_k=top_k)
        np.testing.assert_allclose(found, linear, rtol=0, atol=1e-12)


def test_by_hand():
    # Distances 0, 1, 1, 2 with grades 2, 3, 0, 1.
    count = np.zeros((1, 4, 3), int)
    count[0, 2, 0] = count[0, 3, 1] = count[0, 0, 1] = count[0, 1, 2] = 1
    discount = [1 / math.log2(r + 1) for r in range(1, 5)]
    found = 2 + 1.5 * (discount[1] + discount[2]) + discount[3]
    best = 3 + 2 * discount[1] + discount[2]
    assert graded.expected_ndcg(count)[0] == pytest.approx(found / best)
    best_two = 3 + 2 * discount[1]
    found = graded.expected_ndcg(count, top_k=2)[0]
    assert found == pytest.approx((2 + 1.5 * discount[1]) / best_two)
    found = graded.expected_ndcg(count, gain="exponential", top_k=1)[0]
    assert found == pytest.approx(3 / 7)


def make(seed=0, *, queries=6, items=80, bits=5, classes=6):
    rng = np.random.default_rng(seed)
    return [
        array
        for rows in (queries, items)
        for array in (
            rng.normal(size=(rows, bits)),
            (rng.random((rows, classes)) < 0.4).astype(int),
        )
    ]


@pytest.mark.parametrize("top_k", [None, 11])
def test_order_of_the_database_is_nothing(top_k):
    query_codes, query_labels, codes, labels = make()
    order = np.random.default_rng(1).permutation(len(codes))
    one = histograms.graded_histograms(query_codes, query_labels, codes, labels)
    two = histograms.graded_histograms(
        query_codes, query_labels, codes[order], labels[order]
    )
    np.testing.assert_array_equal(one, two)
    found = graded.expected_ndcg(one, top_k=top_k)
    assert ((found > 0) & (found < 1)).all()


def test_perfect_ranking_is_one():
    # A distance for each grade, the highest nearest.
    count = np.zeros((1, 3, 3), int)
    count[0, 2, 0], count[0, 1, 1], count[0, 0, 2] = 4, 7, 50
    for gain, top_k in itertools.product(GAINS, (None, 1, 6, 61, 1000)):
        found = graded.expected_ndcg(count, gain=gain, top_k=top_k)
        assert found[0] == pytest.approx(1.0, abs=1e-12)
    worst = graded.expected_ndcg(count[:, :, ::-1], top_k=50)
    assert worst[0] == 0


def test_nothing_relevant_is_zero_and_many_grades_are_finite():
    count = np.zeros((2, 3001, 2), int)
    count[:, 0, 0] = 5
    count[1, 3000, 1] = 1
    for gain in GAINS:
        found = graded.expected_ndcg(count, gain=gain)
        np.testing.assert_allclose(found, [0, 1 / math.log2(7)])


def test_errors():
    count = np.ones((1, 2, 3), int)
    with pytest.raises(ValueError, match="gain: found 'log'; accepted are linear, e"):
        graded.expected_ndcg(count, gain="log")
    with pytest.raises(ValueError, match="top_k: found 0; accepted"):
        graded.expected_ndcg(count, top_k=0)


def test_mean_per_class_in_loops():
    rng = np.random.default_rng(0)
    values, labels = rng.random(20), (rng.random((20, 5)) < 0.3).astype(int)
    labels[:, 3] = 0
    found = graded.mean_per_class(values, labels)
    np.testing.assert_array_equal(found.classes, range(5))
    for c in range(5):
        shown = [v for v, label in zip(values, labels, strict=True) if label[c]]
        assert found.num_query[c] == len(shown)
        if shown:
            assert found.mean[c] == pytest.approx(sum(shown) / len(shown))
    assert np.isnan(found.mean[3]) and np.isfinite(np.delete(found.mean, 3)).all()


def test_mean_per_class_of_numbers():
    values = np.array([0.25, 0.75, 1.0])
    found = graded.mean_per_class(values, np.array([2**31 + 7, 4, 4]))
    np.testing.assert_array_equal(found.classes, [4, 2**31 + 7])
    np.testing.assert_array_equal(found.mean, [0.875, 0.25])
    np.testing.assert_array_equal(found.num_query, [2, 1])


def test_single_label_means_average_to_the_map():
    query_codes, _, codes, _ = make()
    labels, item_labels = np.arange(6) % 2, np.arange(80) % 2
    sets = query_codes, labels, codes, item_labels
    per_class = graded.mean_per_class(retrieval.average_precision(*sets), labels)
    mean = retrieval.mean_average_precision(*sets)
    assert per_class.mean.mean() == pytest.approx(mean)
