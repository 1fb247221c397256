"""Names on one line, and files that are never half written."""

import errno
import os
import platform
import subprocess
from pathlib import Path

import pytest

from ssah_jax.retrieval.files import one_line, write_atomically


def test_what_prints_stays_and_all_else_is_escaped():
    assert one_line("plain naïve 名.png") == "plain naïve 名.png"
    assert one_line(Path("a\nb\udce9\\\u202e")) == "a\\nb\\udce9\\\\u202e"
    assert one_line(ValueError("two\nlines")) == "two\\nlines"


def test_atomic_write_replaces_whole_files(tmp_path):
    path = tmp_path / "results.json"
    write_atomically(path, "old")
    write_atomically(path, b"new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_writers_left_is_removed(tmp_path):
    with subprocess.Popen(["true"]) as process:
        process.wait()
    path = tmp_path / "results[1].json"
    host, ours = platform.node(), f".{path.name}.{platform.node()}-"
    left = tmp_path / f"{ours}{process.pid}.tmp"
    kept = [
        tmp_path / f"{ours}{os.getppid()}.tmp",  # under way
        tmp_path / f".{path.name}.not{host}-{process.pid}.tmp",  # of another machine
        tmp_path / f".other.json.{host}-{process.pid}.tmp",
    ]
    for each in (left, *kept):
        each.write_text("half")
    write_atomically(path, "new")
    assert sorted(tmp_path.iterdir()) == sorted([path, *kept])


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_failed_write_keeps_the_old_file_alone(step, tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_atomically(path, "old")

    def full(self, _):
        self.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr("pathlib.Path." + step, full)
    with pytest.raises(OSError):
        write_atomically(path, "new")
    assert os.listdir(tmp_path) == ["results.json"] and path.read_text() == "old"
