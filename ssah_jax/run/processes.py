"""Several processes that train as one: starting, agreeing, and ending together.

`start_processes` is called at the edge, before any computation; without a cluster it
does nothing, and every function below is then the identity. What the processes tell
each other here goes through JAX's coordination service, a few short texts in a run;
batches, gradients and codes never do.

A process that fails says so to the others and ends them with its own words. One that
is killed cannot: the others then learn of it from a broken collective, at once, or
from its missing heartbeat, after `heartbeat` seconds.
"""

import hashlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Shaped

from ssah_jax.data import SkippedImages

LOST = 75
"""Exit status when another process was lost (EX_TEMPFAIL: try again)."""

HEARTBEAT = 60
"""Seconds without a sign of life after which a process counts as lost."""

JOIN = 300
"""Seconds that processes wait for each other at their start."""

_FAILED = "ssah/failed/"
_SLICE_MS = 200
_LINGER = 2.0
_QUIET = 10.0
_BROKEN = ("gloo", "nccl", "rccl", "unavailable", "deadline_exceeded", "coordination")
_rounds = itertools.count()
_helpers: list[subprocess.Popen[bytes]] = []


class LostProcessError(ValueError):
    """Another process failed or was lost; the message is one line."""


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


def several() -> bool:
    """Whether this run has more than one process."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process writes what only one may write."""
    return jax.process_index() == 0


def gather(text: str) -> list[str]:
    """Every process's text, in their order; all must call this equally often.

    Raises:
        LostProcessError: another process failed before it came here.
    """
    if not several():
        return [text]
    client, name = _client(), f"ssah/gather/{next(_rounds)}/"
    client.key_value_set(f"{name}{jax.process_index()}", text)
    return [_wait_for(f"{name}{index}") for index in range(jax.process_count())]


def check_same(values: Mapping[str, Any]) -> None:
    """Check that all processes start from equal values, such as digests.

    Raises:
        LostProcessError: they do not, or one of them failed before.
    """
    first, *others = [json.loads(text) for text in gather(json.dumps(dict(values)))]
    for index, other in enumerate(others, 1):
        for name in first:
            if first[name] != other[name]:
                raise LostProcessError(
                    f"{name}: found {first[name]!r} in process 0 and {other[name]!r} "
                    f"in process {index}, accepted are equal ones: all processes take "
                    "the same command, the same data and the same workdir"
                )


def digest(tree: Any) -> str:
    """Sixteen hexadecimal digits of the numbers in a pytree."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()[:16]


def share(number: int) -> slice:
    """This process's contiguous share of so many rows."""
    size = -(-number // jax.process_count())
    start = jax.process_index() * size
    return slice(min(start, number), min(start + size, number))


def join_shares(
    rows: Shaped[np.ndarray, "n ..."], number: int
) -> Shaped[np.ndarray, "N ..."]:
    """The rows of all processes, one process after another.

    Args:
        rows: this process's, of `share(number)` or fewer, `[n, ...]`.
        number: of all shares.
    """
    if not several():
        return rows
    size = -(-number // jax.process_count())
    padded = np.zeros((size, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    # Which waits for the slowest, as the collective would not: see `parallel`.
    lengths = map(int, gather(str(len(rows))))
    joined = np.asarray(multihost_utils.process_allgather(padded))
    parts = zip(joined, lengths, strict=True)
    return np.concatenate([part[:length] for part, length in parts])


def join_skipped(skipped: SkippedImages | None) -> None:
    """Tell every process which images any of them could not read.

    Raises:
        DataError: together they are too many.
    """
    if skipped is None or not several():
        return
    for text in gather(json.dumps(skipped.by_index)):
        for index, reason in json.loads(text).items():
            if int(index) not in skipped.by_index:
                skipped.add(int(index), reason)


def failed_elsewhere() -> str | None:
    """What another process said when it failed, None if none did."""
    try:
        found = _client().key_value_dir_get(_FAILED)
    except RuntimeError:
        return None
    own = f"{_FAILED}{jax.process_index()}"
    for key, line in found:
        if key != own:
            return f"process {key.removeprefix(_FAILED)}: {line}"
    return None


def leave(line: str, status: int) -> NoReturn:
    """Tell the others why this process ends, and end it without waiting for them."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        _client().key_value_set(
            f"{_FAILED}{jax.process_index()}", line, allow_overwrite=True
        )
        if is_first():
            # It hosts the service, without which the others could not read it.
            time.sleep(_LINGER)
    except RuntimeError:
        pass
    os._exit(status)


def leave_after(error: BaseException) -> NoReturn:
    """End a process of several because of an error that is nobody's mistake.

    One line if another process is the cause, else a traceback.
    """
    if any(map(_is_broken, _chain(error))):
        # A process that failed on its own is given the time to say so.
        time.sleep(_LINGER / 4)
        cause = failed_elsewhere() or "another process was lost"
        print(f"error: {cause}; the same command resumes", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(LOST)
    traceback.print_exception(error)
    leave(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", 1)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from or while handling."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_broken(error: BaseException) -> bool:
    """Whether an error says that a connection to another process broke."""
    word = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, RuntimeError) and any(each in word for each in _BROKEN)


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


def _client() -> Any:
    # The service has no public face; this module is the only one that talks to it.
    from jax._src import distributed

    return distributed.global_state.client


def _wait_for(key: str) -> str:
    """The text under a key, however long another process takes to write it."""
    while True:
        try:
            return str(_client().blocking_key_value_get(key, _SLICE_MS))
        except RuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        if (line := failed_elsewhere()) is not None:
            raise LostProcessError(line)


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
