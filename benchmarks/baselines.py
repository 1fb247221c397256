"""A trained run beside an untrained H-Net and ITQ: same split, same bits.

    python benchmarks/baselines.py --workdir runs/digits --name digits

ITQ (iterative quantisation, FAISS's) sees raw pixels, reduced by PCA to at most their
number, learnt on the unlabelled images; it uses no labels. The untrained H-Net is the
state before the first step, over several seeds.
"""

import json
import statistics

import faiss
import jax
import numpy as np
import records
from absl import app, flags

from ssah_jax import parallel, retrieval, steps
from ssah_jax.data.reading import Reader
from ssah_jax.evaluators import Evaluator
from ssah_jax.experiment import prepare
from ssah_jax.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "A finished run.", required=True)
_NAME = flags.DEFINE_string("name", None, "benchmarks/results/NAME.json", required=True)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Untrained networks.")


def itq_codes(
    learn: np.ndarray, bits: int, *others: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Codes in {-1, +1} of rows of pixels, by FAISS's ITQ learnt on `learn`."""
    transform = faiss.ITQTransform(learn.shape[1], bits, True)
    transform.train(np.ascontiguousarray(learn, np.float32))
    return tuple(
        transform.apply(np.ascontiguousarray(rows, np.float32)) for rows in others
    )


def pace_by_tenth(workdir: Workdir, steps: int) -> list[dict[str, float]]:
    """Mean threshold, hardness and accepted share over each tenth of a run."""
    names = ("pace/threshold", "pace/hardness", "pace/accepted")
    lines = [line for line in workdir.read_metrics() if names[0] in line]
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
        return images.reshape(len(images), -1) / np.float32(255)

    query, database = itq_codes(
        pixels(split.unlabelled),
        config.bits,
        pixels(split.query),
        pixels(split.database),
    )
    itq = retrieval.evaluate(
        query,
        source.labels[split.query],
        database,
        source.labels[split.database],
        top_k=config.eval.top_k or None,
    )
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
                "itq": itq["map"],
                "untrained_mean": statistics.mean(untrained),
                "untrained_sd": statistics.stdev(untrained),
            },
        },
    )


if __name__ == "__main__":
    app.run(main)
