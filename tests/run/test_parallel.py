"""The two forms of a step over many devices, and what the loop asks of either."""

import dataclasses

import jax
import numpy as np
import pytest
from quick_cases import slow_but
from small_runs import config, trained

from ssah_jax.run import opening, parallel, processes, train_lib, train_state
from ssah_jax.run.experiment import iterate, prepare
from ssah_jax.run.workdir import Workdir


@pytest.mark.slow
@pytest.mark.parametrize("store", ["disk", "device"])
def test_one_global_program_trains_as_the_mapped_one(store, tmp_path):
    data = dict(dataclasses.asdict(config().data), store=store)
    found = {}
    for form in ("pmap", "jit"):
        asked = config(steps=6, data=data, parallel=form)
        found[form] = trained(prepare(asked), Workdir(tmp_path / form))
    (results, one), (twin, two) = found.values()
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert results["map"] == twin["map"]


@pytest.mark.slow
def test_a_resumed_global_program_is_the_uninterrupted_one(tmp_path, monkeypatch):
    asked = config(steps=6, parallel="jit", checkpoint_every=3)
    _, whole = trained(prepare(asked), Workdir(tmp_path / "whole"))
    workdir = Workdir(tmp_path / "half")

    class Interrupted(Exception):
        pass

    def stop(*args):
        raise Interrupted

    with (
        pytest.raises(Interrupted),
        opening.open_run(prepare(asked), workdir) as run,
    ):
        save = run.checkpoints.save
        monkeypatch.setattr(
            run.checkpoints, "save", lambda *a, **kw: (save(*a, **kw), stop())
        )
        train_lib.train(run)
    assert workdir.saved_steps() == [3]
    _, resumed = trained(prepare(asked), workdir)
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)


@pytest.mark.slow
@pytest.mark.parametrize("form", slow_but(["pmap", "jit"], "pmap"))
def test_the_state_is_donated_and_placed_where_it_comes_out(form, recwarn):
    """So there is one trace, and never two states in memory."""
    asked = config(parallel=form)
    experiment = prepare(asked)
    state = parallel.place_state(train_state.init_state(experiment), asked)
    batch = parallel.place_batch(next(iterate(experiment)), asked)
    before = jax.tree.leaves(state)
    after, _ = parallel.train_step(asked)(state, batch)
    assert all(leaf.is_deleted() for leaf in before)
    for old, new in zip(before, jax.tree.leaves(after), strict=True):
        assert new.sharding.is_equivalent_to(old.sharding, new.ndim)
    assert not [w for w in recwarn if "donated" in str(w.message)]


def test_a_step_of_several_processes_waits_for_the_slowest_to_compile(monkeypatch):
    said = []

    class Program:
        def lower(self, *arguments):
            return self

        def compile(self):
            said.append("compiled")

        def __call__(self, *arguments):
            said.append("called")

    monkeypatch.setattr(processes, "gather", lambda text: said.append("all are there"))
    alone = parallel._together(Program())
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    step = parallel._together(Program())
    for each in (alone, step, step):
        each()
    assert said == ["called", "compiled", "all are there", "called", "called"]


def test_the_program_of_the_same_run_is_kept():
    kept = parallel.train_step(config())
    assert parallel.train_step(config()) is kept
    assert parallel.train_step(config(steps=3)) is not kept
    encode = parallel.pmap_encode_step(config())
    assert parallel.pmap_encode_step(config()) is encode
    assert parallel.pmap_describe_step(config()) is not encode
