"""Does A-Net find any mean hardness it is asked for? Alone, against a frozen H-Net.

    python benchmarks/frozen_adversary.py --workdir RUN --name frozen_adversary

From the last checkpoint of a run, only A-Net and its multiplier go on learning, towards
thresholds below and above the run's last.
"""

import statistics
from functools import partial

import jax
import jax.numpy as jnp
import optax
import records
from absl import app, flags

from ssah_jax import pacing
from ssah_jax.method.adversary import anet_objective
from ssah_jax.method.codes import CleanCodes, batch_hardness, hash_images
from ssah_jax.method.optim import anet_optimiser
from ssah_jax.method.views import generate, make_views
from ssah_jax.run import train_lib
from ssah_jax.run.experiment import Experiment, iterate, prepare
from ssah_jax.run.workdir import Workdir
from ssah_jax.types import TrainState

_WORKDIR = flags.DEFINE_string("workdir", None, "A finished run.", required=True)
_NAME = flags.DEFINE_string("name", None, "benchmarks/results/NAME.json", required=True)
_STEPS = flags.DEFINE_integer("steps", 250, "Steps of A-Net in each setting.")
_LAST = 50

THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.3)


def learn(experiment: Experiment, state: TrainState) -> list[tuple[float, float]]:
    """Mean hardness and the multiplier, at each step."""
    config = experiment.config
    optimiser = anet_optimiser(config)

    @jax.jit
    def step(state, batch, key):
        views = make_views(key, batch, config=config)
        generated = generate(state.anet, views, config=config)
        options = {"config": config, "axis_name": None}
        hash_ = partial(hash_images, state.hnet, state.batch_stats, **options)
        labelled, _ = hash_(views.labelled, domain="clean")
        unlabelled, _ = hash_(views.unlabelled, domain="clean")
        hard, _ = hash_(generated.images, domain="generated")
        clean = CleanCodes(labelled, unlabelled)
        hardness = batch_hardness(hard, clean, views.label, axis_name=None)
        grads, _ = jax.grad(anet_objective, has_aux=True)(
            state.anet, state, views, generated, hardness, config=config
        )
        updates, opt = optimiser.update(grads, state.anet_opt, state.anet)
        anet = optax.apply_updates(state.anet, updates)
        mean = hardness.mean()
        pace = pacing.dual_ascent(state.pace, mean, rate=config.pace.dual_rate)
        return state.replace(anet=anet, anet_opt=opt, pace=pace), mean

    iterator = iterate(experiment, seed=config.seed + 1)
    path = []
    for index in range(_STEPS.value):
        batch = jax.tree.map(jnp.asarray, next(iterator))
        state, hardness = step(state, batch, jax.random.key(index))
        path.append((float(hardness), float(state.pace.multiplier)))
    return path


def main(_: list[str]) -> None:
    """Ask for every threshold and write the record."""
    workdir = Workdir(_WORKDIR.value)
    experiment = prepare(workdir.read_config())
    base = experiment.config
    state, _ = train_lib.restore_state(experiment, workdir)
    state = jax.device_get(state)
    found = {}
    for threshold in THRESHOLDS:
        pace = state.pace.replace(threshold=jnp.float32(threshold))
        last = learn(experiment, state.replace(pace=pace))[-_LAST:]
        found[str(threshold)] = {
            "mean_hardness": statistics.mean(hardness for hardness, _ in last),
            "multiplier": statistics.mean(multiplier for _, multiplier in last),
        }
    records.write(
        _NAME.value,
        {
            "source": base.data.source,
            "labels_per_class": base.labels_per_class,
            "steps_of_run": int(state.step),
            "steps_of_anet": _STEPS.value,
            "averaged_over_last": _LAST,
            "thresholds": found,
        },
    )


if __name__ == "__main__":
    app.run(main)
