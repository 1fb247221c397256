"""Run commands as a user does, small enough for a test."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ssah_jax import cli

ROOT = Path(__file__).parents[2]

SMALL = (
    "--config.steps=12",
    "--config.log_every=2",
    "--config.checkpoint_every=3",
    "--config.eval.every=6",
    "--config.batch.labelled=16",
    "--config.batch.unlabelled=16",
    "--config.bits=16",
    "--config.hnet.widths=(4,8)",
    "--config.anet.width=4",
    "--config.anet.grid=3",
    "--config.data.num_queries=50",
    "--config.data.num_validation=50",
)
"""Overrides that make a run of configs/digits.py take seconds."""


def environment(devices: int = 1) -> dict[str, str]:
    """The environment of a command: some CPU devices."""
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "PYTHONUNBUFFERED": "1",
    }


def start(script: str, *arguments: str, devices: int = 1) -> subprocess.Popen[str]:
    """Start a script of the project's root."""
    return subprocess.Popen(
        [sys.executable, script, *arguments],
        cwd=ROOT,
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script: str, *arguments: str, devices: int = 1) -> tuple[int, str, str]:
    """Run a script to its end: exit status, standard output, standard error."""
    process = start(script, *arguments, devices=devices)
    out, err = process.communicate(timeout=500)
    return process.returncode, out, err


def here(
    capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Run `ssah` in this process: exit status, standard output, standard error.

    What a process of its own costs is some seconds, and what it shows is shown by few
    of them: see tests/cli/test_commands.py and test_terminals.py.
    """
    capsys.readouterr()
    with contextlib.chdir(ROOT):
        status = cli.main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def start_several(
    script: str,
    *arguments: str,
    processes: int,
    devices: int = 2,
    only: Mapping[int, str] | None = None,
) -> list[subprocess.Popen[str]]:
    """Start one command in several processes that find each other.

    `only` holds arguments of single processes, by their number.
    """
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    return [
        start(
            script,
            *arguments,
            f"--coordinator=localhost:{port}",
            f"--processes={processes}",
            f"--process={index}",
            "--heartbeat=10",
            *([only[index]] if only and index in only else []),
            devices=devices,
        )
        for index in range(processes)
    ]


def ends(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Wait for started scripts: exit status, standard output, standard error."""
    found = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=300)
            found.append((process.returncode, out, err))
    finally:
        for process in processes:
            process.kill()
    return found


def train(workdir: Path, *more: str, devices: int = 1) -> tuple[int, str, str]:
    """Run train.py on the digits, small."""
    return run("train.py", *train_arguments(workdir, *more), devices=devices)


def train_arguments(workdir: Path, *more: str) -> list[str]:
    """Arguments of a small run in a workdir."""
    return [
        "--config=configs/digits.py",
        f"--workdir={workdir}",
        *SMALL,
        *more,
    ]
