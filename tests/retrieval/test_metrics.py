"""mAP from codes: published conventions as loops, invariances, the report."""

import ast
import json
import pathlib

import numpy as np
import pytest

from ssah_jax import retrieval
from ssah_jax.retrieval import graded, histograms, stable

TIES = ["expected", "optimistic", "pessimistic", "stable"]


def make(seed=0, *, queries=9, items=60, bits=12, classes=4, density=0.3):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(queries, bits)).astype(np.float32),
        (rng.random((queries, classes)) < density).astype(np.float32),
        rng.normal(size=(items, bits)).astype(np.float32),
        (rng.random((items, classes)) < density).astype(np.float32),
    )


def ranked_flags(sets):
    """Relevance in stable order, a list for each query, and plainly in loops."""
    query_codes, query_labels, database_codes, database_labels = sets
    for code, label in zip(query_codes, query_labels, strict=True):
        distance = [
            sum((a >= 0) != (b >= 0) for a, b in zip(code, item, strict=True))
            for item in database_codes
        ]
        order = sorted(range(len(distance)), key=lambda n: (distance[n], n))
        yield [bool((label * database_labels[n]).max() > 0) for n in order]


def total_of(flags):
    hits, total = 0, 0.0
    for rank, flag in enumerate(flags, start=1):
        if flag:
            hits += 1
            total += hits / rank
    return total


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


def csq(sets, k):
    values = []
    for flags, label in zip(ranked_flags(sets), sets[1], strict=True):
        if not label.any():
            continue
        found = sum(flags[:k])
        values.append(total_of(flags[:k]) / found if found else 0.0)
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


def sparse():
    """Sets with an unlabelled query and one whose only label no item carries."""
    query_codes, query_labels, database_codes, database_labels = make(3)
    query_labels[2] = 0
    query_labels[5] = [0, 0, 0, 1]
    database_labels[:, 3] = 0
    return query_codes, query_labels, database_codes, database_labels


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


def test_evaluate_agrees_with_its_parts():
    sets = sparse()
    report = retrieval.evaluate(*sets, top_k=20, precision_at=(1, 10, 60, 61))
    for key, ties in [
        ("map", "expected"),
        ("map_stable", "stable"),
        ("map_optimistic", "optimistic"),
        ("map_pessimistic", "pessimistic"),
    ]:
        assert report[key] == retrieval.mean_average_precision(
            *sets, top_k=20, ties=ties
        )
    pair = retrieval.distance_histograms(*sets)
    # 61 ranks are more than the database has.
    assert report["precision_at"] == {
        str(n): retrieval.precision_at(*pair, n=n).mean() for n in (1, 10, 60)
    }
    grades = histograms.graded_histograms(*sets)
    assert grades.shape[1] > 2
    assert report["ndcg"] == graded.expected_ndcg(grades, top_k=20).mean()
    for c, row in report["map_per_class"].items():
        shown = sets[1][:, int(c)] == 1
        assert row["num_query"] == shown.sum() > 0
        for name, ties in [
            ("map", "expected"),
            ("optimistic", "optimistic"),
            ("pessimistic", "pessimistic"),
        ]:
            values = retrieval.average_precision(*sets, top_k=20, ties=ties)
            assert row[name] == pytest.approx(values[shown].mean(), abs=1e-12)
    assert list(report["map_per_class"]) == ["0", "1", "2", "3"]
    curve = retrieval.precision_recall_curve(*pair)
    assert report["pr_curve"] == {
        "radius": list(range(13)),
        "precision": curve.precision.tolist(),
        "recall": curve.recall.tolist(),
    }
    assert report["precision_radius2"] == pytest.approx(curve.precision[2], abs=1e-15)
    assert (report["bits"], report["num_query"], report["num_database"]) == (12, 9, 60)
    assert set(report) == {
        "map",
        "map_stable",
        "map_optimistic",
        "map_pessimistic",
        "ndcg",
        "map_per_class",
        "precision_at",
        "pr_curve",
        "precision_radius2",
        "bits",
        "num_query",
        "num_database",
    }
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_evaluate_names_a_class_without_queries():
    query_codes, query_labels, codes, labels = make()
    query_labels[:, 2] = 0
    report = retrieval.evaluate(query_codes, query_labels, codes, labels)
    assert report["map_per_class"]["2"] == {
        "map": None,
        "optimistic": None,
        "pessimistic": None,
        "num_query": 0,
    }
    json.dumps(report, allow_nan=False)


def test_evaluate_by_number_equals_one_hot():
    query_codes, _, codes, _ = make()
    rng = np.random.default_rng(5)
    query, item = rng.integers(0, 3, 9), rng.integers(0, 3, 60)
    one_hot = np.eye(3)
    assert retrieval.evaluate(query_codes, query, codes, item) == retrieval.evaluate(
        query_codes, one_hot[query], codes, one_hot[item]
    )


def test_evaluate_of_one_bit_codes():
    report = retrieval.evaluate(*make(bits=1))
    assert report["pr_curve"]["radius"] == [0, 1]
    assert report["precision_radius2"] == report["pr_curve"]["precision"][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(ties="random"), "ties: found 'random'; accepted are expected, optim"),
        (dict(top_k=0), "top_k: found 0; accepted are None or a number >= 1"),
        (dict(top_k=-1), "top_k: found -1"),
        (dict(convention="csq"), "convention: found 'csq' with ties='expected'"),
        (dict(ties="stable", convention="x"), "convention: found 'x'.*deephash_py"),
        (dict(ties="stable", top_k=-1), "top_k: found -1"),
    ],
)
def test_option_errors(options, message):
    with pytest.raises(ValueError, match=message):
        retrieval.mean_average_precision(*make(), **options)


def test_other_errors():
    with pytest.raises(ValueError, match="top_k: found -1"):
        retrieval.stable_average_precision(*make(), top_k=-1)
    with pytest.raises(ValueError, match="denominator: found 'all'; accepted are ret"):
        retrieval.stable_average_precision(*make(), denominator="all")
    with pytest.raises(ValueError, match="precision_at: found 0; accepted"):
        retrieval.evaluate(*make(), precision_at=(0, 10))
    with pytest.raises(ValueError, match="top_k: found 0"):
        retrieval.evaluate(*make(), top_k=0)
    query_codes, query_labels, codes, labels = make()
    with pytest.raises(ValueError, match="database_codes: found 8 bits"):
        retrieval.evaluate(query_codes, query_labels, codes[:, :8], labels)


def test_every_public_name_is_documented():
    assert sorted(set(retrieval.__all__)) == sorted(retrieval.__all__)
    for name in retrieval.__all__:
        assert getattr(retrieval, name).__doc__


def test_needs_arrays_only():
    files = pathlib.Path(retrieval.__file__).parent.glob("*.py")
    imports = [
        name
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    ]
    own = [name for name in imports if name.startswith("ssah_jax")]
    assert own and all(name.startswith("ssah_jax.retrieval") for name in own)
    assert not {"flax", "optax", "orbax", "grain"} & {n.split(".")[0] for n in imports}
