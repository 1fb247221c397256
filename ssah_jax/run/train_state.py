"""The state of an experiment: before the first step, or from a checkpoint."""

from collections.abc import Callable
from functools import lru_cache, partial

import jax

from ssah_jax.config import Config
from ssah_jax.method import steps
from ssah_jax.run import parallel
from ssah_jax.run.checkpointing import open_checkpoints
from ssah_jax.run.experiment import Experiment
from ssah_jax.run.workdir import Workdir
from ssah_jax.types import Params, TrainState


def init_state(experiment: Experiment, *, backbone: Params | None = None) -> TrainState:
    """The state before the first step of an experiment.

    Args:
        experiment: a prepared one.
        backbone: variables that the backbone begins with, as in `steps.init_state`.
    """
    make = _init_program(
        experiment.config, experiment.image_shape, experiment.source.num_classes
    )
    return make(jax.random.key(experiment.config.seed), backbone=backbone)


@lru_cache(maxsize=1)
def _init_program(
    config: Config, image_shape: tuple[int, int, int], num_classes: int
) -> Callable[..., TrainState]:
    """The first state as one program: operation by operation it compiles hundreds."""
    return jax.jit(
        partial(
            steps.init_state,
            config=config,
            image_shape=image_shape,
            num_classes=num_classes,
        )
    )


def restore_state(
    experiment: Experiment, workdir: Workdir, wanted: str = "last"
) -> tuple[TrainState, bool]:
    """The state of a run from one of its checkpoints.

    Args:
        experiment: of the run.
        workdir: where it lives; nothing is written.
        wanted: "last", "best" (on validation queries), or a step's number.

    Returns:
        The state, and whether it is the last checkpoint's.

    Raises:
        ValueError: there is no such checkpoint, or it or the data set does not fit the
            experiment.
    """
    workdir.check_same_data(experiment.info)
    with open_checkpoints(workdir.checkpoints, read_only=True) as checkpoints:
        step = checkpoints.find(wanted)
        like = jax.eval_shape(lambda: init_state(experiment))
        state = parallel.locally(checkpoints.restore(like, step=step))
        return state, step == checkpoints.latest_step()
