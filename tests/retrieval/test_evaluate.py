"""`evaluate` and the options and names of the metrics."""

import ast
import json
import pathlib

import numpy as np
import pytest
from ranking_cases import make, sparse

from ssah_jax import retrieval
from ssah_jax.retrieval import graded, histograms


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
    rooms = ("ssah_jax.retrieval", "ssah_jax.similarity")
    assert own and all(name.startswith(rooms) for name in own)
    assert not {"flax", "optax", "orbax", "grain"} & {n.split(".")[0] for n in imports}
