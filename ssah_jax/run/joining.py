"""How the processes of one run find each other: told by hand, or by a cluster.

`start_processes` is called at the edge, before any computation; without a cluster it
does nothing. What processes say to each other from then on is in `processes`.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

HEARTBEAT = 60
"""Seconds without a sign of life after which a process counts as lost."""

JOIN = 300
"""Seconds that processes wait for each other at their start."""

_QUIET = 10.0
_helpers: list[subprocess.Popen[bytes]] = []


def start_processes(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    heartbeat: int = HEARTBEAT,
) -> None:
    """Join the processes of one run, if there are several.

    Either all three arguments are given, or JAX looks for a cluster (Slurm, Open MPI,
    Kubernetes, a TPU pod). Where it finds none, or one of a single process, nothing is
    started. `processes=1` alone says that none shall be.

    A cluster's process takes the one accelerator of its local number if it shares
    its host, else all of the host's.

    Args:
        coordinator: HOST:PORT at which process 0 can be reached.
        processes: how many there are.
        process: which this one is, from 0.
        heartbeat: seconds after which a silent process counts as lost.

    Raises:
        ValueError: one line: arguments that do not fit together, or processes that
            do not find each other.
    """
    given = (coordinator, processes, process)
    if given == (None, 1, None):
        return
    devices = None
    if given == (None, None, None):
        found = _cluster()
        if found is None:
            return
        coordinator, processes, process, devices = found
    elif None in given:
        raise ValueError(
            f"--coordinator, --processes, --process: found {given}, accepted are all "
            "three, none, or --processes 1"
        )
    assert coordinator is not None and processes is not None and process is not None
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(
            f"--coordinator: found {coordinator!r}, accepted is HOST:PORT, a port of "
            "1 to 65535"
        )
    if processes < 1:
        raise ValueError(f"--processes: found {processes}, accepted is at least 1")
    if not 0 <= process < processes:
        raise ValueError(
            f"--process: found {process}, accepted are 0 to {processes - 1}"
        )
    if heartbeat < 2:
        raise ValueError(f"--heartbeat: found {heartbeat}, accepted is at least 2")
    if process == 0:
        _check_free(int(port))
    missing = (
        f"--coordinator, --processes: found no {processes} processes at {coordinator} "
        f"within {JOIN} seconds, accepted are as many as are started, and where "
        "process 0 can be reached"
    )
    twice = (
        f"--process: found {process} in several processes, accepted is a number of its "
        "own for each"
    )
    _relay_stderr(missing, twice)
    with _waiting(f"waiting for {processes} processes at {coordinator}"):
        try:
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                local_device_ids=devices,
                cluster_detection_method="deactivate",
                initialization_timeout=JOIN,
                heartbeat_timeout_seconds=heartbeat,
                # Process 0 evaluates and draws while the others wait to leave.
                shutdown_timeout_seconds=3600,
            )
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise ValueError(f"{missing} ({first})") from error
    if processes > 1 and jax.process_count() != processes:
        raise ValueError(
            f"--processes: found {processes} in process {process} and "
            f"{jax.process_count()} in process 0, accepted is the same number"
        )


def _check_free(port: int) -> None:
    """Check that this process can be the one that the others reach at a port.

    JAX shares a port with whoever listens there already, and hears half of them.
    """
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ValueError(
            f"--coordinator: found port {port} taken on the host of process 0 "
            f"({reason}), accepted is a free one, and --process 0 of one process alone"
        ) from error


@contextmanager
def _waiting(line: str) -> Iterator[None]:
    """Around what waits for other processes: tell so, and obey signals.

    JAX's runtime would not return for Ctrl-C, and would keep SIGTERM for itself.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if main and before != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    told = f"{line}, at most {JOIN} seconds\n"
    timer = threading.Timer(_QUIET, lambda: sys.stderr.write(told))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if main:
            signal.signal(signal.SIGINT, before)
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def _cluster() -> tuple[str, int, int, list[int] | None] | None:
    """Coordinator, processes, process and devices of the cluster, if there is one."""
    # JAX offers no public way to ask without starting.
    from jax._src.clusters import ClusterEnv

    environments = [
        each
        for each in ClusterEnv._cluster_types
        if not each.opt_in_only_method and each.is_env_present()
    ]
    if not environments:
        return None
    env = environments[0]
    try:
        count = env.get_process_count()
        if count is None or count < 2:
            return None
        address, _, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, count, None, None, None, JOIN
        )
    # Broad: each kind of cluster has errors of its own for what it does not say.
    except Exception as error:
        raise ValueError(
            f"{env.name}: found a cluster that does not say who its processes are "
            f"({' '.join(str(error).split())}), accepted are its own variables, "
            "--coordinator --processes --process, or --processes 1 for none"
        ) from error
    assert address is not None and index is not None
    if _alone_on_host():
        devices = None
    return address, count, index, None if devices is None else list(devices)


def _alone_on_host() -> bool:
    """Whether the cluster starts one process on this host."""
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    # As in "1(x4)" or "2,1": only where all hosts have one is the answer known.
    hosts = {each.partition("(")[0] for each in tasks.split(",")}
    return hosts == {"1"} or os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"


def _relay_stderr(missing: str, twice: str) -> None:
    """Let a helper pass on what is written to standard error.

    A lost process makes JAX's runtime abort with a page of its own, which nothing in
    this process can prevent; the helper gives one line in its place. What the runtime
    writes to standard output goes there as well: that is for results.

    Args:
        missing: what to say where not all processes came.
        twice: where another one has this one's number.
    """
    reading, writing = os.pipe()
    relay = Path(__file__).with_name("stderr_relay.py")
    helper = subprocess.Popen(
        [sys.executable, "-I", "-S", str(relay), missing, twice],
        stdin=reading,
        start_new_session=True,
    )
    # It outlives this process by as long as the last words take.
    _helpers.append(helper)
    os.close(reading)
    sys.stderr.flush()
    os.dup2(writing, 2)
    out = sys.stdout
    out.flush()
    own = os.dup(1)
    sys.stdout = os.fdopen(own, "w", encoding=out.encoding, errors=out.errors)
    os.dup2(writing, 1)
    os.close(writing)
