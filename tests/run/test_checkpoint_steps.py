"""Steps of checkpoints: which are kept, found and refused."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from checkpoint_cases import bits, make_iterator

from ssah_jax.run.checkpoint_digest import CheckpointError
from ssah_jax.run.checkpointing import Checkpoints, open_checkpoints


def save(
    checkpoints: Checkpoints, step: int, *, metric: float | None = None
) -> dict[str, jax.Array]:
    state = {"w": jnp.full((2, 3), step, jnp.float32), "e": {}}
    checkpoints.save(step, state, iterators={}, metric=metric)
    return state


def snapshot(directory: Path) -> dict[str, tuple[int, int]]:
    paths = [directory, *directory.rglob("*")]
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in paths}


def test_keeps_the_latest_two_and_the_best(tmp_path):
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() is None
        assert checkpoints.best_step() is None
        assert checkpoints.all_steps() == []
        save(checkpoints, 1)
        assert checkpoints.best_step() is None
        assert checkpoints.latest_step() == 1
        save(checkpoints, 2, metric=0.9)
        assert checkpoints.all_steps() == [1, 2]
        assert checkpoints.best_step() == 2
        save(checkpoints, 3, metric=0.4)
        save(checkpoints, 4)
        assert checkpoints.all_steps() == [2, 3, 4]  # 1 had no metric
        assert (checkpoints.best_step(), checkpoints.latest_step()) == (2, 4)
        save(checkpoints, 5, metric=float("nan"))
        assert checkpoints.all_steps() == [2, 4, 5]
        assert checkpoints.best_step() == 2
    # On disk, and to one who opens it afresh.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4", "5"]
    for read_only in (True, False):
        with open_checkpoints(tmp_path, read_only=read_only) as checkpoints:
            assert checkpoints.all_steps() == [2, 4, 5]
            assert (checkpoints.best_step(), checkpoints.latest_step()) == (2, 5)
    with open_checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 6, metric=0.9)  # the newest of equals
        assert checkpoints.best_step() == 6
        assert checkpoints.all_steps() == [5, 6]
        save(checkpoints, 7, metric=-1.0)
        save(checkpoints, 8)
        assert (checkpoints.best_step(), checkpoints.all_steps()) == (6, [6, 7, 8])


def test_restores_the_step_asked_for(tmp_path):
    with open_checkpoints(tmp_path) as checkpoints:
        best = save(checkpoints, 1, metric=0.5)
        latest = save(checkpoints, 2)
        assert bits(checkpoints.restore(latest, step=1)) == bits(best)
        assert bits(checkpoints.restore(best)) == bits(latest)
        assert bits(checkpoints.restore(best, step=2)) == bits(latest)


def test_read_only_touches_nothing(tmp_path):
    directory = tmp_path / "checkpoints"
    with open_checkpoints(directory, read_only=True) as checkpoints:
        assert checkpoints.all_steps() == []
        assert checkpoints.latest_step() is None
        assert checkpoints.best_step() is None
    assert not directory.exists()
    with open_checkpoints(directory) as checkpoints:
        save(checkpoints, 1, metric=0.5)
        state = save(checkpoints, 2)
    partial = directory / "3.orbax-checkpoint-tmp" / "state.orbax-checkpoint-tmp"
    partial.mkdir(parents=True)
    before = snapshot(directory)
    with open_checkpoints(directory, read_only=True) as checkpoints:
        assert checkpoints.all_steps() == [1, 2]
        assert bits(checkpoints.restore(state)) == bits(state)
        with pytest.raises(CheckpointError, match="read-only, cannot save step 3"):
            save(checkpoints, 3)
    assert snapshot(directory) == before


def test_a_step_is_saved_once_and_in_order(tmp_path):
    with open_checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 5)
        for step in (5, 4):
            with pytest.raises(
                CheckpointError, match=f"cannot save step {step}, the latest is 5$"
            ):
                save(checkpoints, step)
        assert checkpoints.all_steps() == [5]


def test_missing_checkpoints_are_one_line(tmp_path):
    state = {"w": jnp.zeros((2, 3)), "e": {}}
    for read_only in (True, False):
        with (
            open_checkpoints(tmp_path, read_only=read_only) as checkpoints,
            pytest.raises(CheckpointError) as caught,
        ):
            checkpoints.restore(state)
        assert str(caught.value) == f"{tmp_path}: no checkpoint"
    with open_checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 1, metric=0.5)
        save(checkpoints, 2)
        with pytest.raises(CheckpointError) as caught:
            checkpoints.restore(state, step=7)
        assert (
            str(caught.value)
            == f"{tmp_path}: no checkpoint of step 7; there are [1, 2]"
        )
        iterator = make_iterator(0)
        with pytest.raises(CheckpointError, match=r"no iterator 'labelled'; .* \[\]$"):
            checkpoints.restore(state, iterators={"labelled": iterator})
        checkpoints.save(3, state, iterators={"unlabelled": iterator}, metric=None)
        with pytest.raises(CheckpointError, match=r"it holds \['unlabelled'\]$"):
            checkpoints.restore(state, iterators={"labelled": iterator})


def test_a_half_removed_checkpoint_does_no_harm(tmp_path):
    with open_checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 1, metric=0.5)
        state = save(checkpoints, 2)
    shutil.rmtree(tmp_path / "1" / "state")
    with open_checkpoints(tmp_path) as checkpoints:
        assert bits(checkpoints.restore(state)) == bits(state)
        with pytest.raises(CheckpointError, match="step 1 is damaged"):
            checkpoints.restore(state, step=1)
