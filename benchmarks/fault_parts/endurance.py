"""A long run: memory, open files, threads and the time of a step must stay flat.

The time is the processor's, which other programs on the machine hardly change.
"""

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
            samples.append(_look(child.pid) | {"step": _last_step(workdir)})
    ended = child.end(status=status) if status is not None else child.kill()
    samples = [sample for sample in samples if not np.isnan(sample["memory_MB"])]
    # The first tenth compiles and fills caches.
    steady = samples[len(samples) // 10 :]
    half = len(steady) // 2
    found: dict[str, Any] = {"steps": _last_step(workdir), "samples": len(samples)}
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
    times = [
        (after[-1]["cpu_seconds"] - after[0]["cpu_seconds"])
        / (after[-1]["step"] - after[0]["step"])
        for after in (steady[:half], steady[half:])
    ]
    found["step_cpu_ms"] = {
        "first_half": round(1e3 * times[0], 2),
        "second_half": round(1e3 * times[1], 2),
    }
    if times[1] > 1.1 * times[0]:
        faults.append(f"a step took {times[0]} s of the processor, then {times[1]} s")
    return {"long": found | {"faults": faults}}


def _look(pid: int) -> dict[str, float]:
    about = Path(f"/proc/{pid}")
    try:
        lines = dict(
            line.split(":", 1) for line in (about / "status").read_text().splitlines()
        )
        # After the name, which may hold blanks: utime and stime are words 12 and 13.
        words = (about / "stat").read_text().rpartition(")")[2].split()
        ticks = int(words[11]) + int(words[12])
        return {
            "cpu_seconds": ticks / os.sysconf("SC_CLK_TCK"),
            "memory_MB": int(lines["VmRSS"].split()[0]) / 1024,
            "files": len(os.listdir(about / "fd")),
            "threads": int(lines["Threads"]),
        }
    except (OSError, KeyError):
        names = ("cpu_seconds", "memory_MB", "files", "threads")
        return dict.fromkeys(names, np.nan)


def _last_step(workdir: Path) -> int:
    """Of the last whole line of the log; 0 before the first."""
    whole = (workdir / "metrics.jsonl").read_bytes()[-4096:].rpartition(b"\n")[0]
    return int(json.loads(whole.rpartition(b"\n")[2])["step"]) if whole else 0
