"""Times exact tie-aware mAP by histograms against a sort for every query.

    python benchmarks/retrieval_speed.py --output results.json

The comparator is the shape of the published evaluation loops (for one,
https://github.com/swuxyj/DeepHash-pytorch): for each query a label product, a code
product, an argsort of the whole database and a mean. It is written anew here, in
float32 NumPy. Both run on the same random codes and labels in one process, in turn;
the best of `--repeats` counts. Compilation is timed apart. BLAS is held to one
thread: more of them make the loop's small products slower on a busy machine, and
would flatter the ratio.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from threadpoolctl import threadpool_limits

from ssah_jax import retrieval


def argsort_loop(
    query_codes: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
) -> float:
    """mAP, a query at a time, with an unstable sort and "retrieved" denominators."""
    bits = query_codes.shape[1]
    total = 0.0
    for code, label in zip(query_codes, query_labels, strict=True):
        relevant = label @ database_labels.T > 0
        distance = 0.5 * (bits - code @ database_codes.T)
        ranks = np.flatnonzero(relevant[np.argsort(distance)]) + 1
        if len(ranks):
            total += np.mean(np.arange(1, len(ranks) + 1) / ranks)
    return total / len(query_codes)


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(
    queries: int, database: int, bits: int, classes: int, repeats: int, seed: int
) -> dict[str, float | int]:
    """One row of the result: milliseconds a query, and the two mAP."""
    rng = np.random.default_rng(seed)
    signs = [
        np.where(rng.random((rows, bits)) < 0.5, 1, -1).astype(np.float32)
        for rows in (queries, database)
    ]
    labels = [
        np.eye(classes, dtype=np.float32)[rng.integers(0, classes, rows)]
        for rows in (queries, database)
    ]
    sets = signs[0], labels[0], signs[1], labels[1]
    calls: dict[str, Callable[[], object]] = {
        "argsort_loop": lambda: argsort_loop(*sets),
        "histograms": lambda: retrieval.mean_average_precision(*sets),
        "stable": lambda: retrieval.mean_average_precision(*sets, ties="stable"),
        "evaluate": lambda: retrieval.evaluate(*sets),
    }
    first = seconds(calls["histograms"])
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call))
    best = {name: min(values) for name, values in times.items()}
    row: dict[str, float | int] = {"bits": bits}
    for name, value in best.items():
        row[f"{name}_ms_per_query"] = round(1e3 * value / queries, 4)
    row["speedup"] = round(best["argsort_loop"] / best["histograms"], 2)
    row["compile_seconds"] = round(first - best["histograms"], 3)
    row["map_argsort_loop"] = argsort_loop(*sets)
    row["map_expected"] = retrieval.mean_average_precision(*sets)
    return row


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--database", type=int, default=59000)
    parser.add_argument("--bits", type=int, nargs="+", default=[12, 32, 48])
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file; printed if absent")
    args = parser.parse_args()
    with threadpool_limits(1, user_api="blas"):
        rows = [
            measure(
                args.queries, args.database, bits, args.classes, args.repeats, args.seed
            )
            for bits in args.bits
        ]
    result = {
        "queries": args.queries,
        "database": args.database,
        "classes": args.classes,
        "repeats": args.repeats,
        "seed": args.seed,
        "device": jax.devices()[0].device_kind,
        "cpu_count": os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "numpy": np.__version__,
        },
        "rows": rows,
    }
    text = json.dumps(result, indent=2) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        args.output.write_text(text)


if __name__ == "__main__":
    main()
