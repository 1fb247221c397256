"""Times exact tie-aware mAP by histograms against a sort for every query; searches.

    python benchmarks/retrieval_speed.py --million

All on one core (the process binds itself to one), all in one process and in turn, the
least of `--repeats`, in seconds of the processor, which are those of the clock where
nothing else runs; compilation is timed apart. On a GPU ours computes there and the loop
on the core, in seconds of the clock. Sections of the record:

- `single_label`: 59,000 codes of 64 bits, 10 classes, 1,000 queries.
- `multi_label`: 193,734 codes, 21 classes, 2,100 queries, and the memory that one
  process takes beyond its inputs.
- In both the comparator is the shape of the published evaluation loops (for one,
  https://github.com/swuxyj/DeepHash-pytorch): for each query a label product, a code
  product, an argsort of the whole database and a mean, written anew in float32 NumPy.
  It is timed on `loop_queries` of the queries, all of `evaluate` on `evaluate_queries`
  (on a GPU all of them), and times are per query.
- `limit`: XOR and population count of the same words by XLA, summed, no histogram.
- `search`, where FAISS is: the 100 nearest by it, exact and by three approximate
  indexes, on codes that flip a tenth of the bits of 200 centres; recall counts those
  found among the first 10 that are no farther than the true tenth.
- `million`: 1,000,000 codes of 64 bits and 10,000 queries, with `--million`.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before NumPy and JAX count the cores.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import jax
import jax.numpy as jnp
import numpy as np
import records

from ssah_jax import retrieval

try:
    import faiss
except ImportError:
    faiss = None

ON_CPU = jax.default_backend() == "cpu"

Sets = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


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


def clock() -> float:
    """Seconds of the processor, or of the clock where another device computes."""
    return time.process_time() if ON_CPU else time.perf_counter()


def seconds(call: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = clock()
    call()
    return clock() - start


def random_sets(
    queries: int, database: int, bits: int, classes: int, multi: bool
) -> Sets:
    """Random codes, and one label or about two of `classes` a row."""
    rng = np.random.default_rng(0)
    parts = []
    for rows in (queries, database):
        parts.append(np.where(rng.random((rows, bits)) < 0.5, 1, -1).astype(np.float32))
        labels = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, rows)]
        if multi:
            labels = np.maximum(labels, rng.random((rows, classes)) < 0.05)
        parts.append(labels.astype(np.float32))
    return parts[0], parts[1], parts[2], parts[3]


def compare(sets: Sets, loop_queries: int, repeats: int) -> dict[str, Any]:
    """Milliseconds a query of each way, and their ratio."""
    queries = len(sets[0])
    few = sets[0][:loop_queries], sets[1][:loop_queries], sets[2], sets[3]
    # Another device takes the database first, however few the queries.
    evaluated = few if ON_CPU else sets
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "argsort_loop": (lambda: argsort_loop(*few), loop_queries),
        "map": (lambda: retrieval.mean_average_precision(*sets), queries),
        "evaluate": (lambda: retrieval.evaluate(*evaluated), len(evaluated[0])),
    }
    first = {name: seconds(call) for name, (call, _) in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, (call, _) in calls.items():
            times[name].append(seconds(call))
    row: dict[str, Any] = {
        "queries": queries,
        "database": len(sets[2]),
        "bits": sets[0].shape[1],
        "classes": sets[1].shape[1],
        "loop_queries": loop_queries,
        "evaluate_queries": len(evaluated[0]),
    }
    least = {name: min(values) for name, values in times.items()}
    for name, (_, number) in calls.items():
        row[f"{name}_ms_per_query"] = round(1e3 * least[name] / number, 4)
    row["speedup"] = round(
        row["argsort_loop_ms_per_query"] / row["map_ms_per_query"], 1
    )
    row["evaluate_speedup"] = round(
        row["argsort_loop_ms_per_query"] / row["evaluate_ms_per_query"], 1
    )
    row["compile_seconds"] = round(first["map"] - least["map"], 2)
    row["map_argsort_loop"] = argsort_loop(*few)
    row["map_expected"] = retrieval.mean_average_precision(*few)
    return row


def memory(sets: Sets) -> float:
    """MB that evaluating takes beyond its inputs and the imports, at the peak."""
    small = [part[:8] for part in sets]
    retrieval.mean_average_precision(*small)
    # Linux: forget the peak of making the inputs.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    retrieval.mean_average_precision(*sets)
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """Resident memory of this process, now or at its peak, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return int(line.split()[1]) / 1024


def memory_of_a_process() -> float:
    """The same, of a process that has done nothing else."""
    command = [sys.executable, __file__, "--memory-only"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return round(float(found.stdout), 1)


@jax.jit
def popcount_sums(query: jax.Array, words: jax.Array) -> jax.Array:
    """For each query the sum of its distances: every word touched, nothing kept."""

    def one(code: jax.Array) -> jax.Array:
        differ = jax.lax.population_count(code[:, None] ^ words)
        # Slices first, or XLA reduces without the vector unit.
        return differ.reshape(len(code), -1, 64).sum(axis=1, dtype=jnp.uint32)

    return jax.lax.map(one, query)


def limit(row: dict[str, Any], repeats: int) -> dict[str, Any]:
    """How far the program is from reading, XOR and population count alone."""
    rng = np.random.default_rng(0)
    width, queries = row["bits"] // 32, 256
    size = row["database"] // 64 * 64
    words = jnp.asarray(rng.integers(0, 2**32, (width, size), dtype=np.uint32))
    query = jnp.asarray(rng.integers(0, 2**32, (queries, width), dtype=np.uint32))
    np.asarray(popcount_sums(query, words))
    best = min(
        seconds(lambda: np.asarray(popcount_sums(query, words)))
        for _ in range(max(3, repeats))
    )
    plain = 1e3 * best / queries
    count = row["database"] * width
    return {
        "words_per_query": count,
        "bytes_per_query": 4 * count,
        "xor_popcount_ms_per_query": round(plain, 4),
        "xor_popcount_words_per_second": round(count / plain * 1e3),
        "map_words_per_second": round(count / row["map_ms_per_query"] * 1e3),
        "times_the_limit": round(row["map_ms_per_query"] / plain, 2),
    }


def searches(queries: int, database: int, bits: int, repeats: int) -> dict[str, Any]:
    """The 100 nearest by FAISS: time, and recall of the first ten."""
    rng = np.random.default_rng(0)
    centres = rng.random((200, bits)) < 0.5

    def codes(rows: int) -> np.ndarray:
        near = centres[rng.integers(0, len(centres), rows)]
        return np.packbits(near ^ (rng.random(near.shape) < 0.1), axis=1)

    base, query = codes(database), codes(queries)
    quantizer = faiss.IndexBinaryFlat(bits)
    inverted = faiss.IndexBinaryIVF(quantizer, bits, 256)
    inverted.nprobe = 8
    indexes = {
        "flat": faiss.IndexBinaryFlat(bits),
        "hnsw": faiss.IndexBinaryHNSW(bits, 32),
        "ivf": inverted,
        "multihash": faiss.IndexBinaryMultiHash(bits, 4, 16),
    }
    rows: dict[str, Any] = {"queries": queries, "database": database, "bits": bits}
    tenth = None
    for name, index in indexes.items():

        def build(index: Any = index) -> None:
            if not index.is_trained:
                index.train(base)
            index.add(base)

        built = seconds(build)
        distance, found = index.search(query, 100)
        if tenth is None:
            tenth = distance[:, 9:10]
        hits = (distance[:, :10] <= tenth) & (found[:, :10] >= 0)
        times = [seconds(lambda i=index: i.search(query, 100)) for _ in range(repeats)]
        rows[name] = {
            "build_seconds": round(built, 3),
            "ms_per_query": round(1e3 * min(times) / queries, 4),
            "recall_at_10": round(float(hits.mean()), 4),
        }
    return rows


def million() -> dict[str, Any]:
    """One evaluation of 10,000 queries on 1,000,000 codes, compilation included."""
    sets = random_sets(10_000, 1_000_000, 64, 100, multi=False)
    labels = sets[1].argmax(axis=1), sets[3].argmax(axis=1)
    start = clock()
    value = retrieval.mean_average_precision(sets[0], labels[0], sets[2], labels[1])
    return {
        "queries": len(sets[0]),
        "database": len(sets[2]),
        "bits": 64,
        "seconds": round(clock() - start, 2),
        "map_expected": value,
    }


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--million", action="store_true", help="1,000,000 x 10,000 too")
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", help="JSON file; in benchmarks/results if absent")
    args = parser.parse_args()
    many = random_sets(2100, 193_734, 64, 21, multi=True)
    if args.memory_only:
        print(memory(many))
        return
    single = compare(random_sets(1000, 59_000, 64, 10, False), 200, args.repeats)
    multi = compare(many, 50, args.repeats)
    multi["extra_memory_mb"] = memory_of_a_process()
    record: dict[str, Any] = {
        "device": jax.devices()[0].device_kind,
        "seconds_of": "processor" if ON_CPU else "clock",
        "repeats": args.repeats,
        "single_label": single,
        "multi_label": multi,
        "limit": limit(single, args.repeats),
    }
    if faiss is not None:
        faiss.omp_set_num_threads(1)
        found = searches(1000, 59_000, 64, args.repeats)
        record |= {"faiss": faiss.__version__, "search": found}
    if args.million:
        record["million"] = million()
    records.write("retrieval_speed", record, args.output)


if __name__ == "__main__":
    main()
