"""`ssah encode` by several processes, killed, and beside each other."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import ROOT, environment
from search_cases import NUMBER, call, mistake

from ssah_jax.cli import encoding as encode_lib
from ssah_jax.cli.encoding import encode_images
from ssah_jax.retrieval import read_codes, shard_path


def test_every_process_encodes_its_share(run, encoded, tmp_path, monkeypatch):
    names = list(read_codes(encoded).ids)
    out = tmp_path / "codes.parquet"
    encoder = run.encoder
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    for process in (0, 2, 1):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        summary = encode_images(encoder, names, out)
        assert summary.path == shard_path(out, process, 3)
        assert list(read_codes_alone(summary.path)) == names[process::3]
    assert not out.exists()
    whole, shards = read_codes(encoded), read_codes(out)
    wanted = dict(zip(whole.ids, whole.packed.tolist(), strict=True))
    assert dict(zip(shards.ids, shards.packed.tolist(), strict=True)) == wanted


def read_codes_alone(path: Path) -> list[str]:
    """Ids of one shard, which `read_codes` wants to see with all others."""
    import pyarrow.parquet as pq

    return pq.read_table(path)["id"].to_pylist()


def test_a_share_may_be_empty(run, tmp_path, monkeypatch):
    name, encoder = str(run.photos / run.names[0]), run.encoder
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for process in range(2):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        encode_images(encoder, [name], tmp_path / "c.parquet")
    assert read_codes(tmp_path / "c.parquet").ids == (name,)


def stopped(command: list[str], when: Path, number: int) -> tuple[int, str, str]:
    """Starts a command, sends a signal once something is there; what came of it."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not list(when.parent.glob(when.name)):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.slow
def test_killed_processes_go_on(run, tmp_path, capsys):
    folder, out = tmp_path / "many", tmp_path / "codes.parquet"
    folder.mkdir()
    content = [(run.photos / name).read_bytes() for name in run.names[:NUMBER]]
    for index in range(12_000):
        (folder / f"{index:05}.png").write_bytes(content[index % NUMBER])
    script = "import sys; from ssah_jax.cli import main; sys.exit(main())"
    arguments = ["encode", "--workdir", run.workdir, folder, "--out", out]
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    part = tmp_path / ".codes.parquet.parts" / "part-*0.parquet"
    status, text, err = stopped(command, part, signal.SIGKILL)
    assert (status, text) == (-signal.SIGKILL, "")
    assert not out.exists()
    part = part.with_name("part-*3.parquet")
    status, text, err = stopped(command, part, signal.SIGINT)
    assert (status, text, err) == (130, "", "interrupted\n")
    assert not out.exists()
    assert call(*arguments) == 0
    before = re.search(r"images and (\d+) before", capsys.readouterr().out)
    assert before and 4 * encode_lib.PART_ROWS <= int(before[1]) < 12_000
    found = read_codes(out)
    assert list(found.ids) == [f"{folder}/{index:05}.png" for index in range(12_000)]
    bits = np.unpackbits(found.packed, axis=1)[:, :20]
    wanted = (run.codes >= 0)[np.arange(12_000) % NUMBER]
    np.testing.assert_array_equal(bits, wanted)
    assert sorted(os.listdir(tmp_path)) == ["codes.parquet", "many"]


def encode_together(*arguments):
    """A process of JAX's own coordination for each: what it said, and its status."""
    script = (
        "import sys, jax\n"
        "address, number, index = sys.argv[1:4]\n"
        "jax.distributed.initialize(address, int(number), int(index))\n"
        "from ssah_jax.cli import main\n"
        "sys.exit(main(sys.argv[4:]))\n"
    )
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    number = len(arguments)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, address, str(number), str(index), *each],
            cwd=ROOT,
            env=environment(2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, each in enumerate(arguments)
    ]
    said = [process.communicate(timeout=200)[1] for process in processes]
    return said, [process.returncode for process in processes]


@pytest.mark.slow
def test_two_processes_of_one_program(run, tmp_path):
    """On a share of unequal length."""
    names = [str(run.photos / name) for name in run.names[:49]]
    out = tmp_path / "codes.parquet"
    arguments = ["encode", "--workdir", str(run.workdir), *names, "--out", str(out)]
    said, statuses = encode_together(arguments, arguments)
    assert statuses == [0, 0], said
    assert sorted(os.listdir(tmp_path)) == [
        "codes-00000-of-00002.parquet",
        "codes-00001-of-00002.parquet",
    ]
    found = read_codes(out)
    assert list(found.ids) == names[::2] + names[1::2]
    bits = np.unpackbits(found.packed, axis=1)[:, :20]
    wanted = run.codes[:49] >= 0
    np.testing.assert_array_equal(bits, np.concatenate([wanted[::2], wanted[1::2]]))


@pytest.mark.slow
def test_processes_do_not_encode_different_images(run, tmp_path):
    """Shares of two lists would leave images out, and nobody would know."""
    names = [str(run.photos / name) for name in run.names[:4]]
    rest = ["--workdir", str(run.workdir), "--out", str(tmp_path / "codes.parquet")]
    said, statuses = encode_together(
        ["encode", *names, *rest], ["encode", *reversed(names), *rest]
    )
    assert statuses == [2, 2], said
    for text in said:
        line = text.splitlines()[-1]
        found = r"found '4 \(\w+\)' in process 0 and '4 \(\w+\)' in process 1"
        assert re.match(f"error: images: {found}", line)
    assert not os.listdir(tmp_path)


def test_one_writer_at_a_time(run, tmp_path, capsys):
    from filelock import FileLock

    out = tmp_path / "codes.parquet"
    arguments = ["--workdir", run.workdir, run.photos, "--out", out]
    with FileLock(tmp_path / ".codes.parquet.lock"):
        line = mistake(capsys, "encode", *arguments)
    assert "codes.parquet: another process is writing it" in line
    assert not out.exists()
    assert call("encode", *arguments) == 0
    assert os.listdir(tmp_path) == ["codes.parquet"]
