"""A run before anything compiles: new, or resumed where its workdir is."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from ssah_jax.config import Config, ConfigError
from ssah_jax.config.convert import flatten
from ssah_jax.data import TrainIterator, split_to_json
from ssah_jax.run import parallel, processes
from ssah_jax.run.checkpointing import Checkpoints, open_checkpoints
from ssah_jax.run.experiment import Experiment, check_devices, iterate, spread_labels
from ssah_jax.run.model_info import ModelInfo
from ssah_jax.run.other_sets import start_from
from ssah_jax.run.train_state import init_state
from ssah_jax.run.warm_start import load_backbone
from ssah_jax.run.workdir import Workdir, WorkdirError
from ssah_jax.types import TrainState


@dataclasses.dataclass
class Run:
    """Everything of a run that is set up before anything compiles.

    Attributes:
        experiment: configuration, images, split.
        workdir: where it lives.
        checkpoints: open for writing.
        iterator: at the position of `state`.
        state: the next step's input, placed for it.
        seconds: of training before this process took over.
        spread: what spread labels say of all images, `[N, C]`, if training asks.
    """

    experiment: Experiment
    workdir: Workdir
    checkpoints: Checkpoints
    iterator: TrainIterator
    state: TrainState
    seconds: float
    spread: Float32[np.ndarray, "N C"] | None = None

    def record_skipped(self) -> None:
        """Write which images were skipped so far, if any."""
        skipped = self.experiment.skipped
        self.workdir.write_skipped(skipped.reasons if skipped else [])


@contextmanager
def open_run(
    experiment: Experiment, workdir: Workdir, *, start: Path | None = None
) -> Iterator[Run]:
    """Set up a new run, or resume the one that lives in the workdir.

    Args:
        experiment: a prepared one.
        workdir: where the run lives, or will.
        start: workdir of an earlier run, whose parameters a new one begins with.

    Raises:
        ValueError: one line: devices, workdir, weights or checkpoint do not fit the
            configuration. The workdir is then untouched.
    """
    config = experiment.config
    check_devices(config)
    workdir.check_free_for(config)
    if processes.several():
        check_same_run(config, {"checkpoints": workdir.saved_steps()})
    info, first = _first_state(experiment, workdir, start)
    spread = workdir.read_spread()
    if spread is None:
        spread = spread_labels(experiment)
    state = parallel.place_state(first, config)
    iterator = iterate(experiment, spread=spread)
    with ExitStack() as stack:
        if processes.is_first():
            stack.enter_context(workdir.locked())
        if processes.several():
            _check_same_start(info, state, spread)
            _check_shared(workdir)
        if processes.is_first():
            workdir.create(config, split_to_json(experiment.split), info, spread)
            workdir.extend(config)
            said = experiment.understanding.to_json()
            workdir.write_data(said, experiment.data_path)
            workdir.write_missing(experiment.source.missing)
        checkpoints = stack.enter_context(open_checkpoints(workdir.checkpoints))
        if checkpoints.latest_step() is not None:
            restored = checkpoints.restore_latest(
                parallel.globally(state), iterators=iterator.streams
            )
            state = restored if config.parallel == "jit" else parallel.locally(restored)
        seconds = 0.0
        if processes.is_first():
            seconds = workdir.drop_metrics_after(int(state.step))
        yield Run(experiment, workdir, checkpoints, iterator, state, seconds, spread)


def check_same_run(config: Config, more: Mapping[str, Any]) -> None:
    """Check that all processes have one configuration.

    Args:
        config: this process's.
        more: what else has to be the same, by what messages call it.

    Raises:
        LostProcessError: it is not, or one of them failed before.
    """
    fields = flatten(dataclasses.asdict(config), "config.")
    processes.check_same(fields | dict(more))


def _first_state(
    experiment: Experiment, workdir: Workdir, start: Path | None
) -> tuple[ModelInfo, TrainState]:
    """The state before the first step, and what the model is then built from."""
    config, info, backbone = experiment.config, experiment.info, None
    # A run that has a checkpoint no longer needs the weights that it began with.
    begins = not workdir.saved_steps()
    if config.hnet.weights and begins:
        found = load_backbone(config, experiment.image_shape)
        info = dataclasses.replace(
            info, weights=found.spec, weights_sha256=found.sha256
        )
        backbone = found.variables
    workdir.check_same_data(info)
    state = init_state(experiment, backbone=backbone)
    if config.optim.accumulate > 1 and state.batch_stats:
        raise ConfigError(
            f"config.optim.accumulate: found {config.optim.accumulate}, accepted is 1 "
            "with batch normalisation: moments of parts are not those of the batch; "
            "config.hnet.norm=group has none"
        )
    began_with = workdir.first_weights()
    if begins and began_with and not info.weights and start is None:
        raise WorkdirError(
            f"{workdir.path}: began with the parameters of {began_with} and has no "
            f"checkpoint yet; give --from-run={began_with} again"
        )
    if begins and start is not None:
        state, digest = start_from(state, Workdir(start))
        info = dataclasses.replace(info, weights=str(start), weights_sha256=digest)
        workdir.check_same_data(info)
    return info, state


def _check_same_start(
    info: ModelInfo, state: TrainState, spread: Float32[np.ndarray, "N C"] | None
) -> None:
    """Check that all processes have the same data and begin with the same numbers."""
    processes.check_same(
        {
            "data": info.data_digest,
            "first weights": info.weights_sha256,
            "first state": processes.digest(state),
            "spread labels": processes.digest(spread),
        }
    )


def _check_shared(workdir: Workdir) -> None:
    """Check that the workdir of the first process is that of all.

    Raises:
        LostProcessError: it is not, or one of them failed before.
    """
    mark = ""
    if processes.is_first():
        mark = workdir.mark()
    mark = processes.gather(mark)[0]
    sees = json.dumps([str(workdir.path), workdir.sees(mark)])
    (where, _), *others = map(json.loads, processes.gather(sees))
    if processes.is_first():
        workdir.unmark(mark)
    for index, (path, seen) in enumerate(others, 1):
        if not seen:
            raise processes.LostProcessError(
                f"--workdir: found {where} in process 0 and {path} in process {index}, "
                "which does not see what process 0 writes; accepted is one directory, "
                "on a disk that all processes share"
            )
