"""A trained run beside an untrained H-Net, ITQ and LSH: same split, same bits.

    python benchmarks/baselines.py --workdir runs/digits --name digits

ITQ (iterative quantisation, FAISS's) sees raw pixels, reduced by PCA to at most their
number, learnt on the unlabelled images; it uses no labels. LSH is signs of random
projections of the same numbers less their mean, over several seeds. The untrained H-Net
is the state before the first step, over several seeds. Of a run on stored features
(`ssah features`) both see these in the place of pixels.
"""

import json
import statistics

import faiss
import jax
import numpy as np
import records
from absl import app, flags

from ssah_jax import retrieval
from ssah_jax.data.reading import Reader
from ssah_jax.method import steps
from ssah_jax.run import parallel
from ssah_jax.run.evaluators import Evaluator
from ssah_jax.run.experiment import prepare
from ssah_jax.run.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "A finished run.", required=True)
_NAME = flags.DEFINE_string("name", None, "benchmarks/results/NAME.json", required=True)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Untrained networks, and projections.")


def itq_codes(
    learn: np.ndarray, bits: int, *others: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Codes in {-1, +1} of rows of pixels, by FAISS's ITQ learnt on `learn`."""
    transform = faiss.ITQTransform(learn.shape[1], bits, True)
    transform.train(np.ascontiguousarray(learn, np.float32))
    return tuple(
        transform.apply(np.ascontiguousarray(rows, np.float32)) for rows in others
    )


def lsh_codes(
    learn: np.ndarray, bits: int, seed: int, *others: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Random projections of rows of numbers, centred by the mean of `learn`."""
    generator = np.random.default_rng(seed)
    mean = learn.mean(axis=0, dtype=np.float64).astype(np.float32)
    planes = generator.standard_normal((learn.shape[1], bits), np.float32)
    return tuple((rows - mean[None]) @ planes for rows in others)


def pace_by_tenth(workdir: Workdir, steps: int) -> list[dict[str, float]]:
    """Mean threshold, hardness and recognised share over each tenth of a run."""
    names = ("pace/threshold", "pace/hardness", "pace/recognised")
    lines = [line for line in workdir.read_metrics() if names[0] in line]
    if not lines:
        return []  # Of a run without hard samples.
    tenths = []
    for tenth in range(10):
        first, last = tenth * steps / 10, (tenth + 1) * steps / 10
        here = [line for line in lines if first < line["step"] <= last]
        means = {n.split("/")[1]: statistics.mean(x[n] for x in here) for n in names}
        ratio = means["hardness"] / means["threshold"]
        tenths.append(means | {"hardness_over_threshold": ratio})
    return tenths


def main(_: list[str]) -> None:
    """Measure the three and write the record."""
    workdir = Workdir(_WORKDIR.value)
    experiment = prepare(workdir.read_config())
    config, source, split = experiment.config, experiment.source, experiment.split
    evaluator = Evaluator(experiment)
    untrained = []
    for seed in range(_SEEDS.value):
        state = steps.init_state(
            jax.random.key(seed),
            config=config,
            image_shape=experiment.image_shape,
            num_classes=source.num_classes,
        )
        untrained.append(dict(evaluator.test(parallel.replicate(state)))["map"])

    def pixels(indices):
        images, _ = Reader(source.images)(indices)
        rows = images.reshape(len(images), -1).astype(np.float32)
        return rows / 255 if images.dtype == np.uint8 else rows

    learn, query, database = map(
        pixels, (split.unlabelled, split.query, split.database)
    )

    def measure(codes):
        return retrieval.evaluate(
            codes[0],
            source.labels[split.query],
            codes[1],
            source.labels[split.database],
            top_k=config.eval.top_k or None,
        )["map"]

    itq = measure(itq_codes(learn, config.bits, query, database))
    lsh = [
        measure(lsh_codes(learn, config.bits, seed, query, database))
        for seed in range(_SEEDS.value)
    ]
    trained = json.loads(workdir.results.read_text())
    records.write(
        _NAME.value,
        {
            "source": config.data.source,
            "protocol": split.protocol,
            "split_digest": split.digest,
            "labels_per_class": config.labels_per_class,
            "bits": config.bits,
            "num_query": trained["num_query"],
            "num_database": trained["num_database"],
            "steps": trained["steps"],
            "seed": config.seed,
            "wall_seconds": trained["wall_seconds"],
            "pace_by_tenth": pace_by_tenth(workdir, trained["steps"]),
            "map": {
                "trained": trained["map"],
                "itq": itq,
                "lsh_mean": statistics.mean(lsh),
                "lsh_sd": statistics.stdev(lsh),
                "untrained_mean": statistics.mean(untrained),
                "untrained_sd": statistics.stdev(untrained),
            },
        },
    )


if __name__ == "__main__":
    app.run(main)
