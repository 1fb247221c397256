"""Codes of a frozen backbone: what binarisers are worth, and heads that learn.

    ssah features configs/cifar10.py:source=folder,path=runs/cifar10-jpeg,\
store=memory,anet.max_degrees=45.0 --backbone efficientnet_lite0 \
      --weights PATH/efficientnet_lite0.pth --image-size 160 --views 4 \
      --out runs/lite0_160
    python benchmarks/untrained_codes.py --features runs/lite0_160

CIFAR-10 as JPEG files (class folders below train/ and test/), protocol `54k`: 1,000
queries, 54,000 images to be found. EfficientNet-Lite0's features of images enlarged to
160 pixels; binarisers learn from 10,000 images of the database, without labels. Heads
learn on four stored views of each image: without labels from all images but queries,
and as SSAH with so many labels a class, none of which is of a query or in the database.

mAP counts the whole database (expected over ties, as `retrieval.evaluate` does; of the
float search and of RaBitQ, whose distances hardly tie, over one order). recall@10 is
the share of the float search's ten nearest that are found: among the ten nearest by
code ("1"), or after the cosine of float16 features has ordered so many times ten.
Seconds are of this process alone, on a machine with others' work, so that they compare
only within a run.
"""

import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import faiss
import jax
import numpy as np
import records
from absl import app, flags
from ml_collections import ConfigDict

from ssah_jax import retrieval
from ssah_jax.config import Config, from_config_dict, presets
from ssah_jax.data import Split, features_source, make_split
from ssah_jax.retrieval.binarisers import KINDS, Binariser
from ssah_jax.retrieval.feature_files import stored_as
from ssah_jax.run import evaluators, opening, parallel, train_lib
from ssah_jax.run.experiment import prepare
from ssah_jax.run.workdir import Workdir

_FEATURES = flags.DEFINE_string("features", None, "Of four views.", required=True)
_HEADS = flags.DEFINE_list("heads", ["32", "64", "16", "128"], "Bits of heads.")
_LABELS = flags.DEFINE_list("labels", ["0", "10", "50", "500"], "A class, of heads.")
_ONLY_HEADS = flags.DEFINE_bool("only_heads", False, "Other rows stay as recorded.")
_STEPS = flags.DEFINE_integer("steps", 1000, "Of a head.")
_SECONDS = flags.DEFINE_string("seconds", "", "Of `ssah features`, as JSON; kept.")
_OUT = flags.DEFINE_string("out", None, "The record; None for benchmarks/results.")

BITS = (16, 32, 64, 128)
OVERSAMPLE = (1, 4, 10, 20)
LEARN = 10_000


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
    source = features_source(_FEATURES.value)
    split = make_split(
        source,
        protocol="54k",
        labels_per_class=500,
        num_queries=1000,
        num_validation=0,
        seed=0,
    )
    everything = np.asarray(source.images[:, 0, 0], np.float32)
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
    first = [
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

    target = Path(_OUT.value or records.RESULTS / "untrained_codes.json")
    before = json.loads(target.read_text()) if _ONLY_HEADS.value else {}
    seconds = json.loads(_SECONDS.value) if _SECONDS.value else None

    def keep(rows: list[dict[str, Any]]) -> None:
        records.write(
            "untrained_codes",
            {
                "what": "codes of frozen EfficientNet-Lite0 features, and heads",
                "data": "CIFAR-10 as JPEG files",
                "protocol": split.protocol,
                "views": source.images.shape[1],
                "head_steps": _STEPS.value,
                "features": database.shape[1],
                "queries": len(queries),
                "database": len(database),
                "learnt_from": len(learn),
                "of_features": seconds or before.get("of_features"),
                "oversample": list(OVERSAMPLE),
                "rows": rows,
            },
            _OUT.value,
        )

    sets = (queries, query_labels), (database, database_labels)
    rows = before.get("rows", first)
    if not before:
        for kind in KINDS:
            for bits in (database.shape[1],) if kind == "sign" else BITS:
                rows.append(of_kind(kind, bits, learn, *sets, kept, wanted))
        rows.append(
            of_rabitq(
                *(unit(learn), unit(queries), unit(database)),
                *(query_labels, database_labels, kept, wanted),
            )
        )
        keep(rows)
    for bits in map(int, _HEADS.value):
        for labels in map(int, _LABELS.value):
            row = of_head(labels, bits, split, *sets, kept, wanted)
            same = [r for r in rows if (r["kind"], r["bits"]) == (row["kind"], bits)]
            rows = [r for r in rows if r not in same] + [row]
            # What is done stays, if this ends early.
            keep(in_order(rows))


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Heads last, by labels and bits; others as they are."""
    heads = [row for row in rows if "labels_per_class" in row]
    others = [row for row in rows if "labels_per_class" not in row]
    heads.sort(key=lambda row: (row["labels_per_class"], row["bits"]))
    return others + heads


def config_of(labels: int, bits: int) -> Config:
    """The configuration of a head; with 0 labels a class it needs none."""
    values = ConfigDict(dataclasses.asdict(Config()))
    values.update_from_flattened_dict(presets.FEATURES)
    values.update_from_flattened_dict(
        {
            "bits": bits,
            "steps": _STEPS.value,
            "labels_per_class": labels or 10,
            "log_every": 500,
            "checkpoint_every": _STEPS.value,
            "data.path": _FEATURES.value,
            "data.store": "memory",
            "data.protocol": "54k",
            "data.num_queries": 1000,
            "data.num_validation": 0,
            "batch.unlabelled": 256,
            "eval.every": 0,
            "loss.consistent_spread": 1.0,
        }
    )
    if not labels:
        values.update_from_flattened_dict(presets.VARIANTS["unsupervised"])
    return from_config_dict(values)


def of_head(labels: int, bits: int, split: Split, queries, database, kept, wanted):
    """A row of the table: a head that learnt, on the same queries and database."""
    experiment = prepare(config_of(labels, bits))
    assert np.array_equal(experiment.split.query, split.query)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        with opening.open_run(experiment, Workdir(Path(folder) / "run")) as run:
            train_lib.train(run)
            state = parallel.locally(run.state)
            trained = time.monotonic()
            evaluator = evaluators.Evaluator(experiment)
            query_codes, _ = evaluator.codes(state, split.query)
            codes, _ = evaluator.codes(state, split.database)
            encoded = time.monotonic()
    jax.clear_caches()
    kind = f"ssah-{labels}" if labels else "unsupervised"
    found = of_codes(query_codes, queries, codes, database, kept, wanted, bits=bits)
    return {
        "kind": kind,
        "labels_per_class": labels,
        **found,
        "fit_seconds": trained - began,
        "apply_seconds": encoded - trained,
    }


def of_codes(query_codes, queries, codes, database, kept, wanted, *, bits: int) -> dict:
    """What codes are worth."""
    index = retrieval.build_index(
        retrieval.CodeSet(
            tuple(map(str, range(len(codes)))),
            np.asarray(retrieval.pack(codes)),
            bits,
            "0" * 16,
        )
    )
    before = time.monotonic()
    _, found = index.search(query_codes, 10 * OVERSAMPLE[-1])
    searched = time.monotonic() - before
    measured = retrieval.evaluate(
        query_codes, queries[1], codes, database[1], precision_at=(100,)
    )
    return {
        "bits": bits,
        "bytes": -(-bits // 8),
        "map": measured["map"],
        "precision_at_100": measured["precision_at"]["100"],
        "recall_at_10": recalls(found, wanted, queries[0], kept),
        "search_seconds": searched,
    }


def of_kind(kind, bits, learn, queries, database, kept, wanted) -> dict:
    """A row of the table: one `Binariser`."""
    began = time.monotonic()
    binariser = Binariser.fit(learn, kind=kind, bits=bits)
    fitted = time.monotonic()
    codes = binariser.apply(database[0])
    encoded = time.monotonic()
    found = of_codes(
        binariser.apply(queries[0]), queries, codes, database, kept, wanted, bits=bits
    )
    return {
        "kind": kind,
        **found,
        "fit_seconds": fitted - began,
        "apply_seconds": encoded - fitted,
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
