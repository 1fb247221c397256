"""Metrics from histograms against every order of ties, enumerated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_cases import orders

from ssah_jax import retrieval


def precision_sum(flags, top_k):
    hits, total = 0, 0.0
    for rank, flag in enumerate(flags[:top_k], start=1):
        hits += flag
        total += flag * hits / rank
    return total


def histogram(distance, relevant, bits):
    count = np.zeros((1, bits + 1), int)
    hits = np.zeros((1, bits + 1), int)
    for d, flag in zip(distance, relevant, strict=True):
        count[0, d] += 1
        hits[0, d] += flag
    return count, hits


BITS = 4
items = st.lists(st.tuples(st.integers(0, BITS), st.booleans()), min_size=1, max_size=7)


@settings(max_examples=150, deadline=None)
@given(items=items, top_k=st.one_of(st.none(), st.integers(1, 9)))
def test_all_orders(items, top_k):
    distance, relevant = zip(*items, strict=True)
    pair = histogram(distance, relevant, BITS)
    total = sum(relevant)
    ideal = max(1, total if top_k is None else min(total, top_k))
    values = [
        precision_sum([relevant[n] for n in order], top_k) / ideal
        for order in orders(distance)
    ]
    expected = retrieval.expected_average_precision(*pair, top_k=top_k)
    bounds = retrieval.average_precision_bounds(*pair, top_k=top_k)
    assert expected[0] == pytest.approx(np.mean(values), abs=1e-12)
    assert bounds.optimistic[0] == pytest.approx(max(values), abs=1e-12)
    assert bounds.pessimistic[0] == pytest.approx(min(values), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(items=items, data=st.data())
def test_first_n_over_all_orders(items, data):
    distance, relevant = zip(*items, strict=True)
    n = data.draw(st.integers(1, len(items)))
    pair = histogram(distance, relevant, BITS)
    hits = np.mean([sum(relevant[i] for i in o[:n]) for o in orders(distance)])
    precision = retrieval.precision_at(*pair, n=n)[0]
    recall = retrieval.recall_at(*pair, n=n)[0]
    assert precision == pytest.approx(hits / n, abs=1e-12)
    assert recall == pytest.approx(hits / max(1, sum(relevant)), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(items=items, radius=st.integers(0, BITS))
def test_within_radius(items, radius):
    distance, relevant = zip(*items, strict=True)
    pair = histogram(distance, relevant, BITS)
    flags = [flag for d, flag in items if d <= radius]
    precision = sum(flags) / len(flags) if flags else 0.0
    recall = sum(flags) / max(1, sum(relevant))
    found = retrieval.precision_within_radius(*pair, radius=radius)
    assert found[0] == pytest.approx(precision, abs=1e-12)
    found = retrieval.recall_within_radius(*pair, radius=radius)
    assert found[0] == pytest.approx(recall, abs=1e-12)
    curve = retrieval.precision_recall_curve(*pair)
    assert curve.precision[radius] == pytest.approx(precision, abs=1e-12)
    assert curve.recall[radius] == pytest.approx(recall, abs=1e-12)


def random_histograms(seed, queries=6, bits=10):
    rng = np.random.default_rng(seed)
    sizes = rng.multinomial(500, np.full(bits + 1, 1 / (bits + 1)), size=queries)
    return sizes, rng.binomial(sizes, 0.3)


@pytest.mark.parametrize("top_k", [None, 1, 37, 500, 501])
def test_bounds_bracket(top_k):
    pair = random_histograms(0)
    expected = retrieval.expected_average_precision(*pair, top_k=top_k)
    bounds = retrieval.average_precision_bounds(*pair, top_k=top_k)
    assert (bounds.pessimistic < expected).all()
    assert (expected < bounds.optimistic).all()
    assert (bounds.optimistic <= 1).all() and (bounds.pessimistic >= 0).all()


def test_cut_off_at_the_size_is_no_cut_off_and_one_less_is():
    # Published code takes -1 for "all" and slices [0:-1]: the last rank is lost.
    pair = random_histograms(1)
    whole = retrieval.expected_average_precision(*pair)
    same = retrieval.expected_average_precision(*pair, top_k=500)
    np.testing.assert_allclose(same, whole, rtol=0, atol=1e-14)
    one_less = retrieval.expected_average_precision(*pair, top_k=499)
    assert (one_less < whole).all()


@pytest.mark.parametrize("top_k", [-1, 0])
def test_cut_off_below_one_is_refused(top_k):
    pair = random_histograms(0)
    for metric in (
        retrieval.expected_average_precision,
        retrieval.average_precision_bounds,
    ):
        with pytest.raises(ValueError, match=f"top_k: found {top_k}; accepted"):
            metric(*pair, top_k=top_k)


def test_many_items_keep_their_digits():
    # One group of a million: AP in closed form is a sum that can be done by hand.
    size, hits = 10**6, 1000
    pair = np.array([[size]]), np.array([[hits]])
    ranks = np.arange(1, size + 1)
    slope = (hits - 1) / (size - 1)
    wanted = (1 + slope * (ranks - 1)) / ranks
    found = retrieval.expected_average_precision(*pair)[0]
    assert found == pytest.approx(np.sum(wanted[::-1]) / size, rel=1e-12)


def test_nothing_relevant_is_zero_everywhere():
    count, _ = random_histograms(0)
    none = np.zeros_like(count)
    bounds = retrieval.average_precision_bounds(count, none)
    for values in (
        retrieval.expected_average_precision(count, none),
        retrieval.expected_average_precision(count, none, top_k=3),
        bounds.optimistic,
        bounds.pessimistic,
        retrieval.precision_at(count, none, n=5),
        retrieval.recall_at(count, none, n=5),
        retrieval.recall_within_radius(count, none, radius=10),
        retrieval.precision_recall_curve(count, none).recall,
    ):
        np.testing.assert_array_equal(values, np.zeros_like(values))


def test_curve_is_the_mean_of_the_radius_metrics_and_never_nan():
    # Two disagreeing radius functions in one project: they are one definition here.
    count = np.array([[0, 0, 4, 1], [0, 2, 0, 3]])
    relevant = np.array([[0, 0, 1, 1], [0, 2, 0, 1]])
    curve = retrieval.precision_recall_curve(count, relevant)
    np.testing.assert_array_equal(curve.radius, [0, 1, 2, 3])
    # Radius 0 retrieves nothing for either query; radius 1 for the second only.
    np.testing.assert_allclose(curve.precision, [0, 0.5, (0.25 + 1) / 2, 0.5])
    np.testing.assert_allclose(curve.recall, [0, 1 / 3, (1 / 2 + 2 / 3) / 2, 1])
    assert (np.diff(curve.recall) >= 0).all()


@pytest.mark.parametrize("n", [0, 501])
def test_ranks_outside_the_database_are_refused(n):
    pair = random_histograms(0)
    for metric in (retrieval.precision_at, retrieval.recall_at):
        with pytest.raises(ValueError, match=f"n: found {n}; accepted are 1 to 500"):
            metric(*pair, n=n)


@pytest.mark.parametrize("radius", [-1, 11])
def test_radius_outside_the_code_is_refused(radius):
    pair = random_histograms(0)
    for metric in (retrieval.precision_within_radius, retrieval.recall_within_radius):
        with pytest.raises(ValueError, match=f"radius: found {radius}; accepted are 0"):
            metric(*pair, radius=radius)
