"""Time and memory of value and gradient of every hash loss, beside PyTorch.

    python benchmarks/loss_cost.py
    python benchmarks/loss_cost.py --table

The first writes benchmarks/results/loss_cost.json, the second prints it as a table. It
needs PyTorch. Each loss of `ssah_jax.losses`, compiled, and its version in
torch_losses.py, eager, give a number and its gradient with respect to the codes (and
GreedyHash's classifier), at their presets:

- pairs and rankings: B x M codes of 64 bits, B = M, 10 classes, no code with itself;
- pointwise: the same B, 100 classes.

One core and one thread for both (the process binds itself to one core), one process,
rounds that alternate, the median; a call below 20 ms is repeated within its round.
Compilation is timed apart. From 2,048 columns on DTSH is its sampled form on both
sides, 50 x 50 triplets a row. Both must give the same value, or the script stops.

Memory is the peak of resident memory during one call, beyond what was resident before
it, in a fresh process for each that imports one framework only, and has run the call
at 16 rows and, under JAX, compiled it. XLA's own account of its temporaries
(`memory_analysis`) stands beside it; it leaves out the results. Peaks need Linux.
"""

import argparse
import functools
import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before NumPy, PyTorch and JAX count the cores.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

RESULTS = Path(__file__).parent / "results" / "loss_cost.json"
BITS = 64
# Method -> its kind, in the order of the table.
METHODS = {
    "dsh": "pairwise",
    "dpsh": "pairwise",
    "dhn": "pairwise",
    "hashnet": "pairwise",
    "dch": "pairwise",
    "logistic_pair": "pairwise",
    "mihash": "ranking",
    "talr": "ranking",
    "dtsh": "ranking",
    "greedyhash": "pointwise",
    "csq": "pointwise",
    "dpn": "pointwise",
    "orthohash": "pointwise",
}
CLASSES = {"pairwise": 10, "ranking": 10, "pointwise": 100}
# Columns from which on DTSH, whose cost is cubic, draws its triplets.
SAMPLED_FROM = 2048

Call = Callable[[], float]
"""Value and gradient, once; waits for both, and returns the value."""


def inputs(method: str, rows: int) -> tuple[tuple[np.ndarray, ...], ...]:
    """What is differentiated, and what is not: codes and similarities or centres."""
    rng = np.random.default_rng(0)
    kind = METHODS[method]

    def codes(rows: int) -> np.ndarray:
        return np.tanh(rng.normal(size=(rows, BITS))).astype(np.float32)

    def labels(rows: int) -> np.ndarray:
        chosen = rng.integers(0, CLASSES[kind], rows)
        return np.eye(CLASSES[kind], dtype=np.float32)[chosen]

    if kind != "pointwise":
        return (codes(rows), codes(rows)), (labels(rows) @ labels(rows).T > 0,)
    centres = np.where(rng.random((CLASSES[kind], BITS)) < 0.5, 1, -1)
    centres = centres.astype(np.float32)
    if method == "greedyhash":
        return (codes(rows), centres / 8), (labels(rows),)
    ties = (centres[0],) if method == "csq" else ()
    return (codes(rows),), (labels(rows), centres, *ties)


def is_sampled(method: str, rows: int) -> bool:
    """Whether both sides draw triplets instead of taking them all."""
    return method == "dtsh" and rows >= SAMPLED_FROM


def jax_call(method: str, rows: int) -> tuple[Call, dict[str, float]]:
    """The compiled loss, and what compiling it took and says of memory."""
    import jax
    import jax.numpy as jnp

    from ssah_jax import losses

    kind, sampled = METHODS[method], is_sampled(method, rows)
    loss = getattr(losses, f"{method}_sampled_loss" if sampled else f"{method}_loss")
    if sampled:
        loss = functools.partial(loss, jax.random.key(0))

    def number(codes: tuple[jax.Array, ...], *rest: jax.Array) -> jax.Array:
        if kind == "pointwise":
            first, *others = codes
            return losses.masked_mean(loss(first, rest[0], *others, *rest[1:]))
        values, similar = loss(*codes, *rest), rest[0]
        if kind == "ranking":
            both = jnp.any(similar, axis=1) & ~jnp.all(similar, axis=1)
            return losses.masked_mean(values, both)
        if method in ("hashnet", "dch"):
            values = values * losses.pair_weights(similar)
        return losses.masked_mean(values)

    codes, rest = jax.tree.map(jnp.asarray, inputs(method, rows))
    start = time.perf_counter()
    compiled = jax.jit(jax.value_and_grad(number)).lower(codes, *rest).compile()
    seconds = time.perf_counter() - start
    temporary = compiled.memory_analysis().temp_size_in_bytes / 2**20

    def call() -> float:
        value, _ = jax.block_until_ready(compiled(codes, *rest))
        return float(value)

    return call, {
        "jax_compile_seconds": round(seconds, 2),
        "jax_temporary_mb": round(temporary, 2),
    }


def torch_call(method: str, rows: int) -> tuple[Call, dict[str, float]]:
    """The same by PyTorch."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = importlib.import_module("torch_losses")
    loss = getattr(module, f"{method}_sampled" if is_sampled(method, rows) else method)
    codes, rest = (tuple(map(torch.from_numpy, part)) for part in inputs(method, rows))
    for x in codes:
        x.requires_grad_()

    def call() -> float:
        for x in codes:
            x.grad = None
        if METHODS[method] == "pointwise":
            value = loss(codes[0], rest[0], *codes[1:], *rest[1:])
        else:
            value = loss(*codes, *rest)
        value.backward()
        return value.item()

    return call, {}


CALLS = {"jax": jax_call, "torch": torch_call}


def seconds(call: Call, times: int = 1) -> float:
    """Wall time of a call, of `times` in a row."""
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def compare(method: str, rows: int, rounds: int) -> dict[str, Any]:
    """One row of the record."""
    calls: dict[str, Call] = {}
    sampled = is_sampled(method, rows)
    row: dict[str, Any] = {
        "loss": method,
        "sampled": sampled,
        "rows": rows,
        "columns": CLASSES["pointwise"] if METHODS[method] == "pointwise" else rows,
    }
    for name, make in CALLS.items():
        calls[name], found = make(method, rows)
        row |= found
    values = {name: call() for name, call in calls.items()}
    # Draws differ, and so do their means; MIHash of random codes is near 0.
    tolerance = 0.05 if sampled else 1e-4
    if not math.isclose(*values.values(), rel_tol=tolerance, abs_tol=1e-5):
        raise SystemExit(f"loss_cost: {method}: {values} at {rows} rows differ")
    times = {
        name: max(1, math.ceil(0.02 / seconds(call))) for name, call in calls.items()
    }
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            took[name].append(seconds(call, times[name]))
    for name, one in took.items():
        row[f"{name}_ms"] = float(f"{1e3 * statistics.median(one):.4g}")
        row[f"{name}_ms_range"] = [float(f"{1e3 * f(one):.4g}") for f in (min, max)]
        row[f"{name}_peak_mb"] = peak_of_a_process(name, method, rows)
        row[f"{name}_value"] = values[name]
    row["torch_over_jax"] = round(row["torch_ms"] / row["jax_ms"], 2)
    return row


def peak(framework: str, method: str, rows: int) -> float:
    """MB that one call takes beyond its inputs, its program and the imports."""
    make = CALLS[framework]
    # What a framework loads or allocates at its first call of a kind, or once.
    make(method, 16)[0]()
    call, _ = make(method, rows)
    give_back_freed_memory()
    # Linux: forget the peak of compiling.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    call()
    return resident("VmHWM") - before


def give_back_freed_memory() -> None:
    """Else the call would reuse what compiling freed, and seem to take nothing."""
    import ctypes
    import gc

    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def resident(field: str) -> float:
    """Resident memory of this process, now or at its peak, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return int(line.split()[1]) / 1024


def peak_of_a_process(framework: str, method: str, rows: int) -> float | None:
    """The same, of a process that has done nothing else; None where unknown."""
    if not sys.platform.startswith("linux"):
        return None
    command = [sys.executable, __file__, "--peak", framework, method, str(rows)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return round(float(found.stdout), 1)


def table(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    lines = [
        "| loss | B | ms, JAX | ms, PyTorch | PyTorch / JAX | "
        "peak MB, JAX | peak MB, PyTorch | of it XLA temporaries |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["rows"]:
        name = f"`{row['loss']}{'_sampled' if row['sampled'] else ''}_loss`"
        cells = [
            name,
            f"{row['rows']:,}",
            f"{row['jax_ms']:,.3g}" if row["jax_ms"] < 1e3 else f"{row['jax_ms']:,.0f}",
            f"{row['torch_ms']:,.3g}"
            if row["torch_ms"] < 1e3
            else f"{row['torch_ms']:,.0f}",
            f"{row['torch_over_jax']:.2f}",
            *("-" if row[k] is None else f"{row[k]:,.1f}" for k in PEAKS),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


PEAKS = ("jax_peak_mb", "torch_peak_mb", "jax_temporary_mb")


def main() -> None:
    """Measure and write the record, or print the table of one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--output", help="where the record goes, or is read from")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        framework, method, rows = given.peak
        print(peak(framework, method, int(rows)))
        return
    if given.table:
        text = Path(given.output or RESULTS).read_text()
        print(table(json.loads(text)))
        return
    import records
    import torch

    rows = []
    for method in given.only:
        for size in given.sizes:
            rows.append(compare(method, size, given.rounds))
            print(json.dumps(rows[-1]), file=sys.stderr)
    record = {
        "rounds": given.rounds,
        "bits": BITS,
        "classes": CLASSES,
        "threads": 1,
        "torch": torch.__version__,
        "rows": rows,
    }
    records.write("loss_cost", record, given.output)


if __name__ == "__main__":
    main()
