"""What keeps hardness below the last threshold? A-Net alone, against a frozen H-Net.

    python benchmarks/frozen_adversary.py --workdir RUN --name frozen_adversary

From the last checkpoint of a run, only A-Net goes on learning, towards the run's last
threshold: as configured, at a larger rate, and at that rate without entropy floors or
by the other estimator of its gradient.
"""

import dataclasses
import statistics
from functools import partial

import jax
import jax.numpy as jnp
import optax
import records
from absl import app, flags

from ssah_jax.config import Config
from ssah_jax.method.adversary import Outcome, anet_objective
from ssah_jax.method.codes import CleanCodes, batch_hardness, hash_images
from ssah_jax.method.views import generate, make_views
from ssah_jax.run import train_lib
from ssah_jax.run.experiment import Experiment, iterate, prepare
from ssah_jax.run.workdir import Workdir
from ssah_jax.types import TrainState

_WORKDIR = flags.DEFINE_string("workdir", None, "A finished run.", required=True)
_NAME = flags.DEFINE_string("name", None, "benchmarks/results/NAME.json", required=True)
_STEPS = flags.DEFINE_integer("steps", 250, "Steps of A-Net in each setting.")
_LAST = 50

SETTINGS: dict[str, dict[str, float | str]] = {
    "as configured": {},
    "rate x3": {"rate": 3e-3},
    "rate x3, no floors": {"rate": 3e-3, "entropy_weight": 0.0},
    "rate x3, straight-through": {"rate": 3e-3, "trainer": "straight_through"},
}


def learn(
    experiment: Experiment, config: Config, state: TrainState
) -> list[tuple[float, float]]:
    """Mean hardness and share under the threshold, at each step."""
    optimiser = optax.adam(config.optim.anet_learning_rate)

    @jax.jit
    def step(anet, opt, batch, key):
        views = make_views(key, batch, config=config)
        generated = generate(anet, views, config=config)
        hash_ = partial(hash_images, state.hnet, state.batch_stats, config=config)
        labelled, _ = hash_(views.labelled, domain="clean", axis_name=None)
        unlabelled, _ = hash_(views.unlabelled, domain="clean", axis_name=None)
        hard, _ = hash_(generated.images, domain="generated", axis_name=None)
        clean = CleanCodes(labelled, unlabelled)
        hardness = batch_hardness(hard, clean, views.label, axis_name=None)
        outcome = Outcome(clean, hardness)
        grads, _ = jax.grad(anet_objective, has_aux=True)(
            anet, state.hnet, state, views, generated, outcome, config=config
        )
        updates, opt = optimiser.update(grads, opt, anet)
        under = (hardness < state.pace.threshold).mean()
        return optax.apply_updates(anet, updates), opt, hardness.mean(), under

    iterator = iterate(experiment, seed=config.seed + 1)
    anet, opt, path = state.anet, optimiser.init(state.anet), []
    for index in range(_STEPS.value):
        batch = jax.tree.map(jnp.asarray, next(iterator))
        anet, opt, hardness, under = step(anet, opt, batch, jax.random.key(index))
        path.append((float(hardness), float(under)))
    return path


def main(_: list[str]) -> None:
    """Run every setting and write the record."""
    workdir = Workdir(_WORKDIR.value)
    experiment = prepare(workdir.read_config())
    base = experiment.config
    state, _ = train_lib.restore_state(experiment, workdir)
    state = jax.device_get(state)
    found = {}
    for name, changes in SETTINGS.items():
        fields = dict(changes)
        rate = fields.pop("rate", base.optim.anet_learning_rate)
        config = dataclasses.replace(
            base,
            anet=dataclasses.replace(base.anet, **fields),
            optim=dataclasses.replace(base.optim, anet_learning_rate=rate),
        )
        last = learn(experiment, config, state)[-_LAST:]
        found[name] = {
            "mean_hardness": statistics.mean(hardness for hardness, _ in last),
            "share_under_threshold": statistics.mean(under for _, under in last),
        }
    records.write(
        _NAME.value,
        {
            "source": base.data.source,
            "labels_per_class": base.labels_per_class,
            "steps_of_run": int(state.step),
            "steps_of_anet": _STEPS.value,
            "averaged_over_last": _LAST,
            "threshold": float(state.pace.threshold),
            "settings": found,
        },
    )


if __name__ == "__main__":
    app.run(main)
