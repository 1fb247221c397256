"""The loop in this process: traces, the evaluator's batches, divergence."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssah_jax import evaluators, parallel, steps, train_lib
from ssah_jax.config import Config, from_config_dict
from ssah_jax.experiment import prepare
from ssah_jax.workdir import Workdir


def config(**fields) -> Config:
    return from_config_dict(
        {
            "bits": 16,
            "steps": 10,
            "labels_per_class": 5,
            "log_every": 5,
            "checkpoint_every": 5,
            "batch": {"labelled": 8, "unlabelled": 8},
            "hnet": {"widths": (4, 8)},
            "anet": {"width": 4, "grid": 3},
            "data": {"num_queries": 50, "num_validation": 50},
            "eval": {"every": 5, "batch": 60, "max_database": 100},
        }
        | fields
    )


def test_one_trace_over_steps_epochs_and_odd_batches(tmp_path, monkeypatch):
    traces = {"train": 0, "encode": 0}

    def counted(name, function):
        def call(*args, **kwargs):
            traces[name] += 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(steps, "train_step", counted("train", steps.train_step))
    monkeypatch.setattr(steps, "encode_step", counted("encode", steps.encode_step))
    # 50 labels in batches of 8 over 10 steps: epochs end inside batches. Queries and
    # database are no multiples of the 64 that are encoded at once.
    experiment = prepare(config())
    with train_lib.open_run(experiment, Workdir(tmp_path / "run")) as run:
        results = train_lib.train(run)
    assert results is not None and results["steps"] == 10
    assert traces == {"train": 1, "encode": 1}
    saved = json.loads((tmp_path / "run" / "results.json").read_text())
    assert saved == json.loads(json.dumps(results))


def test_evaluator_encodes_every_image_once_in_order():
    experiment = prepare(config())
    state = train_lib.init_state(experiment)
    indices = np.asarray([5, 3, 3, 900, *range(100)])
    found = evaluators.Evaluator(experiment).codes(
        parallel.replicate(state), experiment.source.train, indices
    )
    images = np.stack([experiment.source.train.images[int(i)] for i in indices])
    wanted = steps.encode_step(
        state.teacher,
        state.teacher_stats,
        jnp.asarray(images),
        config=experiment.config,
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_validation_never_touches_test_queries():
    experiment = prepare(config())
    state = parallel.replicate(train_lib.init_state(experiment))
    honest = dict(evaluators.Evaluator(experiment).validate(state))
    split = dataclasses.replace(experiment.split, query=np.asarray([], np.int64))
    blind = dataclasses.replace(experiment, split=split)
    assert dict(evaluators.Evaluator(blind).validate(state)) == honest
    assert set(honest) >= {"validation/map", "validation/map_stable"}


def test_divergence_names_the_step(tmp_path, monkeypatch):
    real = steps.train_step

    def broken(*args, **kwargs):
        state, metrics = real(*args, **kwargs)
        return state, metrics | {"loss/pair": metrics["loss/pair"] * np.nan}

    monkeypatch.setattr(steps, "train_step", broken)
    experiment = prepare(config())
    with (
        train_lib.open_run(experiment, Workdir(tmp_path / "run")) as run,
        pytest.raises(train_lib.DivergedError, match="step 5: loss/pair is nan"),
    ):
        train_lib.train(run)


def test_state_is_placed_on_all_devices_once(tmp_path):
    with train_lib.open_run(prepare(config()), Workdir(tmp_path / "run")) as run:
        for leaf in jax.tree.leaves(run.state):
            assert len(leaf.sharding.device_set) == 8
            assert leaf.sharding.is_fully_replicated
