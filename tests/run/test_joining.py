"""How processes find each other, and what a helper makes of the runtime's pages."""

import re
import signal
import socket
import subprocess
import sys

import jax
import pytest

from ssah_jax.run import joining, processes, stderr_relay

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-4]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}


@pytest.fixture
def started(monkeypatch):
    """What `jax.distributed.initialize` was called with; no helper is started."""
    calls = []
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *a, **kw: calls.append((a, kw))
    )
    monkeypatch.setattr(joining, "_relay_stderr", lambda *words: None)
    # No backend is asked.
    monkeypatch.setattr(jax, "process_count", lambda: calls[0][0][1] if calls else 1)
    for name in (*SLURM, "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_without_a_cluster_nothing_starts(started, monkeypatch):
    joining.start_processes()
    for name, value in (SLURM | {"SLURM_NTASKS": "1"}).items():
        monkeypatch.setenv(name, value)
    joining.start_processes()
    monkeypatch.setenv("SLURM_NTASKS", "4")
    joining.start_processes(processes=1)
    assert started == [] and not processes.several()


@pytest.mark.parametrize(
    ("tasks", "devices"), [("1(x4)", None), ("2(x2)", [0]), ("1,3", [0])]
)
def test_slurm_is_joined_with_all_devices_of_a_host_of_ones_own(
    tasks, devices, started, monkeypatch
):
    for name, value in (SLURM | {"SLURM_STEP_TASKS_PER_NODE": tasks}).items():
        monkeypatch.setenv(name, value)
    joining.start_processes(heartbeat=33)
    [((address, count, index), options)] = started
    assert re.fullmatch(r"node1:\d+", address) and (count, index) == (4, 2)
    assert options["local_device_ids"] == devices
    assert options["heartbeat_timeout_seconds"] == 33


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("host:1", None, None), {}, "accepted are all three, none"),
        ((None, 2, 0), {}, "accepted are all three, none"),
        (("host", 2, 0), {}, "--coordinator: found 'host', accepted is HOST:PORT"),
        (("host:0", 2, 0), {}, "--coordinator: found 'host:0', accepted is HOST:PORT"),
        (("host:65536", 2, 0), {}, "--coordinator: found 'host:65536', accepted is"),
        ((":1", 2, 0), {}, "--coordinator: found ':1', accepted is HOST:PORT"),
        (("host:1", 0, 0), {}, "--processes: found 0, accepted is at least 1"),
        (("host:1", 2, 2), {}, "--process: found 2, accepted are 0 to 1"),
        (("host:1", 2, -1), {}, "--process: found -1, accepted are 0 to 1"),
        (("host:1", 2, 0), {"heartbeat": 1}, "--heartbeat: found 1"),
    ],
)
def test_arguments_that_do_not_fit_together(arguments, options, message, started):
    with pytest.raises(ValueError, match=re.escape(message)):
        joining.start_processes(*arguments, **options)
    assert started == []


def test_a_cluster_that_does_not_say_enough_is_told(started, monkeypatch):
    for name, value in (SLURM | {"SLURM_PROCID": "two"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"^slurm: found a cluster .*'two'.*none$"):
        joining.start_processes()
    assert started == []


def test_a_port_that_is_taken_is_not_the_coordinators(started):
    with socket.create_server(("localhost", 0)) as taken:
        address = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(ValueError, match=r"--coordinator: found port \d+ taken"):
            joining.start_processes(address, 2, 0)
        assert started == []
        joining.start_processes(address, 2, 1)
    assert len(started) == 1


def test_ctrl_c_ends_a_process_that_waits_and_is_as_before_then(started, monkeypatch):
    seen = []

    def join(*arguments, **options):
        started.append((arguments, options))
        seen.append(signal.getsignal(signal.SIGINT))

    monkeypatch.setattr(jax.distributed, "initialize", join)
    before = signal.getsignal(signal.SIGINT)
    joining.start_processes("host:1", 2, 1)
    assert seen == [signal.SIG_DFL]
    assert signal.getsignal(signal.SIGINT) is before


PAGE = """\
a word before
[Gloo] Rank 0 is connected to 1 peer ranks.
E1127 08:29:56.000372   25096 coordination_service_agent.cc:288] Polled an error.
F1127 08:19:05.452518   15236 client.h:86] Terminating process because it is lost
1
*** Check failure stack trace: ***
    @     0x7f3bb18f8174  absl::log_internal::LogMessage::SendToLog()
"""
LOST = "error: another process was lost; the same command resumes\n"
TWICE = "absl::Status: ALREADY_EXISTS: Aborted connect attempt"
JOINING = "\nRPC: /xla.coordination.CoordinationService/RegisterTask [type]\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\n", "a\nb\n"),
        (PAGE, "a word before\n" + LOST),
        (PAGE + JOINING, "a word before\nerror: nobody\n"),
        (PAGE.replace("it is lost", TWICE) + JOINING, "a word before\nerror: twice\n"),
        ("error: mine\n" + PAGE, "error: mine\na word before\n"),
        (PAGE + "Traceback (most\n  deep\n", "a word before\n" + LOST),
    ],
)
def test_the_relay_shortens_what_the_runtime_says(text, shown):
    found = subprocess.run(
        [sys.executable, stderr_relay.__file__, "nobody", "twice"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.stderr == shown
