"""Seconds a step of SSAH and of what it is compared with, compiled, in one run.

    python benchmarks/step_cost.py --config configs/fashion_mnist.py

All steps take the same batch; the supervised one leaves out A-Net, hard samples and
the consistent loss, and looks at labelled images only. Rounds alternate, so that a busy
machine slows all alike.
"""

import dataclasses
import statistics
import time

import jax
import records
from absl import app, flags
from ml_collections import config_flags

from ssah_jax.config import from_config_dict
from ssah_jax.run import parallel, train_state
from ssah_jax.run.experiment import iterate, prepare, spread_labels

_CONFIG = config_flags.DEFINE_config_file("config")
_ROUNDS = flags.DEFINE_integer("rounds", 30, "Timed steps of each kind.")
_OUTPUT = flags.DEFINE_string("output", None, "Where the JSON goes.")


def main(_: list[str]) -> None:
    """Time the steps and write the record."""
    full = from_config_dict(_CONFIG.value.to_dict())
    found = records.variants(full)
    variants = {
        "full": found["ssah"],
        "random deformations": found["random"],
        "supervised": found["supervised"],
    }
    experiment = prepare(full)
    batch = parallel.shard(next(iterate(experiment, spread=spread_labels(experiment))))
    step, state, compiling = {}, {}, {}
    for name, config in variants.items():
        step[name] = parallel.pmap_train_step(config)
        state[name] = parallel.replicate(
            train_state.init_state(dataclasses.replace(experiment, config=config))
        )
        start = time.perf_counter()
        state[name], _ = jax.block_until_ready(step[name](state[name], batch))
        compiling[name] = time.perf_counter() - start
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(_ROUNDS.value):
        for name in variants:
            start = time.perf_counter()
            state[name], _ = jax.block_until_ready(step[name](state[name], batch))
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    records.write(
        "step_cost",
        {
            "config": config_flags.get_config_filename(flags.FLAGS["config"]),
            "labelled": full.batch.labelled,
            "unlabelled": full.batch.unlabelled,
            "median_seconds_a_step": median,
            "first_step_seconds": compiling,
            "full_over_supervised": median["full"] / median["supervised"],
            "full_over_random": median["full"] / median["random deformations"],
        },
        _OUTPUT.value,
    )


if __name__ == "__main__":
    app.run(main)
