"""Labels spread as a loop over images says, and reach training batches."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_cases import data_set, write
from hypothesis import given, settings
from hypothesis import strategies as st

from ssah_jax import similarity
from ssah_jax.config import ConfigError, from_config_dict
from ssah_jax.data import label_graph
from ssah_jax.method.steps import gather_batch
from ssah_jax.run import opening, parallel, train_lib, train_state
from ssah_jax.run.experiment import iterate, prepare, spread_labels
from ssah_jax.run.workdir import Workdir, WorkdirError
from ssah_jax.types import ImagePool


def oracle(features, labels, labelled, multi_label, neighbours, alpha, iterations):
    """The same, image by image."""
    number, classes = len(features), labels.shape[1]

    def alike(i, j):
        norm = math.sqrt(sum(features[i] ** 2)) * math.sqrt(sum(features[j] ** 2))
        return sum(features[i] * features[j]) / norm

    weight = np.zeros((number, number))
    for i in range(number):
        order = sorted((j for j in range(number) if j != i), key=lambda j: -alike(i, j))
        for j in order[:neighbours]:
            weight[i, j] += max(alike(i, j), 0) ** 3
            weight[j, i] += max(alike(i, j), 0) ** 3
    degree = weight.sum(axis=1)

    def spread(values):
        start = np.zeros((number, classes))
        for row, image in enumerate(labelled):
            start[image] = values[row]
        now = start.copy()
        for _ in range(iterations):
            after = np.zeros_like(now)
            for i in range(number):
                for j in range(number):
                    if weight[i, j]:
                        share = weight[i, j] / math.sqrt(degree[i] * degree[j])
                        after[i] += alpha * share * now[j]
            now = after + (1 - alpha) * start
        return now

    prior = labels.mean(axis=0)
    present = spread(labels)
    found = np.zeros((number, classes))
    if multi_label:
        absent = spread(1 - labels)
        for i in range(number):
            for c in range(classes):
                p = prior[c] * present[i, c] / max(present[:, c].mean(), 1e-12)
                q = (1 - prior[c]) * absent[i, c] / max(absent[:, c].mean(), 1e-12)
                found[i, c] = p / (p + q) if p + q > 1e-12 else prior[c]
        return found
    for i in range(number):
        mass = prior * present[i] / np.maximum(present.mean(axis=0), 1e-12)
        found[i] = mass / mass.sum() if mass.sum() > 1e-12 else prior / prior.sum()
    return found


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("neighbours", [1, 3, 50])
def test_spreading_equals_the_loop(multi_label, neighbours):
    rng = np.random.default_rng(neighbours)
    features = rng.normal(size=(24, 5)).astype(np.float32)
    if multi_label:
        labels = (rng.random((6, 3)) < 0.5).astype(np.float32)
    else:
        labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 1]]
    labelled = np.array([3, 0, 11, 17, 23, 8])
    options = {"neighbours": neighbours, "alpha": 0.9, "iterations": 7}
    found = label_graph.spread_labels(
        features, labels, labelled, multi_label=multi_label, **options
    )
    wanted = oracle(features, labels, labelled, multi_label, **options)
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def clusters(count, size, seed=0):
    """Points near the axes, `size` a cluster."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(np.eye(count, 8), size, axis=0)
    return (centres + 0.05 * rng.normal(size=centres.shape)).astype(np.float32)


def test_one_label_a_cluster_is_enough():
    features = clusters(3, 20)
    found = label_graph.spread_labels(
        features, np.eye(3, dtype=np.float32), np.array([0, 20, 40]), neighbours=5
    )
    np.testing.assert_array_equal(found.argmax(axis=1), np.repeat(np.arange(3), 20))
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_what_no_label_reaches_has_the_shares_of_the_labels():
    features = clusters(3, 20)
    labels = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    labelled = np.array([0, 1, 2, 20])
    found = label_graph.spread_labels(features, labels, labelled, neighbours=5)
    np.testing.assert_allclose(found[40:], [[0.75, 0.25]] * 20)
    several = label_graph.spread_labels(
        features, labels, labelled, neighbours=5, multi_label=True
    )
    np.testing.assert_allclose(several[40:], [[0.75, 0.25]] * 20)
    assert np.all(several[3:20, 0] > 0.99) and np.all(several[3:20, 1] < 0.01)


def test_a_class_has_the_share_that_it_has_among_the_labels():
    # A long and a short cluster that touch: mass normalisation moves the border.
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 3)).astype(np.float32)
    labels = np.eye(2, dtype=np.float32)[[0] * 8 + [1] * 2]
    found = label_graph.spread_labels(features, labels, np.arange(10), neighbours=5)
    assert 0.65 < found[:, 0].mean() < 0.9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_images_may_come_in_any_order_and_at_any_length(seed, neighbours):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(15, 4)).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]
    labelled = np.array([2, 5, 7, 14])
    found = label_graph.spread_labels(features, labels, labelled, neighbours=neighbours)
    order = rng.permutation(15)
    lengths = rng.uniform(0.5, 4, (15, 1)).astype(np.float32)
    moved = label_graph.spread_labels(
        (lengths * features)[order],
        labels,
        np.argsort(order)[labelled],
        neighbours=neighbours,
    )
    np.testing.assert_allclose(moved, found[order], atol=1e-4)


def test_doubles_and_dark_images_are_no_trouble():
    features = np.zeros((30, 4), np.float32)
    features[:20] = 1.0  # More doubles than neighbours; ten are black.
    labels = np.eye(2, dtype=np.float32)
    found = label_graph.spread_labels(features, labels, np.array([0, 25]), neighbours=3)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


# Points.


def test_points_tell_images_apart_as_pixels_do():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 12, 10, 3), dtype=np.uint8)
    points = label_graph.image_points(images, np.arange(40))
    assert points.shape == (40, 40)
    # All components are there: undoing the scales gives the distances of pixels.
    flat = images.reshape(40, -1).astype(np.float64)
    whole = points * points.std(axis=0)  # (x / sqrt(sd)) * sqrt(sd)
    for i, j in ((0, 1), (5, 39), (7, 7)):
        np.testing.assert_allclose(
            ((whole[i] - whole[j]) ** 2)[:39].sum(),
            ((flat[i] - flat[j]) ** 2).sum(),
            rtol=0.02,
        )


def test_large_images_are_means_of_blocks():
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 256, (2, 70, 65, 1), dtype=np.uint8)
    found = label_graph._shrink(batch).reshape(2, 23, 21)
    for row, column in ((0, 0), (22, 20), (4, 9)):
        block = batch[1, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3, 0]
        np.testing.assert_allclose(found[1, row, column], block.mean(), rtol=1e-5)
    assert label_graph._shrink(batch[:, :32, :32]).shape == (2, 1024)


# Certainty.


def test_certainty_is_one_less_relative_entropy():
    rows = np.array([[1, 0, 0], [1 / 3] * 3, [0.5, 0.5, 0]], np.float32)
    found = similarity.certainty(jnp.asarray(rows), multi_label=False)
    np.testing.assert_allclose(found, [1, 0, 1 - math.log(2) / math.log(3)], atol=1e-5)
    several = similarity.certainty(
        jnp.array([[1, 0, 1], [0.5] * 3, [0.5, 0, 1]]), multi_label=True
    )
    np.testing.assert_allclose(several, [1, 0, 2 / 3], atol=1e-5)


# In a run.


def make_config(**data):
    return from_config_dict(
        {
            "bits": 8,
            "steps": 4,
            "labels_per_class": 5,
            "log_every": 2,
            "checkpoint_every": 2,
            "data": {
                "source": "synthetic",
                "num_queries": 50,
                "num_validation": 50,
                **data,
            },
            "batch": {"labelled": 8, "unlabelled": 16},
            "hnet": {"widths": (4, 8)},
            "anet": {"grid": 3, "width": 4},
            "loss": {"consistent_spread": 1.0},
            "eval": {"every": 0, "batch": 64},
        }
    )


def test_batches_bring_what_the_graph_says_of_their_images():
    experiment = prepare(make_config())
    split, images = experiment.split, experiment.source.images
    spread = spread_labels(experiment)
    seen = np.concatenate([split.labelled, split.unlabelled])
    np.testing.assert_allclose(spread[seen].sum(axis=1), 1, atol=2e-3)
    assert not spread[split.query].any()
    np.testing.assert_array_equal(spread, spread.astype(np.float16))
    right = spread[split.unlabelled].argmax(axis=1)
    truth = experiment.source.labels[split.unlabelled].argmax(axis=1)
    assert (right == truth).mean() > 0.6

    batch = next(iterate(experiment, spread=spread))
    found = {image.tobytes(): row for row, image in enumerate(images)}
    rows = [found[image.tobytes()] for image in batch.unlabelled]
    np.testing.assert_array_equal(batch.spread, spread[rows])

    device = make_config(store="device")
    rows_only = next(iterate(dataclasses.replace(experiment, config=device)))
    pool = ImagePool(images, experiment.source.labels, spread)
    gathered = gather_batch(pool, rows_only)
    for one, other in zip(
        jax.tree.leaves(gathered), jax.tree.leaves(batch), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_nothing_is_computed_that_nothing_asks_for():
    config = make_config()
    off = dataclasses.replace(config.loss, consistent_spread=0.0)
    experiment = prepare(dataclasses.replace(config, loss=off))
    assert spread_labels(experiment) is None
    assert next(iterate(experiment)).spread is None


@pytest.mark.slow
def test_a_step_says_what_it_misses():
    config = make_config()
    experiment = prepare(config)
    step = parallel.jit_train_step(config)
    with pytest.raises(ValueError, match="batch: found no spread labels"):
        step(train_state.init_state(experiment), next(iterate(experiment)))


@pytest.mark.slow
@pytest.mark.parametrize("store", ["memory", "device"])
def test_restarts_keep_the_first_opinion(tmp_path, monkeypatch, store):
    config = make_config(store=store)
    experiment = prepare(config)

    with opening.open_run(experiment, Workdir(tmp_path / "whole")) as opened:
        whole = train_lib.train(opened)
    assert (tmp_path / "whole/spread.npy").is_file()
    line = (tmp_path / "whole/metrics.jsonl").read_text().splitlines()[-1]
    assert '"loss/consistent_spread"' in line

    with opening.open_run(experiment, Workdir(tmp_path / "cut")):
        pass  # Set up and killed before the first step.
    monkeypatch.setattr(
        opening, "spread_labels", lambda _: pytest.fail("computed again")
    )
    with opening.open_run(experiment, Workdir(tmp_path / "cut")) as opened:
        again = train_lib.train(opened)
    assert again["map"] == whole["map"]


def test_a_damaged_opinion_is_one_line(tmp_path):
    experiment = prepare(make_config())
    with opening.open_run(experiment, Workdir(tmp_path / "run")):
        pass
    (tmp_path / "run/spread.npy").write_bytes(b"\x93NUMPY")
    with (
        pytest.raises(WorkdirError, match=r"spread\.npy: found a damaged file"),
        opening.open_run(experiment, Workdir(tmp_path / "run")),
    ):
        pass


@pytest.mark.slow
def test_images_may_be_alike_in_stored_features(tmp_path):
    config = make_config()
    experiment = prepare(config)
    write(experiment.source, tmp_path / "features")
    graph = dataclasses.replace(config.graph, features=str(tmp_path / "features"))
    found = spread_labels(prepare(dataclasses.replace(config, graph=graph)))
    seen = np.concatenate([experiment.split.labelled, experiment.split.unlabelled])
    np.testing.assert_allclose(found[seen].sum(axis=1), 1, atol=2e-3)
    assert not np.array_equal(found, spread_labels(experiment))


@pytest.mark.slow
def test_features_of_other_images_are_refused(tmp_path):
    config = make_config()
    graph = dataclasses.replace(config.graph, features=str(tmp_path))
    experiment = prepare(dataclasses.replace(config, graph=graph))
    with pytest.raises(ValueError, match=r"found no features\.json"):
        spread_labels(experiment)
    write(data_set(20), tmp_path / "other")
    graph = dataclasses.replace(config.graph, features=str(tmp_path / "other"))
    experiment = prepare(dataclasses.replace(config, graph=graph))
    with pytest.raises(ConfigError, match="found features of other images"):
        spread_labels(experiment)
