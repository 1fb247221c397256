"""Signals ask training to stop; the terminal may be gone by then."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from commands import ROOT

from ssah_jax.run.stop_requests import stop_requests


@pytest.mark.parametrize(
    "sent",
    [
        [signal.SIGINT],
        [signal.SIGTERM],
        [signal.SIGHUP],
        [signal.SIGUSR1, signal.SIGTERM],
    ],
)
def test_signals_ask_training_to_stop(sent):
    before = [signal.getsignal(number) for number in sent]
    with stop_requests() as stopped:
        assert not stopped()
        for number in sent:
            signal.raise_signal(number)
        assert stopped()
    assert [signal.getsignal(number) for number in sent] == before


def test_nohup_is_heeded():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as stopped:
            signal.raise_signal(signal.SIGHUP)
            assert not stopped()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_a_terminal_that_closes_asks_training_to_stop():
    """Nothing that is printed afterwards is an error."""
    code = """
        import fcntl, os, signal, sys, termios
        from ssah_jax.run.stop_requests import stop_requests
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        with stop_requests() as stopped:
            print("ready", flush=True)
            while not stopped():
                signal.pause()
            print("a line", flush=True)
            print("a line", file=sys.stderr, flush=True)
        os.write(int(sys.argv[1]), b"done")
    """
    read, write = os.pipe()
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(write)],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        pass_fds=[write],
        start_new_session=True,
    ) as process:
        os.close(write)
        os.close(theirs)
        assert os.read(ours, 100).startswith(b"ready")
        os.close(ours)
        assert process.wait(60) == 0
    assert os.read(read, 100) == b"done"
    os.close(read)


def test_a_second_ctrl_c_ends_at_once():
    with stop_requests() as stopped:
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
