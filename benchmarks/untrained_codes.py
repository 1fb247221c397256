"""Codes of a frozen backbone without labels: what each binariser is worth.

    python benchmarks/untrained_codes.py --images runs/cifar10-jpeg \
      --weights PATH/efficientnet_lite0.pth --cache runs/lite0_64

CIFAR-10 as JPEG files (class folders below train/ and test/), protocol `54k`: 1,000
queries, 54,000 images to be found. EfficientNet-Lite0's features of images enlarged to
--side pixels; binarisers learn from 10,000 images of the database. Features are
computed once, and kept in --cache.

mAP counts the whole database (expected over ties, as `retrieval.evaluate` does; of the
float search and of RaBitQ, whose distances hardly tie, over one order). recall@10 is
the share of the float search's ten nearest that are found: among the ten nearest by
code ("1"), or after the cosine of float16 features has ordered so many times ten.
Seconds are of this process alone, on a machine with others' work, so that they compare
only within a run.
"""

import json
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import records
from absl import app, flags

from ssah_jax import retrieval
from ssah_jax.data import image_folder, make_split
from ssah_jax.retrieval.binarisers import KINDS, Binariser
from ssah_jax.retrieval.feature_files import stored_as
from ssah_jax.run.encoder import Encoder

_IMAGES = flags.DEFINE_string("images", None, "Class folders.", required=True)
_WEIGHTS = flags.DEFINE_string("weights", "default", "Of EfficientNet-Lite0.")
_CACHE = flags.DEFINE_string("cache", None, "CACHE.npy and CACHE.json.", required=True)
_SIDE = flags.DEFINE_integer("side", 64, "Of the images that the backbone sees.")
_OUT = flags.DEFINE_string("out", None, "The record; None for benchmarks/results.")

BITS = (16, 32, 64, 128)
OVERSAMPLE = (1, 4, 10, 20)
LEARN = 10_000


def features(names: list[str]) -> tuple[np.ndarray, dict[str, Any]]:
    """Features `[N, D]` of images, in their order, and how long they took."""
    array, about = Path(f"{_CACHE.value}.npy"), Path(f"{_CACHE.value}.json")
    if not about.exists():
        # In a random order, so that what is done at any time is a sample.
        order = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
        encoder = Encoder.from_backbone(
            "efficientnet_lite0", weights=_WEIGHTS.value, image_size=_SIDE.value
        )
        images = encoder.image_files([f"{_IMAGES.value}/{name}" for name in order])
        found = np.zeros((len(order), encoder.features.width()), np.float16)
        wall, cpu = time.monotonic(), time.process_time()
        for rows, some in encoder.features.compute(images):
            found[rows] = some
        seconds = {
            "images": len(order),
            "wall_seconds": time.monotonic() - wall,
            "cpu_seconds": time.process_time() - cpu,
        }
        np.save(array, found)
        about.write_text(json.dumps(seconds | {"names": order, "side": _SIDE.value}))
    known = json.loads(about.read_text())
    if known["side"] != _SIDE.value:
        raise ValueError(f"--cache: found side {known['side']}, wanted {_SIDE.value}")
    row = {name: i for i, name in enumerate(known.pop("names"))}
    return np.load(array)[[row[name] for name in names]].astype(np.float32), known


def of_order(
    order: np.ndarray, query_labels: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and precision at 100 of whole orders `[Q, N]`."""
    relevant = labels[order] == query_labels[:, None]
    ranks = np.arange(1, order.shape[1] + 1)
    precision = np.cumsum(relevant, axis=1) / ranks
    average = (precision * relevant).sum(axis=1) / relevant.sum(axis=1)
    return average, precision[:, 99]


def blocks(number: int, size: int = 100) -> list[slice]:
    """Slices of so many rows."""
    return [slice(start, start + size) for start in range(0, number, size)]


def recalls(found: np.ndarray, wanted: np.ndarray, queries, kept) -> dict[str, float]:
    """recall@10 of candidates `[Q, 200]`, by how many of them are ordered anew."""
    result = {}
    for times in OVERSAMPLE:
        rows = found[:, : 10 * times]
        if times > 1:
            _, rows = retrieval.rerank(queries, kept, rows, k=10)
        result[str(times)] = float(retrieval.neighbour_recall(rows, wanted).mean())
    return result


def main(_: list[str]) -> None:
    """Measure all and write the record."""
    source = image_folder(_IMAGES.value)
    split = make_split(
        source,
        protocol="54k",
        labels_per_class=500,
        num_queries=1000,
        num_validation=0,
        seed=0,
    )
    everything, seconds = features(list(source.names))
    labels = source.labels.argmax(axis=1)
    queries, database = everything[split.query], everything[split.database]
    query_labels, database_labels = labels[split.query], labels[split.database]
    learn = database[np.random.default_rng(0).permutation(len(database))[:LEARN]]
    kept = stored_as(database, "float16")
    began = time.monotonic()
    _, wanted = retrieval.nearest_by_cosine(queries, database, k=10)
    searched = time.monotonic() - began

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    parts = [
        of_order(
            np.argsort(-(unit(queries[b]) @ unit(database).T), axis=1),
            query_labels[b],
            database_labels,
        )
        for b in blocks(len(queries))
    ]
    average, precision = (np.concatenate(x).mean() for x in zip(*parts, strict=True))
    rows = [
        {
            "kind": "float",
            "bits": None,
            "bytes": 4 * database.shape[1],
            "map": float(average),
            "precision_at_100": float(precision),
            "recall_at_10": {"1": 1.0},
            "search_seconds": searched,
        }
    ]

    def keep(rows: list[dict[str, Any]]) -> None:
        records.write(
            "untrained_codes",
            {
                "what": "codes of frozen EfficientNet-Lite0 features, without labels",
                "data": "CIFAR-10 as JPEG files",
                "protocol": split.protocol,
                "side": _SIDE.value,
                "features": database.shape[1],
                "queries": len(queries),
                "database": len(database),
                "learnt_from": len(learn),
                "of_features": seconds,
                "oversample": list(OVERSAMPLE),
                "rows": rows,
            },
            _OUT.value,
        )

    for kind in KINDS:
        for bits in (database.shape[1],) if kind == "sign" else BITS:
            rows.append(
                of_kind(
                    kind,
                    bits,
                    learn,
                    (queries, query_labels),
                    (database, database_labels),
                    kept,
                    wanted,
                )
            )
            # What is done stays, if this ends early.
            keep(rows)
    rows.append(
        of_rabitq(
            *(unit(learn), unit(queries), unit(database)),
            *(query_labels, database_labels, kept, wanted),
        )
    )
    keep(rows)


def of_kind(kind, bits, learn, queries, database, kept, wanted) -> dict:
    """A row of the table: one `Binariser`."""
    began = time.monotonic()
    binariser = Binariser.fit(learn, kind=kind, bits=bits)
    fitted = time.monotonic()
    codes = binariser.apply(database[0])
    encoded = time.monotonic()
    query_codes = binariser.apply(queries[0])
    index = retrieval.build_index(
        retrieval.CodeSet(
            tuple(map(str, range(len(codes)))),
            np.asarray(retrieval.pack(codes)),
            bits,
            binariser.fingerprint,
        )
    )
    before = time.monotonic()
    _, found = index.search(query_codes, 10 * OVERSAMPLE[-1])
    searched = time.monotonic() - before
    measured = retrieval.evaluate(
        query_codes, queries[1], codes, database[1], precision_at=(100,)
    )
    return {
        "kind": kind,
        "bits": bits,
        "bytes": -(-bits // 8),
        "map": measured["map"],
        "precision_at_100": measured["precision_at"]["100"],
        "recall_at_10": recalls(found, wanted, queries[0], kept),
        "fit_seconds": fitted - began,
        "apply_seconds": encoded - fitted,
        "search_seconds": searched,
    }


def of_rabitq(
    learn, queries, database, query_labels, database_labels, kept, wanted
) -> dict:
    """The row of FAISS's RaBitQ: a bit for each feature, and two numbers an image."""
    began = time.monotonic()
    index = faiss.IndexRaBitQ(database.shape[1], faiss.METRIC_L2)
    index.train(learn)
    fitted = time.monotonic()
    index.add(database)
    added = time.monotonic()
    _, found = index.search(queries, 10 * OVERSAMPLE[-1])
    searched = time.monotonic() - added
    parts = [
        of_order(
            index.search(queries[b], len(database))[1], query_labels[b], database_labels
        )
        for b in blocks(len(queries))
    ]
    average, precision = (np.concatenate(x).mean() for x in zip(*parts, strict=True))
    return {
        "kind": "rabitq",
        "bits": database.shape[1],
        "bytes": int(index.code_size),
        "map": float(average),
        "precision_at_100": float(precision),
        "recall_at_10": recalls(found, wanted, queries, kept),
        "fit_seconds": fitted - began,
        "apply_seconds": added - fitted,
        "search_seconds": searched,
    }


if __name__ == "__main__":
    app.run(main)
