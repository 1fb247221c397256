"""Retrieval evaluation, the same in training and in eval.py."""

import importlib.metadata
import math
import platform
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Float32, Int64

from ssah_jax import retrieval
from ssah_jax.config import Config
from ssah_jax.data import DataError, ImageSequence, seeded
from ssah_jax.data.understanding import find_unanswerable
from ssah_jax.retrieval.statistics import code_statistics
from ssah_jax.run import parallel, processes
from ssah_jax.run.code_batches import code_batches
from ssah_jax.run.experiment import Experiment, images_to_show
from ssah_jax.run.report import gallery, pictures
from ssah_jax.types import TrainState

# Codes and labels of queries, then of the database.
_LabelledCodes = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

NO_LABELS = "no labels"
"""Why nothing is measured, in `results.json` and wherever mAP would stand."""

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class EncodedSets(NamedTuple):
    """Codes of queries and database, and what they are codes of.

    Attributes:
        query: indices of the queries in the data set, `[Q]`.
        query_codes: real-valued, `[Q, K]`.
        database: indices of the database, `[N]`.
        database_codes: real-valued, `[N, K]`.
    """

    query: Int64[np.ndarray, "Q"]
    query_codes: Float32[np.ndarray, "Q K"]
    database: Int64[np.ndarray, "N"]
    database_codes: Float32[np.ndarray, "N K"]


class Evaluator:
    """Encodes queries and database with the teacher, and measures the ranking.

    One compiled encoder serves queries and database, training and final evaluation:
    every batch has the same shape, the last one padded.
    """

    def __init__(self, experiment: Experiment) -> None:
        """Prepares the encoder for the devices of this process."""
        self._experiment = experiment
        self._encode = parallel.pmap_encode_step(experiment.config)

    def codes(
        self, state: TrainState, indices: Int64[np.ndarray, "N"]
    ) -> tuple[Float32[np.ndarray, "n K"], Int64[np.ndarray, "n"]]:
        """Real-valued codes of some images, in their order.

        Of several processes, which all call this, each encodes a share.

        Returns:
            Codes `[n, K]` and the indices `[n]` that they belong to: those given,
            less the images that could not be read.
        """
        experiment, total = self._experiment, len(indices)
        batches = code_batches(
            self._encode,
            state,
            experiment.source.images,
            indices[processes.share(total)],
            config=experiment.config,
            skipped=experiment.skipped,
        )
        # A process may have no share, but its arrays need shapes.
        found, codes = [np.empty(0, np.int64)], []
        for rows, code in batches:
            found.append(rows)
            codes.append(code)
        codes = codes or [np.empty((0, experiment.config.bits), np.float32)]
        processes.join_skipped(experiment.skipped)
        return (
            processes.join_shares(np.concatenate(codes), total),
            processes.join_shares(np.concatenate(found), total),
        )

    def validate(self, state: TrainState) -> Iterator[tuple[str, float]]:
        """Yield metrics of the validation queries on a sample of the database.

        The sample is the same at each call. Test queries are not touched. Images
        without labels have none to yield.
        """
        config, split = self._experiment.config, self._experiment.split
        if not self._experiment.source.num_classes:
            return
        # In most protocols validation queries are drawn from the database.
        database = np.setdiff1d(split.database, split.validation)
        if len(database) > config.eval.max_database:
            order = seeded.permutation(
                config.seed, len(database), "validation database"
            )
            database = database[np.sort(order[: config.eval.max_database])]
        found = self._measure(self._encode_sets(state, split.validation, database))
        for name in ("map", "map_stable", "precision_radius2"):
            yield f"validation/{name}", found[name]

    def test(self, state: TrainState) -> Iterator[tuple[str, Any]]:
        """Yield every field of results.json but `wall_seconds`."""
        yield from self.results(state, self.encode_test(state))

    def encode_test(self, state: TrainState) -> EncodedSets:
        """Codes of the test queries and their database: what `results` starts from."""
        split = self._experiment.split
        return self._encode_sets(state, split.query, split.database)

    def results(
        self, state: TrainState, encoded: EncodedSets
    ) -> Iterator[tuple[str, Any]]:
        """Yield every field of results.json but `wall_seconds`, of codes of `state`."""
        config, split = self._experiment.config, self._experiment.split
        if self._experiment.source.num_classes:
            yield from self._against_labels(encoded)
        else:
            yield "not_measured", NO_LABELS
            yield "bits", config.bits
            yield "num_query", 0
            yield "num_database", len(encoded.database)
        yield "code_statistics", code_statistics(encoded.database_codes)
        yield "protocol", split.protocol
        yield "split_digest", split.digest
        yield "source", self._experiment.source.name
        # Without labelled batches nothing learns from what the split has.
        yield "num_labelled", len(split.labelled) if config.batch.labelled else 0
        yield "num_skipped", len(self._experiment.skipped or ())
        yield "num_missing", len(self._experiment.source.missing)
        yield "seed", config.seed
        yield "steps", int(state.step)
        yield "versions", versions()

    def _against_labels(self, encoded: EncodedSets) -> Iterator[tuple[str, Any]]:
        """What labels of queries and database are needed for."""
        config, split = self._experiment.config, self._experiment.split
        found = self._measure(encoded)
        yield from found.items()
        yield "map_interval", mean_interval(self._average_precision(encoded))
        yield "top_k", config.eval.top_k or len(split.database)
        yield "labels_per_class", config.labels_per_class
        yield from self._unanswerable(encoded, found["map"])
        yield "num_leaks", split.num_leaks

    def _unanswerable(
        self, encoded: EncodedSets, mean: float
    ) -> Iterator[tuple[str, Any]]:
        """How many queries nothing can answer, and mAP without them.

        They count 0 in `map`, as in most published tables.
        """
        _, queries, _, database = self._labelled(encoded)
        none = find_unanswerable(queries, database)
        count = int(none.sum())
        yield "num_unanswerable", count
        yield "map_answerable", mean * len(none) / max(len(none) - count, 1)

    def draw_gallery(self, encoded: EncodedSets) -> gallery.Gallery:
        """Best, typical and worst queries with their nearest images, as pictures.

        An image that can no longer be read is a grey square. Of stored features there
        are pictures where the images that they are features of are still there.
        Without labels no query is better than another, and none is shown.
        """
        source = self._experiment.source
        if not source.num_classes:
            return gallery.Gallery([], {})
        sets = self._labelled(encoded)
        average = self._average_precision(encoded)
        queries = gallery.describe(
            gallery.answers(*sets, average),
            query=encoded.query,
            database=encoded.database,
            labels=source.labels,
            class_names=source.class_names,
            names=source.names or None,
        )
        shown = [image for query in queries for image in (query, *query["neighbours"])]
        indices = sorted({image["index"] for image in shown})
        images = images_to_show(self._experiment)
        if images is None:
            return gallery.Gallery(queries, {})
        return gallery.Gallery(queries, {i: _picture(images, i) for i in indices})

    def _average_precision(self, encoded: EncodedSets) -> Float[np.ndarray, "Q"]:
        top_k = self._experiment.config.eval.top_k or None
        return retrieval.average_precision(*self._labelled(encoded), top_k=top_k)

    def _encode_sets(
        self,
        state: TrainState,
        query: Int64[np.ndarray, "Q"],
        database: Int64[np.ndarray, "N"],
    ) -> EncodedSets:
        query_codes, query = self.codes(state, query)
        database_codes, database = self.codes(state, database)
        return EncodedSets(query, query_codes, database, database_codes)

    def _labelled(self, encoded: EncodedSets) -> _LabelledCodes:
        """What metrics take."""
        labels = self._experiment.source.labels
        return (
            encoded.query_codes,
            labels[encoded.query],
            encoded.database_codes,
            labels[encoded.database],
        )

    def _measure(self, encoded: EncodedSets) -> dict[str, Any]:
        config = self._experiment.config
        return retrieval.evaluate(
            *self._labelled(encoded),
            top_k=config.eval.top_k or None,
            precision_at=config.eval.precision_at,
        )


def mean_interval(values: Float[np.ndarray, "Q"]) -> list[float]:
    """Ends of the normal 95 % interval of a mean over independent queries.

    Args:
        values: of each query, `[Q]`, any real.

    Returns:
        Two numbers around the mean; the mean twice of fewer than two queries.
    """
    mean = float(values.mean()) if len(values) else 0.0
    if len(values) < 2:
        return [mean, mean]
    half = 1.959964 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return [mean - half, mean + half]


def _picture(images: ImageSequence, index: int) -> bytes:
    try:
        image = images[index]
    except DataError:
        return pictures.draw_missing()
    return pictures.draw_picture(image)


def versions() -> dict[str, str]:
    """Versions of what computes the numbers, and the device they are computed on."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return found | {
        "python": platform.python_version(),
        "ssah-jax": importlib.metadata.version("ssah-jax"),
        "device": jax.local_devices()[0].device_kind,
    }


def describe(results: dict[str, Any], config: Config) -> str:
    """One line for the terminal."""
    if reason := results.get("not_measured"):
        distinct = results["code_statistics"]["num_distinct"]
        return (
            f"no mAP: {reason}; {distinct:,} different codes of "
            f"{results['num_database']:,} images, {config.bits} bits, "
            f"step {results['steps']}"
        )
    unanswerable = ""
    if count := results.get("num_unanswerable"):
        unanswerable = (
            f", of which {count} share no class with the database and count 0 (without "
            f"them mAP {results['map_answerable']:.6f})"
        )
    return (
        f"mAP {results['map']:.6f} (stable order {results['map_stable']:.6f}, "
        f"precision within radius 2 {results['precision_radius2']:.4f}): "
        f"{results['num_query']} queries{unanswerable}, "
        f"{results['num_database']} database images, "
        f"{results['num_labelled']} labels, {config.bits} bits, "
        f"step {results['steps']}"
    )
