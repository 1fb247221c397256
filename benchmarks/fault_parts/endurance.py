"""A long run: memory, open files, threads and the time of a step must stay flat."""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from fault_parts.children import train

_SAMPLES = 2.0
"""Seconds between two looks at the process."""


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """100,000 steps, or as many as `--only SECONDS` lets."""
    steps = 2000 if options.quick else 100_000
    limit = float(options.only[0]) if options.only else 1e9
    workdir = folder / "run"
    child = train(
        workdir,
        *(f"--config.steps={steps}", "--config.log_every=100"),
        *("--config.checkpoint_every=2000", "--config.eval.every=0"),
    )
    os.setpriority(os.PRIO_PROCESS, child.pid, 10)
    samples, started = [], time.monotonic()
    status = None
    while status is None and time.monotonic() - started < limit:
        time.sleep(_SAMPLES)
        status = child.poll()
        if status is None and (workdir / "metrics.jsonl").is_file():
            samples.append(_look(child.pid))
    ended = child.end(status=status) if status is not None else child.kill()
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines[: len(lines)]]
    # The first tenth compiles and fills caches.
    steady = samples[len(samples) // 10 :]
    half = len(steady) // 2
    found: dict[str, Any] = {"steps": log[-1]["step"], "samples": len(samples)}
    faults = []
    if status is not None and (fault := ended.fault(accepted=(0,))):
        faults.append(fault)
    for name, slack in (("memory_MB", 1.05), ("files", 1.0), ("threads", 1.0)):
        first, second = (
            float(np.median([s[name] for s in part]))
            for part in (steady[:half], steady[half:])
        )
        found[name] = {"first_half": round(first, 1), "second_half": round(second, 1)}
        if second > first * slack + (20 if name == "memory_MB" else 2):
            faults.append(f"{name} grew from {first} to {second}")
    times = np.diff([line["seconds"] for line in log]) / np.diff(
        [line["step"] for line in log]
    )
    times = times[len(times) // 10 :]
    halves = [float(np.median(part)) for part in np.array_split(times, 2)]
    found["step_ms"] = {
        "first_half": round(1e3 * halves[0], 2),
        "second_half": round(1e3 * halves[1], 2),
    }
    if halves[1] > 1.25 * halves[0]:
        faults.append(f"a step took {halves[0]} s, then {halves[1]} s")
    return {"long": found | {"faults": faults}}


def _look(pid: int) -> dict[str, float]:
    about = Path(f"/proc/{pid}")
    try:
        lines = dict(
            line.split(":", 1) for line in (about / "status").read_text().splitlines()
        )
        return {
            "memory_MB": int(lines["VmRSS"].split()[0]) / 1024,
            "files": len(os.listdir(about / "fd")),
            "threads": int(lines["Threads"]),
        }
    except (OSError, KeyError):
        return {"memory_MB": np.nan, "files": np.nan, "threads": np.nan}
