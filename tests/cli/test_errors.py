"""What is told of errors: one line where they are for users, also of full disks."""

import errno
import os
import shutil
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from ssah_jax import cli
from ssah_jax.cli import errors
from ssah_jax.cli import prepare as prepare_command
from ssah_jax.run.checkpoint_digest import CheckpointError
from ssah_jax.run.checkpointing import open_checkpoints
from ssah_jax.run.workdir import WorkdirError


@pytest.mark.parametrize("error", [ValueError("x"), PermissionError(13, "no", "f")])
def test_while_setting_up_an_error_of_the_system_is_the_users(error):
    with pytest.raises(errors.UserError), errors.setting_up():
        raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line(capsys, monkeypatch, number):
    def run(options):
        try:
            raise OSError(number, os.strerror(number), "/disk/file")
        except OSError as error:
            raise RuntimeError("of some library") from error

    monkeypatch.setattr(prepare_command, "run", run)
    assert cli.main(["prepare"]) == 2
    said = f"error: /disk/file: cannot be written ({os.strerror(number)})\n"
    assert capsys.readouterr().err == said


def test_errors_made_for_users_are_one_line_wherever_raised(capsys, monkeypatch):
    raised: list[Exception] = []

    def run(options):
        raise raised[-1]

    monkeypatch.setattr(prepare_command, "run", run)
    for kind in (WorkdirError, CheckpointError):
        raised.append(kind("of a\nfile"))
        assert cli.main(["prepare"]) == 2
        assert capsys.readouterr().err == "error: of a file\n"
    raised.append(ValueError("a defect"))
    with pytest.raises(ValueError, match="a defect"):
        cli.main(["prepare"])


@pytest.mark.parametrize("filled", ["before", "meanwhile"])
def test_a_disk_without_room_for_a_checkpoint(tmp_path, monkeypatch, filled):
    """Where it is known before, Orbax does not begin; else its errors are one."""
    state = {"a": jnp.zeros(1000)}
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, iterators={}, metric=None)
        checkpoints.wait()
        if filled == "before":
            usage = SimpleNamespace(free=1_000_000)
            monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        else:
            said = "RESOURCE_EXHAUSTED: [OS error 28: No space left on device]"

            def save(*args, **options):
                raise ValueError(said)

            monkeypatch.setattr(checkpoints._manager, "save", save)
        with pytest.raises(OSError) as raised:
            checkpoints.save(2, state, iterators={}, metric=None)
    assert raised.value.errno == errno.ENOSPC
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1"]
    told = errors.disk_trouble(raised.value)
    assert told.startswith(f"{tmp_path}: cannot be written (No space left on device")
