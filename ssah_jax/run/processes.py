"""Several processes that train as one: agreeing, and ending together.

`joining.start_processes` is called before; where it started nothing, every function
below is the identity. What the processes tell each other here goes through JAX's
coordination service, a few short texts in a run; batches, gradients and codes never do.

A process that fails says so to the others and ends them with its own words. One that
is killed cannot: the others then learn of it from a broken collective, at once, or
from its missing heartbeat, after `heartbeat` seconds.
"""

import hashlib
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Shaped

from ssah_jax.data import SkippedImages

LOST = 75
"""Exit status when another process was lost (EX_TEMPFAIL: try again)."""

_FAILED = "ssah/failed/"
_SLICE_MS = 200
_LINGER = 2.0
_BROKEN = ("gloo", "nccl", "rccl", "unavailable", "deadline_exceeded", "coordination")
_rounds = itertools.count()


class LostProcessError(ValueError):
    """Another process failed or was lost; the message is one line."""


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
