"""How hard can samples get? A-Net's choices beside random ones and the worst of many.

    python benchmarks/reach.py --workdir RUN --name reach

For the last checkpoint of a run, on unlabelled images: mean hardness (share of bits
flipped, by the student) of deformations that A-Net draws, of uniformly random ones, of
the hardest of 4 and 16 random ones, and of the hardest of 16 that A-Net draws.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import records
from absl import app, flags

from ssah_jax import pacing
from ssah_jax.method.codes import hash_images
from ssah_jax.method.views import generate, make_views
from ssah_jax.run import train_lib
from ssah_jax.run.experiment import iterate, prepare
from ssah_jax.run.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "A finished run.", required=True)
_NAME = flags.DEFINE_string("name", None, "benchmarks/results/NAME.json", required=True)
_BATCHES = flags.DEFINE_integer("batches", 4, "Batches of unlabelled images.")
_DRAWS = 16


def main(_: list[str]) -> None:
    """Measure and write the record."""
    experiment = prepare(Workdir(_WORKDIR.value).read_config())
    config = experiment.config
    state, _ = train_lib.restore_state(experiment, Workdir(_WORKDIR.value))
    state = jax.device_get(state)
    iterator = iterate(experiment, seed=config.seed + 1)
    kinds = {
        kind: dataclasses.replace(
            config, anet=dataclasses.replace(config.anet, kind=kind)
        )
        for kind in ("anet", "random")
    }

    @partial(jax.jit, static_argnames="kind")
    def hardness(batch, key, kind):
        views = make_views(key, batch, config=config)
        options = {"config": config, "axis_name": None}
        hash_ = partial(hash_images, state.hnet, state.batch_stats, **options)
        clean, _ = hash_(views.unlabelled, domain="clean")

        def once(key):
            keys = jax.random.split(key, len(views.keys))
            seen = views.replace(keys=keys)
            images = generate(state.anet, seen, config=kinds[kind]).images
            hard, _ = hash_(images, domain="generated")
            return pacing.bit_flips(hard[len(views.label) :], clean)

        return jax.lax.map(once, jax.random.split(jax.random.fold_in(key, 1), _DRAWS))

    found: dict[str, list[jax.Array]] = {"anet": [], "random": []}
    for index in range(_BATCHES.value):
        batch = jax.tree.map(jnp.asarray, next(iterator))
        for kind in found:
            found[kind].append(hardness(batch, jax.random.key(index), kind))
    drawn = {kind: jnp.concatenate(values, axis=1) for kind, values in found.items()}
    records.write(
        _NAME.value,
        {
            "source": config.data.source,
            "labels_per_class": config.labels_per_class,
            "steps": int(state.step),
            "images": int(drawn["anet"].shape[1]),
            "threshold": float(state.pace.threshold),
            "mean_hardness": {
                "anet": float(drawn["anet"].mean()),
                "random": float(drawn["random"].mean()),
                "hardest of 4 random": float(drawn["random"][:4].max(0).mean()),
                "hardest of 16 random": float(drawn["random"].max(0).mean()),
                "hardest of 16 of anet": float(drawn["anet"].max(0).mean()),
            },
            "share_under_threshold": {
                kind: float((values < state.pace.threshold).mean())
                for kind, values in drawn.items()
            },
        },
    )


if __name__ == "__main__":
    app.run(main)
