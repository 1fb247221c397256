"""mAP from codes: published conventions as loops, and invariances."""

import numpy as np
import pytest
from ranking_cases import csq, make, ranked_flags, sparse, total_of

from ssah_jax import retrieval
from ssah_jax.retrieval import stable

TIES = ["expected", "optimistic", "pessimistic", "stable"]


def deephash_pytorch(sets, k):
    values = []
    for flags in ranked_flags(sets):
        found = sum(flags[:k])
        values.append(total_of(flags[:k]) / found if found else 0.0)
    return values


def deephash_pytorch_all(sets, k):
    # topK = -1 of the published code, which slices [0:-1].
    return deephash_pytorch(sets, -1 if k is None else k)


def hashnet(sets, k):
    values = []
    for flags in ranked_flags(sets):
        found = sum(flags[:k])
        if found:
            values.append(total_of(flags[:k]) / found)
    return values


def total_relevant(sets, k):
    return [total_of(f[:k]) / sum(f) if sum(f) else 0.0 for f in ranked_flags(sets)]


def capped(sets, k):
    return [
        total_of(f[:k]) / min(sum(f), k or len(f)) if sum(f) else 0.0
        for f in ranked_flags(sets)
    ]


LOOPS = dict(
    deephash_pytorch=deephash_pytorch,
    deephash_pytorch_all=deephash_pytorch_all,
    hashnet=hashnet,
    csq=csq,
    total_relevant=total_relevant,
    capped=capped,
)


def test_every_convention_has_a_loop():
    assert set(LOOPS) == set(retrieval.CONVENTIONS)


@pytest.mark.parametrize("top_k", [None, 1, 3, 17, 59, 60, 100])
@pytest.mark.parametrize("name", LOOPS)
def test_conventions_equal_loops(name, top_k):
    sets = sparse()
    wanted = LOOPS[name](sets, top_k)
    found = retrieval.stable_average_precision(
        *sets, top_k=top_k, **retrieval.CONVENTIONS[name]._asdict()
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    mean = retrieval.mean_average_precision(
        *sets, top_k=top_k, ties="stable", convention=name
    )
    assert type(mean) is float
    assert mean == pytest.approx(np.mean(wanted), abs=1e-12)


def test_conventions_differ():
    sets = sparse()
    means = {
        # Ranks before the last; and all but for that which differs at the last only.
        retrieval.mean_average_precision(
            *sets,
            top_k=None if name.endswith("_all") else 5,
            ties="stable",
            convention=name,
        )
        for name in retrieval.CONVENTIONS
    }
    assert len(means) == len(LOOPS)


def test_stable_default_is_deephash_pytorch():
    sets = sparse()
    found = retrieval.average_precision(*sets, top_k=7, ties="stable")
    np.testing.assert_allclose(found, deephash_pytorch(sets, 7), rtol=0, atol=1e-12)


def test_stable_across_blocks_of_both_sides(monkeypatch):
    sets = sparse()
    wanted = retrieval.stable_average_precision(*sets, top_k=20)
    # Two queries at once instead of all nine.
    monkeypatch.setattr(stable, "_KEYS_AT_ONCE", 125)
    found = retrieval.stable_average_precision(*sets, top_k=20)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("bits", [127, 128, 300])
def test_stable_of_long_codes(bits):
    # A key is 2 * distance + relevance: above 127 bits it needs more than a byte.
    query, query_labels, database, database_labels = make(4, queries=3, bits=bits)
    flips = np.linspace(0, bits, len(database)).astype(int)
    for item, flipped in zip(database, flips, strict=True):
        item[:] = query[0]
        item[:flipped] *= -1
    sets = query, query_labels, database[::-1], database_labels
    found = retrieval.stable_average_precision(*sets)
    np.testing.assert_allclose(found, deephash_pytorch(sets, None), rtol=0, atol=1e-12)


def test_stable_with_wide_order_keys(monkeypatch):
    # More than 2**32 places take gigabytes of codes: the choice and the path apart.
    assert stable._dtype_for(2**32) is np.uint32
    assert stable._dtype_for(2**32 + 1) is np.uint64
    sets = sparse()
    wanted = retrieval.stable_average_precision(*sets, top_k=20)
    monkeypatch.setattr(stable, "_dtype_for", lambda places: np.uint64)
    found = retrieval.stable_average_precision(*sets, top_k=20)
    np.testing.assert_array_equal(found, wanted)


def test_stable_beyond_one_database_block():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(65536 + 700, 4)).astype(np.float32)
    labels = rng.integers(0, 3, len(codes))
    query, label = codes[:2], labels[:2]
    found = retrieval.stable_average_precision(query, label, codes, labels)
    for q in range(2):
        distance = ((query[q] >= 0) != (codes >= 0)).sum(axis=1)
        flags = (labels == label[q])[np.argsort(distance, kind="stable")]
        ranks = np.flatnonzero(flags) + 1
        wanted = (np.arange(1, len(ranks) + 1) / ranks).mean()
        assert found[q] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("top_k", [None, 5, 1000])
def test_perfect_codes(ties, top_k):
    codes = np.where(np.random.default_rng(0).random((4, 16)) < 0.5, 1.0, -1.0)
    labels = np.arange(40) % 4
    sets = codes, np.arange(4), codes[labels], labels
    names = retrieval.CONVENTIONS if ties == "stable" else [None]
    for name in names:
        if name == "total_relevant" and top_k == 5:
            continue  # Divides by all 10 relevant items, of which 5 are ranked.
        value = retrieval.mean_average_precision(
            *sets, top_k=top_k, ties=ties, convention=name
        )
        assert value == pytest.approx(1.0, abs=1e-12)


def test_random_codes_give_the_prior():
    rng = np.random.default_rng(0)
    sets = (
        rng.normal(size=(100, 32)),
        rng.integers(0, 10, 100),
        rng.normal(size=(5000, 32)),
        rng.integers(0, 10, 5000),
    )
    for ties in ("expected", "stable"):
        value = retrieval.mean_average_precision(*sets, ties=ties)
        assert value == pytest.approx(0.1, abs=0.005)


def test_expected_ignores_the_order_of_the_database():
    query_codes, query_labels, codes, labels = make(bits=4)
    order = np.random.default_rng(1).permutation(len(codes))
    for ties, same in [("expected", True), ("optimistic", True), ("stable", False)]:
        one = retrieval.mean_average_precision(
            query_codes, query_labels, codes, labels, ties=ties, top_k=11
        )
        two = retrieval.mean_average_precision(
            query_codes, query_labels, codes[order], labels[order], ties=ties, top_k=11
        )
        assert (one == two) is same


@pytest.mark.parametrize("top_k", [None, 8])
def test_expected_is_the_mean_of_shuffled_stable_orders(top_k):
    query_codes, query_labels, codes, labels = make(bits=3, items=20)
    rng = np.random.default_rng(0)
    values = []
    for _ in range(300):
        order = rng.permutation(len(codes))
        values.append(
            retrieval.mean_average_precision(
                query_codes,
                query_labels,
                codes[order],
                labels[order],
                ties="stable",
                convention="capped",
                top_k=top_k,
            )
        )
    wanted = retrieval.mean_average_precision(
        query_codes, query_labels, codes, labels, top_k=top_k
    )
    error = np.std(values) / np.sqrt(len(values))
    assert np.mean(values) == pytest.approx(wanted, abs=4 * error)


def test_bounds_bracket_stable():
    sets = make(bits=4)
    values = {
        ties: retrieval.average_precision(*sets, top_k=9, ties=ties)
        for ties in ("expected", "optimistic", "pessimistic")
    }
    stable = retrieval.average_precision(
        *sets, top_k=9, ties="stable", convention="capped"
    )
    for value in (stable, values["expected"]):
        assert (values["pessimistic"] <= value + 1e-12).all()
        assert (value <= values["optimistic"] + 1e-12).all()


@pytest.mark.parametrize("ties", TIES)
def test_labels_and_codes_are_left_as_they_were(ties):
    # Published code writes -1 over the zeros of its caller's labels.
    sets = make()
    before = [array.copy() for array in sets]
    retrieval.mean_average_precision(*sets, ties=ties)
    retrieval.evaluate(*sets)
    for array, copy in zip(sets, before, strict=True):
        np.testing.assert_array_equal(array, copy)
        array.flags.writeable = False
    retrieval.evaluate(*sets)


@pytest.mark.parametrize("ties", TIES)
def test_the_last_rank_counts(ties):
    # Published code slices [0:-1] for "all"; here the only hit is the last rank.
    query, items = np.ones((1, 4)), np.ones((5, 4))
    items[4] = -1
    labels = np.array([0, 0, 0, 0, 1])
    for top_k, wanted in [(None, 0.2), (5, 0.2), (4, 0.0)]:
        value = retrieval.mean_average_precision(
            query, np.array([1]), items, labels, top_k=top_k, ties=ties
        )
        assert value == pytest.approx(wanted, abs=1e-12)


def test_retrieved_falls_when_a_hit_is_added():
    query, label = np.ones((1, 4)), np.array([1])
    items = np.ones((3, 4))
    items[1, :1], items[2, :2] = -1, -1
    one = retrieval.stable_average_precision(query, label, items, np.array([1, 0, 0]))
    two = retrieval.stable_average_precision(query, label, items, np.array([1, 0, 1]))
    assert one[0] == 1
    assert two[0] == pytest.approx((1 + 2 / 3) / 2)


def test_all_queries_skipped_is_zero():
    query_codes, query_labels, codes, labels = make()
    sets = query_codes, 0 * query_labels, codes, labels
    for name in retrieval.CONVENTIONS:
        assert (
            retrieval.mean_average_precision(*sets, ties="stable", convention=name) == 0
        )
