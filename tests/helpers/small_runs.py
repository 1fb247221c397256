"""Runs in this process, as small as they come."""

from typing import Any

import jax

from ssah_jax.config import Config, from_config_dict
from ssah_jax.run import opening, train_lib
from ssah_jax.run.experiment import Experiment
from ssah_jax.run.workdir import Workdir
from ssah_jax.types import TrainState


def config(**fields) -> Config:
    """A run of seconds on the digits; `fields` replace whole groups."""
    return from_config_dict(
        {
            "bits": 16,
            "steps": 10,
            "labels_per_class": 5,
            "log_every": 5,
            "checkpoint_every": 5,
            "batch": {"labelled": 8, "unlabelled": 8},
            "hnet": {"widths": (4, 8)},
            "anet": {"width": 4, "grid": 3},
            "data": {"num_queries": 50, "num_validation": 50},
            "eval": {"every": 5, "batch": 60, "max_database": 100},
        }
        | fields
    )


def trained(
    experiment: Experiment, workdir: Workdir, **options
) -> tuple[dict[str, Any] | None, TrainState]:
    """Results of a run to its end, and its state on the host, the key as its words."""
    with opening.open_run(experiment, workdir) as run:
        results = train_lib.train(run, **options)
        state = run.state.replace(key=jax.random.key_data(run.state.key))
        return results, jax.device_get(state)
