"""How far a run's teacher sees through windows and rotations, kind by kind.

    python benchmarks/recognition.py --workdir RUN
    python benchmarks/recognition.py --table

The pace has one threshold, a share of bits, for both kinds of deformation, and a target
for what is recognised of both together. This measures them apart, at the last
checkpoint: of the labels that the teacher is sure of in unlabelled images, the share
that it still gives when they are deformed, and the share of bits that flip; by how far
uniform draws reach, the run's own reach first.
"""

import argparse
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import records

from ssah_jax import pacing
from ssah_jax.method.adversary import turned
from ssah_jax.method.codes import encode
from ssah_jax.method.consistent import ask_teacher, labels_seen
from ssah_jax.method.views import generate, make_views
from ssah_jax.run import train_state
from ssah_jax.run.experiment import iterate, prepare
from ssah_jax.run.workdir import Workdir

REACHES = (0.2, 0.4, 0.6, 0.8, 1.0)


def measure(workdir: Workdir, batches: int) -> dict:
    """Recognition and hardness of both kinds, by reach."""
    experiment = prepare(workdir.read_config())
    config = experiment.config
    state = jax.device_get(train_state.restore_state(experiment, workdir)[0])
    uniform = dataclasses.replace(
        config, anet=dataclasses.replace(config.anet, kind="random", draws=1)
    )

    @jax.jit
    def deform(key, batch, window, angle):
        pace = state.pace.replace(window=window, angle=angle)
        views = make_views(key, batch, config=config)
        opinion = ask_teacher(state, views, config=config)
        made = generate(state.anet, views, pace, config=uniform)
        images = made.images[len(views.label) :]
        codes = encode(state.teacher, state.teacher_stats, images, config=config)
        return (
            *labels_seen(codes, opinion, state, config=config),
            pacing.bit_flips(codes, opinion.code),
            turned(made)[len(views.label) :],
        )

    own = float(state.pace.window), float(state.pace.angle)
    iterator = iterate(experiment, seed=config.seed + 1)
    images = [jax.tree.map(jnp.asarray, next(iterator)) for _ in range(batches)]
    rows = []
    for window, angle in (own, *((x, x) for x in REACHES)):
        reach = jnp.float32(window), jnp.float32(angle)
        found = [
            deform(jax.random.key(index), batch, *reach)
            for index, batch in enumerate(images)
        ]
        seen, sure, flips, rotated = map(
            np.concatenate, zip(*jax.device_get(found), strict=True)
        )
        row = {
            "windows_to": window * max(config.anet.scales),
            "degrees": angle * config.anet.max_degrees,
        }
        for kind, where in (("occluded", ~rotated), ("rotated", rotated)):
            row[kind] = {
                "recognised": float(seen[where[:, None] & sure].mean()),
                "flips": float(flips[where].mean()),
            }
        rows.append(row)
    return {
        "data": experiment.source.name,
        "step": int(state.step),
        "draws": config.anet.draws,
        "threshold": float(state.pace.threshold),
        "images": batches * config.batch.unlabelled,
        "sure": float(sure.any(axis=-1).mean()),
        "rows": rows,
    }


def markdown() -> str:
    """The record's table; the run's own reach is its first row."""
    record = records.read("recognition")
    lines = [
        "| windows to | recognised | bits | angles to | recognised | bits |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["rows"]:
        cells = []
        for size, kind in (
            (f"{100 * row['windows_to']:.0f} %", "occluded"),
            (f"{row['degrees']:.0f} degrees", "rotated"),
        ):
            found = row[kind]
            cells += [size, f"{found['recognised']:.3f}", f"{found['flips']:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write the record, or print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, help="a run with hard samples")
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        print(markdown())
    elif given.workdir:
        records.write("recognition", measure(Workdir(given.workdir), given.batches))
    else:
        parser.error("accepted is --workdir or --table")


if __name__ == "__main__":
    main()
