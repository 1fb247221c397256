"""Checkpoints that a disk or a hand has changed are never taken for what was saved."""

import itertools
import json
from pathlib import Path

import grain
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_cases import in_a_process

from ssah_jax.run.checkpoint_digest import CheckpointError, DamagedCheckpoint
from ssah_jax.run.checkpointing import open_checkpoints

STATE = {"w": jnp.arange(6.0).reshape(2, 3), "step": jnp.int32(0)}


def positions() -> dict[str, grain.DatasetIterator]:
    return {"a": iter(grain.MapDataset.range(50).to_iter_dataset())}


def write(directory: Path) -> None:
    """Three checkpoints, whose numbers tell which they are; the first is the best."""
    iterators = positions()
    with open_checkpoints(directory) as checkpoints:
        for step in (1, 2, 3):
            next(iterators["a"])
            state = {"w": STATE["w"] + step, "step": jnp.int32(step)}
            metric = 1.0 / step
            checkpoints.save(step, state, iterators=iterators, metric=metric)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 0x10
    path.write_bytes(content)


def changed_number(folder: Path) -> None:
    """As if Orbax had decoded another number: one that its own checks let pass."""
    path = folder / "digest" / "metadata"
    values = json.loads(path.read_text())
    values["state"] = "0" * len(values["state"])
    path.write_text(json.dumps(values))


def changed_position(folder: Path) -> None:
    (folder / "iterator_a" / "metadata").write_text('{"next_index": 7}')


def cut(name: str):
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return damage


DAMAGES = {
    "a number": changed_number,
    "a position": changed_position,
    "tree": cut("state/_METADATA"),
    "manifest": cut("state/manifest.ocdbt"),
    "digest": cut("digest/metadata"),
    "iterator": cut("iterator_a/metadata"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_the_one_before_is_used(name, tmp_path, capsys):
    write(tmp_path)
    DAMAGES[name](tmp_path / "3")
    if name != "digest":  # which is looked at when they are opened
        with (
            open_checkpoints(tmp_path, read_only=True) as checkpoints,
            pytest.raises(DamagedCheckpoint, match="step 3 is damaged"),
        ):
            checkpoints.restore(STATE, iterators=positions())
    iterators = positions()
    with open_checkpoints(tmp_path) as checkpoints:
        state = checkpoints.restore_latest(STATE, iterators=iterators)
        assert int(state["step"]) == 2
        np.testing.assert_array_equal(state["w"], STATE["w"] + 2)
        assert next(iterators["a"]) == 2
        # Its step can be saved again.
        checkpoints.save(3, state, iterators=iterators, metric=None)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("warning: ")
    assert "step 3 is damaged" in said and (tmp_path / "3.damaged").is_dir()


def test_a_changed_metric_makes_no_other_best(tmp_path, capsys):
    write(tmp_path)
    (tmp_path / "1" / "metrics" / "metrics").write_text('{"map": 0.1}')
    with pytest.raises(DamagedCheckpoint, match=r"step 1 is damaged \(its metric\)"):
        open_checkpoints(tmp_path, read_only=True)
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.all_steps() == [2, 3]
    assert "step 1 is damaged" in capsys.readouterr().err


def test_nothing_begins_anew_where_all_are_damaged(tmp_path):
    write(tmp_path)
    for step in (1, 2, 3):
        changed_number(tmp_path / str(step))
    with (
        open_checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="step 1 is damaged"),
    ):
        checkpoints.restore_latest(STATE, iterators=positions())


def test_flipped_bits_never_give_other_numbers(tmp_path):
    write(tmp_path)
    files = [p for p in sorted((tmp_path / "3").rglob("*")) if p.is_file()]
    noticed = 0
    for path, at in itertools.product(files, (11, 57)):
        flip(path, at)
        try:
            with open_checkpoints(tmp_path, read_only=True) as checkpoints:
                found = checkpoints.restore(STATE, iterators=positions(), step=3)
                np.testing.assert_array_equal(found["w"], STATE["w"] + 3)
                assert int(found["step"]) == 3
        except CheckpointError as error:
            noticed += 1
            assert "\n" not in str(error)
        flip(path, at)
    assert noticed >= 10  # Orbax keeps much twice


@pytest.mark.slow
def test_a_disk_that_fails_within_a_save_is_one_error(tmp_path):
    """Orbax's threads would fill the screen, while and after it is told."""
    script = """
        import errno, logging, resource, sys
        import jax, jax.numpy as jnp
        from ssah_jax.run.checkpointing import open_checkpoints
        absl = logging.getLogger("absl")
        told = absl.makeRecord(
            "absl", logging.ERROR, "/orbax/future.py", 9, "_SignalingThread", (), None
        )
        with open_checkpoints(sys.argv[1]) as checkpoints:
            state = {str(i): jnp.ones(9) for i in range(20)}
            checkpoints.save(1, state, iterators={}, metric=None)
            checkpoints.wait()
            large = {k: jax.random.normal(jax.random.key(0), 999) for k in state}
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            try:
                checkpoints.save(2, large, iterators={}, metric=None)
                checkpoints.wait()
            except OSError as error:
                print(errno.errorcode[error.errno])
        # A thread that learns of it when all is closed.
        absl.handle(told)
    """
    done = in_a_process(script, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "EFBIG\n", "")
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.all_steps() == [1]
