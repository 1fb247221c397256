"""Scripts of benchmarks/ that call the library's inner functions still fit them."""

import dataclasses
import importlib.util
import json
import os
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssah_jax.config import default, from_config_dict
from ssah_jax.method import steps, views
from ssah_jax.method.codes import encode
from ssah_jax.networks.backbones import SPECS, Classifier
from ssah_jax.types import Batch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Imports a script by name, as Python runs it: its folder is on the path."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.slow
def test_the_roofline_takes_the_step_apart(script):
    roofline = script("roofline")
    config = from_config_dict(default())
    config = dataclasses.replace(
        config, hnet=dataclasses.replace(config.hnet, widths=(2, 2)), bits=4
    )
    key = jax.random.key(0)
    batch = Batch(
        jnp.zeros((4, 8, 8, 1), jnp.uint8),
        jnp.eye(4),
        jnp.zeros((4, 8, 8, 1), jnp.uint8),
    )
    state = steps.init_state(key, config=config, image_shape=(8, 8, 1), num_classes=4)
    parts = roofline.parts_of(config, state, batch)
    assert "A-Net and deformations" in parts
    for function, *arguments in parts.values():
        assert jax.tree.leaves(jax.eval_shape(function, *arguments))


def test_operations_by_hand_are_those_of_a_loop(script):
    flops = script("flops")

    def model(x, kernel, w):
        # A stride, two groups and a padding; then three turns of one product.
        y = jax.lax.conv_general_dilated(
            x,
            kernel,
            (2, 2),
            "SAME",
            feature_group_count=2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return jax.lax.scan(lambda y, _: (jnp.tanh(y @ w), None), y, None, length=3)[0]

    shapes = (2, 8, 8, 4), (3, 3, 2, 6), (6, 6)
    given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    outputs = 2 * 4 * 4 * 6
    convolution, product = 2 * outputs * 3 * 3 * 2, 2 * outputs * 6
    traced = jax.jit(model).trace(*given)
    assert flops.by_hand(traced.jaxpr.jaxpr) == convolution + 3 * product
    # To the images and to the parameters: each as many again.
    both = jax.grad(lambda *given: model(*given).sum(), (0, 1, 2))
    traced = jax.jit(both).trace(*given)
    assert flops.by_hand(traced.jaxpr.jaxpr) == 3 * (convolution + 3 * product)


def test_operations_by_hand_are_near_those_that_xla_counts(script):
    flops = script("flops")
    network = Classifier(SPECS["resnet50"].network(), 10)
    images = jax.ShapeDtypeStruct((2, 128, 128, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)

    def loss(params, variables, images):
        return network.apply({**variables, "params": params}, images).sum()

    for function in (loss, jax.grad(loss)):
        traced = jax.jit(function).trace(variables["params"], variables, images)
        by_xla = traced.lower().cost_analysis()["flops"]
        # XLA leaves out zeros of paddings and counts sums and roots.
        assert flops.by_hand(traced.jaxpr.jaxpr) == pytest.approx(by_xla, rel=0.1)


def test_rates_on_a_gpu_are_not_of_what_xla_counts(script):
    roofline = script("roofline")
    assert roofline.counted_by("cpu") == "gflop_xla"
    assert roofline.counted_by("gpu") == "gflop_by_hand"


def test_the_backbone_record_has_each_row_as_soon_as_it_is_measured(
    script, monkeypatch, tmp_path
):
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    speed, path = script("backbone_speed"), tmp_path / "record.json"
    row = {"backbone": "resnet18", "dtype": "float32"}

    def compare(name, given):
        yield row | {"mode": "forward"}
        found = json.loads(path.read_text())
        assert [each["mode"] for each in found["rows"]] == ["forward"]
        yield row | {"mode": "training"}
        yield row | {"mode": "training", "torch_compiled_images_per_second": 1.0}
        raise KeyboardInterrupt

    monkeypatch.setattr(speed, "compare", compare)
    monkeypatch.setattr(speed.os, "sched_setaffinity", lambda *_: None)
    arguments = ["backbone_speed.py", "--only", "resnet18", "--output", str(path)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(KeyboardInterrupt):
        speed.main()
    found = json.loads(path.read_text())["rows"]
    assert [each["mode"] for each in found] == ["forward", "training"]
    assert found[1]["torch_compiled_images_per_second"] == 1.0


@pytest.mark.parametrize(("on_cpu", "queries"), [(True, 2), (False, 5)])
def test_all_of_evaluate_is_timed_on_all_queries_but_on_a_cpu(
    script, monkeypatch, on_cpu, queries
):
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)
    speed = script("retrieval_speed")
    monkeypatch.setattr(speed, "ON_CPU", on_cpu)
    asked = []
    real = speed.retrieval.evaluate
    evaluate = lambda *sets: asked.append(len(sets[0])) or real(*sets)  # noqa: E731
    monkeypatch.setattr(speed.retrieval, "evaluate", evaluate)
    row = speed.compare(speed.random_sets(5, 40, 8, 3, multi=False), 2, repeats=1)
    assert row["evaluate_queries"] == queries
    assert set(asked) == {queries}


def test_runs_are_equal_but_for_their_times(script, tmp_path):
    deterministic = script("deterministic")
    rows = [
        {"step": 10, "seconds": 1.0, "loss/total": 2.0, "data_wait": 0.1},
        {"step": 20, "seconds": 2.0, "loss/total": 1.0, "images_per_second": 3.0},
    ]
    path = tmp_path / "metrics.jsonl"

    def written(*changes):
        text = [
            json.dumps(row | change) for row, change in zip(rows, changes, strict=True)
        ]
        path.write_text("\n".join(text) + "\n")
        return deterministic.read_rows(path)

    one = written({}, {})
    slower = written({"seconds": 1.5, "data_wait": 0.2}, {"images_per_second": 2.0})
    found = deterministic.differences(one, slower)
    assert (found["equal"], found["largest_relative_difference"]) == (True, 0.0)
    # A difference that has gone again by the last row is one.
    found = deterministic.differences(one, written({"loss/total": 2.0000001}, {}))
    assert (found["equal"], found["first_unequal_step"]) == (False, 10)
    assert found["largest_relative_difference"] == 0.0
    found = deterministic.differences(one, written({}, {"loss/total": 1.25}))
    assert (found["equal"], found["first_unequal_step"]) == (False, 20)
    assert found["largest_relative_difference"] == pytest.approx(0.2)
    assert found["largest_in"] == "loss/total"
    with pytest.raises(SystemExit, match="the same fields"):
        deterministic.differences(one, one[:1])


@pytest.mark.slow
def test_of_each_image_the_hardest_draw_still_recognised_is_picked(script):
    choice = script("choice")
    config = from_config_dict(default())
    config = dataclasses.replace(
        config, hnet=dataclasses.replace(config.hnet, widths=(2, 2)), bits=4
    )
    key = jax.random.key(0)
    images = jax.random.bits(key, (2, 6, 8, 8, 1), jnp.uint8)
    batch = Batch(images[0], jnp.eye(4)[jnp.arange(6) % 4], images[1])
    state = steps.init_state(key, config=config, image_shape=(8, 8, 1), num_classes=4)
    seen = views.make_views(key, batch, config=config)
    found = choice.choose(state, 3, state.anet, seen, state.pace, config=config)
    look = jax.jit(partial(encode, state.teacher, state.teacher_stats, config=config))
    clean = look(jnp.concatenate([seen.labelled, seen.unlabelled]))
    images, codes = [], []
    for draw in range(3):
        apart = jax.vmap(partial(jax.random.fold_in, data=1000 + draw))(seen.keys)
        moved = seen.replace(keys=apart) if draw else seen
        made = choice.own_generate(state.anet, moved, state.pace, config=config)
        images.append(made.images)
        codes.append(look(made.images))
    nearest = partial(np.matmul, np.asarray(state.centres))
    picked = set()
    for row in range(12):
        wanted = row % 4 if row < 6 else np.argmax(nearest(clean[row]))
        values = []
        for code in (each[row] for each in codes):
            lengths = np.linalg.norm(code) * np.linalg.norm(clean[row])
            flips = (1 - np.dot(code, clean[row]) / lengths) / 2
            missed = np.argmax(nearest(code)) != wanted
            values.append(-flips if missed else flips)
        best = int(np.argmax(values))
        np.testing.assert_array_equal(found.images[row], images[best][row])
        picked.add(best)
    assert picked == {0, 1, 2}
