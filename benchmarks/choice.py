"""A pace for each image instead of one for all: the hardest draw still recognised.

    python benchmarks/choice.py --workdir runs/choice/NAME --config SPEC,anet.draws=1
    python benchmarks/robustness.py --workdir runs/choice/NAME \\
      --out runs/choice/NAME.robustness.json
    python benchmarks/choice.py --record runs/choice

The first is `train.py` but for the hard samples: of each image --draws are made with
the configuration's own deformations, the teacher encodes them all, and that one is kept
which flips the most bits among those still recognised as the image's class, which for
an unlabelled image is the teacher's; of none recognised, the easiest. (`anet.draws`
keeps the hardest within reach of a common pace.)

The last writes benchmarks/results/choice.json from all runs in a directory. One label
an image.
"""

import argparse
import json
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import records
from jax import Array

from ssah_jax import cli, pacing, similarity
from ssah_jax.config import Config
from ssah_jax.method import steps
from ssah_jax.method.codes import encode
from ssah_jax.method.views import Generated, Views
from ssah_jax.types import PaceState, Params, TrainState

own_gradients, own_generate = steps.gradients, steps.generate


def choose(
    state: TrainState,
    draws: int,
    anet: Params,
    views: Views,
    pace: PaceState,
    *,
    config: Config,
) -> Generated:
    """As `views.generate`, the best of several draws of each image."""
    look = partial(encode, state.teacher, state.teacher_stats, config=config)

    def classes(codes: Array) -> Array:
        logits = similarity.class_logits(
            codes, state.centres, scale=config.loss.posterior_scale, offset=0.0
        )
        return logits.argmax(-1)

    clean = look(jnp.concatenate([views.labelled, views.unlabelled]))
    wanted = classes(clean).at[: len(views.label)].set(views.label.argmax(-1))
    made, scores = [], []
    for draw in range(draws):
        keys = views.keys
        if draw:
            keys = jax.vmap(partial(jax.random.fold_in, data=1000 + draw))(keys)
        made.append(own_generate(anet, views.replace(keys=keys), pace, config=config))
        codes = look(made[-1].images)
        flips = pacing.bit_flips(codes, clean)
        scores.append(jnp.where(classes(codes) == wanted, flips, -flips))
    best = jnp.argmax(jnp.stack(scores), axis=0)

    def pick(*leaves: Array) -> Array:
        return jnp.stack(leaves)[best, jnp.arange(len(best))]

    return jax.lax.stop_gradient(jax.tree.map(pick, *made))


def collect(directory: Path) -> None:
    """Write the record of the runs in a directory."""
    found: dict[str, Any] = {}
    for file in sorted(directory.glob("*.robustness.json")):
        run = directory / file.name.removesuffix(".robustness.json")
        config = json.loads((run / "config.json").read_text())
        measured = json.loads(file.read_text())
        found[run.name] = {
            "seed": config["seed"],
            "steps": config["steps"],
            "pace_reach": config["pace"]["reach"],
            **{name: measured[name] for name in ("clean", "occluded", "rotated")},
            "validation": statistics.mean(measured["validation"].values()),
        }
    records.write("choice", found)


def main() -> None:
    """Train with such hard samples, or write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--record", type=Path, help="directory of finished runs")
    given, rest = parser.parse_known_args()
    if given.record:
        collect(given.record)
        return

    def gradients(
        state: TrainState, *rest: Any, config: Config, **options: Any
    ) -> steps.Gradients:
        if config.anet.draws != 1:
            raise SystemExit("choice: --config: expected anet.draws=1")
        steps.generate = partial(choose, state, given.draws)
        try:
            return own_gradients(state, *rest, config=config, **options)
        finally:
            steps.generate = own_generate

    steps.gradients = gradients
    sys.exit(cli.main(["train", *rest]))


if __name__ == "__main__":
    main()
