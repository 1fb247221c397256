"""Terminals, pipes, closed streams and interrupts."""

import os
import signal
import subprocess
import sys

import pytest
from commands import ROOT

from ssah_jax import cli
from ssah_jax.cli import errors


def prepare(body: str) -> list[str]:
    """The words that start `ssah prepare`, in a process, with another body."""
    program = f"""
import sys
from ssah_jax.cli import main, prepare
def run(options):
    {body}
    return 0
prepare.run = run
sys.exit(main())
"""
    return [sys.executable, "-W", "error", "-c", program, "prepare"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict"])
def test_a_terminal_without_the_letters(encoding):
    done = subprocess.run(
        prepare(r"print('\u65e5.png'); print('\udcff', file=sys.stderr)"),
        env=os.environ | {"PYTHONIOENCODING": encoding, "LC_ALL": "C"},
        capture_output=True,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (0, b"\\u65e5.png\n")
    assert done.stderr == b"\\udcff\n"


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_leaves(lines):
    with subprocess.Popen(
        prepare(f"import time; time.sleep(.5); print('line\\n' * {lines})"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == errors.CLOSED_PIPE


def test_closed_streams_are_no_files(tmp_path):
    """Of a command that was started with `<&- >&- 2>&-`."""
    words = prepare(
        "import os; print('out'); print('err', file=sys.stderr); "
        f"file = open({str(tmp_path / 'file')!r}, 'w'); "
        "print(os.write(1, b'c') + os.write(2, b'c'), file.fileno() > 2, file=file)"
    )
    shell = 'exec "$0" "$@" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", shell, *words], cwd=ROOT, check=False)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "2 True\n"


def test_interrupts_end_every_command(capsys, monkeypatch):
    for name in cli.COMMANDS:
        module = cli._module(name)
        monkeypatch.setattr(module, "add_arguments", lambda parser: None)
        monkeypatch.setattr(
            module, "run", lambda options: signal.raise_signal(signal.SIGINT)
        )
        assert cli.main([name]) == errors.INTERRUPTED
        assert capsys.readouterr().err == "interrupted\n"
