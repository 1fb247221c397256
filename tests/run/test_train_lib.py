"""The loop in this process: traces, the evaluator's batches, divergence."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import config, trained

from ssah_jax.data import DataError, SkippedImages
from ssah_jax.method import steps
from ssah_jax.run import evaluators, opening, parallel, train_lib, train_state
from ssah_jax.run.experiment import prepare
from ssah_jax.run.workdir import Workdir

# A step that compiles in a third of the time, for tests of the loop about it.
PLAIN = {
    "anet": {"kind": "none"},
    "loss": {"consistent": 0.0, "hard": 0.0},
}


@pytest.mark.slow
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
    with opening.open_run(experiment, Workdir(tmp_path / "run")) as run:
        results = train_lib.train(run)
    assert results is not None and results["steps"] == 10
    assert traces == {"train": 1, "encode": 1}
    saved = Workdir(tmp_path / "run").read_results()
    assert saved == json.loads(json.dumps(results))


@pytest.mark.slow
def test_the_first_state_is_the_same_as_operation_by_operation():
    experiment = prepare(config(loss={"name": "greedyhash"}))
    wanted = steps.init_state(
        jax.random.key(experiment.config.seed),
        config=experiment.config,
        image_shape=experiment.image_shape,
        num_classes=experiment.source.num_classes,
    )
    found = train_state.init_state(experiment)
    for one, two in zip(
        jax.tree.leaves(found.replace(key=jax.random.key_data(found.key))),
        jax.tree.leaves(wanted.replace(key=jax.random.key_data(wanted.key))),
        strict=True,
    ):
        assert one.dtype == two.dtype and one.weak_type == two.weak_type
        np.testing.assert_array_equal(one, two)


def test_evaluator_encodes_every_image_once_in_order():
    experiment = prepare(config())
    state = train_state.init_state(experiment)
    indices = np.asarray([5, 3, 3, 900, *range(100)])
    found, kept = evaluators.Evaluator(experiment).codes(
        parallel.replicate(state), indices
    )
    np.testing.assert_array_equal(kept, indices)
    images = experiment.source.images[indices]
    encode = jax.jit(partial(steps.encode_step, config=experiment.config))
    wanted = encode(state.teacher, state.teacher_stats, jnp.asarray(images))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_validation_never_touches_test_queries():
    experiment = prepare(config())
    state = parallel.replicate(train_state.init_state(experiment))
    honest = dict(evaluators.Evaluator(experiment).validate(state))
    split = dataclasses.replace(experiment.split, query=np.asarray([], np.int64))
    blind = dataclasses.replace(experiment, split=split)
    assert dict(evaluators.Evaluator(blind).validate(state)) == honest
    assert set(honest) >= {"validation/map", "validation/map_stable"}


@pytest.mark.slow
def test_divergence_names_the_step(tmp_path, monkeypatch):
    real = steps.train_step

    def broken(*args, **kwargs):
        state, metrics = real(*args, **kwargs)
        return state, metrics | {"loss/point": metrics["loss/point"] * np.nan}

    monkeypatch.setattr(steps, "train_step", broken)
    experiment = prepare(config(**PLAIN))
    with (
        opening.open_run(experiment, Workdir(tmp_path / "run")) as run,
        pytest.raises(train_lib.DivergedError, match="step 5: loss/point is nan"),
    ):
        train_lib.train(run)


@pytest.mark.slow
def test_nothing_that_diverged_is_kept(tmp_path, monkeypatch):
    real = steps.train_step

    def broken(*args, **kwargs):
        state, metrics = real(*args, **kwargs)
        bad = jnp.where(state.step > 4, jnp.nan, 1.0)
        return state, metrics | {"gradient/hnet": metrics["gradient/hnet"] * bad}

    monkeypatch.setattr(steps, "train_step", broken)
    # The step that is saved is not one that is logged.
    fields = PLAIN | {"log_every": 10, "checkpoint_every": 3, "eval": {"every": 0}}
    workdir = Workdir(tmp_path / "run")
    with (
        opening.open_run(prepare(config(**fields)), workdir) as run,
        pytest.raises(train_lib.DivergedError, match="step 6: gradient/hnet is nan"),
    ):
        train_lib.train(run)
    assert [path.name for path in workdir.checkpoints.iterdir()] == ["3"]


@pytest.mark.slow
@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_any_share_of_warm_up_trains(warmup, tmp_path):
    experiment = prepare(config(steps=1, optim={"warmup": warmup}, **PLAIN))
    with opening.open_run(experiment, Workdir(tmp_path / "run")) as run:
        assert train_lib.train(run) is not None


def test_state_is_placed_on_all_devices_once(tmp_path):
    with opening.open_run(prepare(config(**PLAIN)), Workdir(tmp_path / "run")) as run:
        for leaf in jax.tree.leaves(run.state):
            assert len(leaf.sharding.device_set) == 8
            assert leaf.sharding.is_fully_replicated


@pytest.mark.slow
def test_images_on_the_device_train_the_same_state(tmp_path):
    states = {}
    for store in ("disk", "device"):
        data = {"source": "synthetic", "crop_size": 12, "store": store}
        sizes = {"num_queries": 50, "num_validation": 50}
        experiment = prepare(config(steps=3, data=data | sizes, **PLAIN))
        assert experiment.image_shape == (12, 12, 1)
        results, state = trained(experiment, Workdir(tmp_path / store))
        states[store] = state, results["map"]
    # Two programs, which XLA may round in two ways.
    close = partial(np.testing.assert_allclose, rtol=0, atol=1e-5)
    jax.tree.map(close, *states.values())


def test_validation_ranks_the_database_without_its_queries(monkeypatch):
    fields = dict(config().data.__dict__) | {"protocol": "pooled"}
    experiment = prepare(config(data=fields))
    split = experiment.split
    assert np.isin(split.validation, split.database).all()
    state = parallel.replicate(train_state.init_state(experiment))
    seen = []
    codes = evaluators.Evaluator.codes

    def spy(self, state, indices):
        seen.append(indices)
        return codes(self, state, indices)

    monkeypatch.setattr(evaluators.Evaluator, "codes", spy)
    dict(evaluators.Evaluator(experiment).validate(state))
    query, database = seen
    np.testing.assert_array_equal(query, split.validation)
    assert not np.isin(database, split.validation).any()
    assert len(database) == 100


def test_skipped_images_are_left_out_of_the_evaluation():
    experiment = prepare(config())
    source, split = experiment.source, experiment.split
    bad = [int(split.query[4]), int(split.database[7])]

    class Damaged:
        shape = source.images.shape

        def __len__(self):
            return len(source.images)

        def __getitem__(self, index):
            if index in bad:
                raise DataError(f"{index}: found damage, expected none")
            return source.images[index]

    state = parallel.replicate(train_state.init_state(experiment))
    damaged = dataclasses.replace(
        experiment,
        source=dataclasses.replace(source, images=Damaged()),
        skipped=SkippedImages(num_images=len(source), max_share=0.01),
    )
    found = dict(evaluators.Evaluator(damaged).test(state))
    smaller = dataclasses.replace(
        split,
        query=np.setdiff1d(split.query, bad),
        database=np.setdiff1d(split.database, bad),
    )
    wanted = dict(
        evaluators.Evaluator(dataclasses.replace(experiment, split=smaller)).test(state)
    )
    assert found["num_skipped"] == 2 and wanted["num_skipped"] == 0
    for name in ("map", "map_stable", "num_query", "num_database"):
        assert found[name] == wanted[name]
