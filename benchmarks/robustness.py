"""mAP of a run's queries as they are, occluded and rotated; the database is clean.

    python benchmarks/robustness.py --workdir RUN [--out FILE]

A black window, 12/28 of the image's side, at a place drawn for each query; a rotation
by 25 degrees, its direction drawn for each query. Draws are of seed 0. Of test queries,
and under `validation` of those to choose by.
"""

import json
import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from ssah_jax import retrieval, transforms
from ssah_jax.data.reading import Reader
from ssah_jax.method import steps
from ssah_jax.retrieval.files import write_atomically
from ssah_jax.run import train_state
from ssah_jax.run.experiment import prepare
from ssah_jax.run.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "A finished run.", required=True)
_OUT = flags.DEFINE_string("out", None, "JSON file; standard output by default.")
_WINDOW = 12 / 28
_DEGREES = 25.0


def occlude(images: np.ndarray) -> np.ndarray:
    """Images `[Q, H, W, ch]` with a black window each."""
    generator = np.random.default_rng(0)
    side = round(_WINDOW * min(images.shape[1:3]))
    found = images.copy()
    for image in found:
        row, column = (generator.integers(0, n - side + 1) for n in image.shape[:2])
        image[row : row + side, column : column + side] = 0
    return found


def rotate(images: np.ndarray) -> np.ndarray:
    """Images `[Q, H, W, ch]` turned to either side, black outside."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], len(images))
    angles = jnp.asarray(signs * math.radians(_DEGREES), jnp.float32)
    return np.asarray(jax.vmap(transforms.rotate)(jnp.asarray(images), angles))


def main(_: list[str]) -> None:
    """Measure and write."""
    workdir = Workdir(_WORKDIR.value)
    experiment = prepare(workdir.read_config())
    source, split, config = experiment.source, experiment.split, experiment.config
    state, _ = train_state.restore_state(experiment, workdir)
    encode = jax.jit(partial(steps.encode_step, config=config))

    def codes(images: np.ndarray) -> np.ndarray:
        size = config.eval.batch
        parts = [images[i : i + size] for i in range(0, len(images), size)]
        found = [encode(state.teacher, state.teacher_stats, part) for part in parts]
        return np.concatenate([np.asarray(part) for part in found])

    read = Reader(source.images)
    database = codes(read(split.database)[0])

    def measure(rows: np.ndarray) -> dict[str, float]:
        queries = read(rows)[0].astype(np.float32) / 255
        sets = {
            "clean": queries,
            "occluded": occlude(queries),
            "rotated": rotate(queries),
        }
        return {
            name: retrieval.evaluate(
                codes(images),
                source.labels[rows],
                database,
                source.labels[split.database],
                top_k=config.eval.top_k or None,
            )["map"]
            for name, images in sets.items()
        }

    found: dict[str, float | dict[str, float]] = dict(measure(split.query))
    if len(split.validation):
        found["validation"] = measure(split.validation)
    text = json.dumps(found, indent=1) + "\n"
    if _OUT.value:
        write_atomically(Path(_OUT.value), text)
    else:
        print(text, end="")


if __name__ == "__main__":
    app.run(main)
