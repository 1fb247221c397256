"""Checkpoints of a training run: its state, its data iterators, its best metric.

The only module that knows Orbax (https://orbax.readthedocs.io): whoever calls it
sees steps, pytrees and one kind of error. A checkpoint is one directory named by
its step, with one item for the state and one for each Grain iterator, committed as
a whole: a process killed while it saves leaves the checkpoints before it intact, and
what it left unfinished is ignored and removed by the next writer. A digest of all of
it lies in each, so that a damaged one is never taken for what was saved.

Kept are the two latest checkpoints and the best of those saved with a metric.
"""

import errno
import itertools
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import unflatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    BestN,
    LatestN,
)

from ssah_jax.run import processes
from ssah_jax.run.checkpoint_digest import (
    DIGEST,
    METRIC,
    CheckpointError,
    DamagedCheckpoint,
    damaged_metrics,
    digest_of,
    read_json,
)
from ssah_jax.run.quiet_orbax import QuietOrbax, drop_late_callbacks
from ssah_jax.run.state_tree import KeyPath, by_path, description, first_mismatch

State = TypeVar("State")
Iterators = Mapping[str, grain.DatasetIterator]

_ROOM = 1 << 20
"""Bytes of a checkpoint beside its arrays, and some to spare."""

_STATE = "state"
_ITERATOR = "iterator_"

# What says nothing of the files. Orbax, its JSON and TensorStore raise all kinds of
# others where files are not what they wrote, `Exception` itself among them.
_NO_DAMAGE = (OSError, MemoryError, jax.errors.JaxRuntimeError)


class Checkpoints(AbstractContextManager["Checkpoints"]):
    """The checkpoints of one run, newest and best; open with `open_checkpoints`.

    A context manager: leaving it waits for the save in progress. One writer may have
    a directory open at a time; any number of readers may beside it.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, read_only: bool, async_save: bool
    ) -> None:
        """See `open_checkpoints`."""
        self._directory = Path(directory).absolute()
        self._read_only = read_only
        self._broken = False
        self._quiet = QuietOrbax()
        logging.getLogger("absl").addFilter(self._quiet)
        drop_late_callbacks()
        try:
            for step in damaged_metrics(self._directory):
                self._set_aside(DamagedCheckpoint(self._directory, step, "its metric"))
            self._manager = ocp.CheckpointManager(
                self._directory, options=_options(read_only, async_save)
            )
        except BaseException:
            logging.getLogger("absl").removeFilter(self._quiet)
            raise

    def __exit__(self, *error: object) -> None:
        """Waits for the save in progress and frees the threads behind it."""
        try:
            with self._disk_errors():
                self._manager.close()
        finally:
            # The threads of a save that broke may speak of it when all is closed.
            if not self._broken:
                logging.getLogger("absl").removeFilter(self._quiet)

    def wait(self) -> None:
        """Blocks until the save in progress is committed; raises what broke it."""
        with self._disk_errors():
            self._manager.wait_until_finished()

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Raise an OSError where some other error repeats what a disk said."""
        try:
            yield
        except Exception as error:
            self._broken = True
            for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                if os.strerror(number) in str(error):
                    where = str(self._directory)
                    raise OSError(number, os.strerror(number), where) from error
            raise

    def _check_room(self, state: Any) -> None:
        """Raise an OSError where the disk has no room for another checkpoint.

        Orbax would begin, and its threads would fill the screen.
        """
        wanted = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _ROOM
        if shutil.disk_usage(self._directory).free < wanted:
            message = f"{os.strerror(errno.ENOSPC)} for {wanted / 1e6:.0f} MB"
            raise OSError(errno.ENOSPC, message, str(self._directory))

    def latest_step(self) -> int | None:
        """The newest step saved (or being saved), None without any."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The step of the highest metric, the newest of equals; None without any."""
        return self._manager.best_step()

    def find(self, wanted: str) -> int:
        """The step of "last", "best" or a number in words.

        Raises:
            CheckpointError: there is none, or `wanted` is something else.
        """
        if wanted == "best":
            best = self.best_step()
            if best is None:
                raise CheckpointError(
                    f"{self._directory}: no checkpoint has a validation metric"
                )
            return best
        if wanted != "last" and not wanted.isdecimal():
            raise CheckpointError(
                f"step: found {wanted!r}, accepted are last, best or a number"
            )
        return self._existing(None if wanted == "last" else int(wanted))

    def all_steps(self) -> list[int]:
        """The steps that can be restored, ascending."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        step: int,
        state: Any,
        *,
        iterators: Iterators,
        metric: float | None,
    ) -> None:
        """Saves state and iterators as the checkpoint of `step`.

        Returns once both are copied off the devices; the files are written behind
        the next steps, so the caller may donate `state` at once. Waits first for the
        save before it.

        Args:
            step: completed steps; must be above `latest_step()`.
            state: pytree of arrays and typed keys, such as `types.TrainState`.
            iterators: Grain iterators by name, saved at their present element; their
                states are equal in all processes.
            metric: what `best_step` ranks by, higher is better, such as the
                validation mAP in [0, 1]. With None or a number that is not finite
                the checkpoint never counts as best, and is kept only while latest.

        Raises:
            CheckpointError: opened read-only, or `step` is not above the latest.
            OSError: the disk is full; nothing was written, or what was is ignored.
        """
        if self._read_only:
            raise CheckpointError(
                f"{self._directory}: opened read-only, cannot save step {step}"
            )
        latest = self.latest_step()
        # Orbax drops such a save without a word.
        if latest is not None and step <= latest:
            raise CheckpointError(
                f"{self._directory}: cannot save step {step}, the latest is {latest}"
            )
        self.wait()
        self._check_room(state)
        # Plain dicts: Orbax maps the tree to its own records on the way, which a
        # state class that checks its fields would refuse.
        tree = by_path(state)
        items = {_STATE: ocp.args.StandardSave(unflatten_dict(tree))}
        positions = {name: each.get_state() for name, each in iterators.items()}
        for name, position in positions.items():
            # Not Grain's own handler, which keeps a file for each process and so
            # fixes their number: positions are those of the global batch.
            items[_ITERATOR + name] = ocp.args.JsonSave(position)
        if metric is not None:
            metric = float(metric) if math.isfinite(metric) else None
        digest = digest_of(state, tree, positions, metric)
        items[DIGEST] = ocp.args.JsonSave(digest)
        with self._disk_errors():
            self._manager.save(
                step,
                args=ocp.args.Composite(**items),
                metrics=None if metric is None else {METRIC: metric},
                # Saving has no interval here: the caller has decided.
                force=True,
            )

    def restore(
        self,
        state_like: State,
        *,
        iterators: Iterators | None = None,
        step: int | None = None,
    ) -> State:
        """Restores a checkpoint, its shapes and dtypes checked first.

        Args:
            state_like: the state to restore into, or its `jax.eval_shape`: every
                leaf gives shape, dtype and, if it has one, sharding. A leaf without
                sharding is replicated over all devices.
            iterators: Grain iterators by name, of the pipelines that were saved,
                which are moved to the saved element in place. None (an evaluation)
                leaves them out; those saved but not named stay unread.
            step: which checkpoint; None for the latest.

        Returns:
            The saved state, a pytree like `state_like`.

        Raises:
            CheckpointError: there is no such checkpoint, an iterator was not saved
                with it, or its tree, a shape or a dtype differs from `state_like`.
            DamagedCheckpoint: it is not what was saved.
        """
        self.wait()
        step = self._existing(step)
        folder = self._directory / str(step)
        iterators = iterators or {}
        for name in iterators:
            if not (folder / (_ITERATOR + name)).exists():
                present = sorted(
                    path.name.removeprefix(_ITERATOR)
                    for path in folder.iterdir()
                    if path.name.startswith(_ITERATOR)
                )
                raise CheckpointError(
                    f"{self._directory}: step {step} holds no iterator {name!r}; "
                    f"it holds {present}"
                )
        wanted = by_path(state_like)
        try:
            restored = self._read(step, folder, wanted, tuple(iterators))
        except CheckpointError:
            raise
        except FileNotFoundError as error:
            # A process killed while it removed an old checkpoint leaves such a one.
            raise DamagedCheckpoint(
                self._directory, step, "its files are incomplete"
            ) from error
        except _NO_DAMAGE:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split()):.80}"
            raise DamagedCheckpoint(self._directory, step, said) from error
        for name, iterator in iterators.items():
            iterator.set_state(restored[_ITERATOR + name])
        leaves = by_path(restored[_STATE])
        return jax.tree.unflatten(
            jax.tree.structure(state_like), [leaves[path] for path in wanted]
        )

    def _read(
        self,
        step: int,
        folder: Path,
        wanted: Mapping[KeyPath, Any],
        names: tuple[str, ...],
    ) -> Any:
        """State and positions of iterators, once seen to be those saved."""
        # Before restoring: Orbax would report a mismatch only after starting its
        # threads, in several pages.
        stored = by_path(ocp.StandardCheckpointHandler().metadata(folder / _STATE).tree)
        digest = None
        if (folder / DIGEST).is_dir():
            digest = read_json(folder / DIGEST)
            if digest["tree"] != description(stored):
                raise DamagedCheckpoint(self._directory, step, "its tree")
        if mismatch := first_mismatch(stored, wanted):
            raise CheckpointError(f"{self._directory}: step {step}: {mismatch}")
        targets = {path: _target(leaf) for path, leaf in wanted.items()}
        items = {_STATE: ocp.args.StandardRestore(unflatten_dict(targets))}
        for name in names:
            items[_ITERATOR + name] = ocp.args.JsonRestore()
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        if digest is None:
            print(
                f"warning: {self._directory}: step {step} has no digest, as of an "
                "earlier version: damage to it would not be noticed",
                file=sys.stderr,
            )
            return restored
        leaves = by_path(restored[_STATE])
        if processes.digest([leaves[path] for path in wanted]) != digest["state"]:
            raise DamagedCheckpoint(self._directory, step, "numbers of its state")
        for name in names:
            if restored[_ITERATOR + name] != digest["iterators"][name]:
                raise DamagedCheckpoint(self._directory, step, f"its iterator {name!r}")
        return restored

    def restore_latest(self, state_like: State, *, iterators: Iterators) -> State:
        """`restore` of the latest checkpoint that is sound.

        A damaged one later than that is told on standard error, and set aside under
        another name.

        Raises:
            CheckpointError: as `restore`; also where no checkpoint is sound.
        """
        while True:
            try:
                return self.restore(state_like, iterators=iterators)
            except DamagedCheckpoint as error:
                if processes.several() or len(self.all_steps()) < 2:
                    raise
                self._set_aside(error)
                self._manager.reload()

    def _set_aside(self, error: DamagedCheckpoint) -> None:
        """Take a damaged checkpoint out of the way; what raises if that is not ours."""
        if self._read_only or processes.several():
            raise error
        names = (f"{error.step}.damaged{n or ''}" for n in itertools.count())
        there = next(p for name in names if not (p := self._directory / name).exists())
        (self._directory / str(error.step)).rename(there)
        print(
            f"warning: {error}; kept as {there.name}, the one before it is used",
            file=sys.stderr,
        )

    def _existing(self, step: int | None) -> int:
        """Returns `step`, or the latest for None, once sure that it is there."""
        steps = self.all_steps()
        if not steps:
            raise CheckpointError(f"{self._directory}: no checkpoint")
        if step is None:
            return steps[-1]
        if step not in steps:
            raise CheckpointError(
                f"{self._directory}: no checkpoint of step {step}; there are {steps}"
            )
        return step


def open_checkpoints(
    directory: str | os.PathLike[str],
    *,
    read_only: bool = False,
    async_save: bool = True,
) -> Checkpoints:
    """Opens a directory of checkpoints.

    Args:
        directory: where they lie; made by a writer where missing.
        read_only: for an evaluation: nothing is created, written or removed, and a
            missing directory is one without checkpoints. What a writer saves later
            is not seen.
        async_save: write files behind the training steps instead of before them.

    Returns:
        The checkpoints, to be used in a `with` statement.
    """
    return Checkpoints(directory, read_only=read_only, async_save=async_save)


def _metric(metrics: Mapping[str, float]) -> float:
    return metrics[METRIC]


def _options(read_only: bool, async_save: bool) -> ocp.CheckpointManagerOptions:
    """Orbax's options for the promises of this module."""
    # A policy alone would keep the right checkpoints, but without `best_fn` Orbax
    # does not store metrics and takes the latest for the best.
    if read_only:
        return ocp.CheckpointManagerOptions(best_fn=_metric, read_only=True)
    best = BestN(get_metric_fn=_metric, n=1, keep_checkpoints_without_metrics=False)
    return ocp.CheckpointManagerOptions(
        best_fn=_metric,
        preservation_policy=AnyPreservationPolicy([LatestN(2), best]),
        cleanup_tmp_directories=True,
        enable_async_checkpointing=async_save,
    )


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
    """What Orbax is to make of a stored leaf: as `leaf`, on a sharding in any case."""
    sharding = getattr(leaf, "sharding", None) or NamedSharding(
        Mesh(np.asarray(jax.devices()), ("batch",)), PartitionSpec()
    )
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
