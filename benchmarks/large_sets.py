"""Seconds and memory from a listing to the first steps, by the number of its images.

    python benchmarks/large_sets.py
    python benchmarks/large_sets.py --sizes 10000 2000000 --steps 0
    python benchmarks/large_sets.py --sets DIR    # made there, and left there

Writes benchmarks/results/large_sets.json. A listing of N images in 10 classes names N
files of a kilobyte or less, 1,000 a folder (links would be one image: they are made
anew for each size, 4 GB for a million). The queries are 1,000 files more. For each size
a fresh process lists and splits it, opens the stream of batches, and takes a small
step; the record says the seconds of each, how many of the first were its own
processor's (`list_and_split_cpu`, `step_cpu`: on a busy machine the rest is waiting),
and the most memory that the process ever held.

The same steps are taken four times, batches and all: with their files read from the
disk (`cold`: the operating system was asked to forget them), read again from its memory
(`warm`), and once more of both; each figure is the median of the two last halves. The
record says how many kilobytes a step then read from the disk, and how often Python
collected garbage meanwhile.
"""

import argparse
import dataclasses
import gc
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssah_jax.run.experiment import Experiment

FILES = 1000
CLASSES = 10
QUERIES = 1000


def make(folder: Path, size: int) -> None:
    """Lists of `size` images, and what they name."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    contents = []
    for _ in range(FILES):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pixels = pixels.repeat(4, axis=0).repeat(4, axis=1)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        contents.append(file.getvalue())
    folders = ["queries", *(f"d{index}" for index in range(-(-size // FILES)))]
    for name in folders:
        (folder / name).mkdir(parents=True)
        for index, content in enumerate(contents):
            with open(f"{folder}/{name}/{index:03}.png", "wb") as written:
                written.write(content)
    hot = [
        " ".join("1" if i == c else "0" for i in range(CLASSES)) for c in range(CLASSES)
    ]
    with (folder / "database.txt").open("w") as lines:
        for row in range(size):
            lines.write(f"d{row // FILES}/{row % FILES:03}.png {hot[row % CLASSES]}\n")
    with (folder / "test.txt").open("w") as lines:
        for row in range(QUERIES):
            lines.write(f"queries/{row:03}.png {hot[row % CLASSES]}\n")
    with (folder / "train.txt").open("w") as lines:
        for row in range(min(size, 5000)):
            lines.write(f"d{row // FILES}/{row % FILES:03}.png {hot[row % CLASSES]}\n")


def measure(folder: Path, steps: int) -> dict[str, float]:
    """List, split, open, step; in this process."""
    from ssah_jax.config import from_config_dict
    from ssah_jax.run.experiment import iterate, prepare

    config = from_config_dict(
        {
            "labels_per_class": 0,
            "batch": {"labelled": 16, "unlabelled": 16},
            "hnet": {"widths": (8, 16)},
            "anet": {"kind": "none"},
            "data": {
                "source": "list",
                "path": str(folder),
                "protocol": "listed",
                "num_queries": 0,
                "num_validation": 0,
                "image_size": 32,
            },
            "eval": {"every": 0},
        }
    )
    start, cpu = time.perf_counter(), time.process_time()
    experiment = prepare(config)
    listed, cpu = time.perf_counter(), time.process_time() - cpu
    lines = (folder / "database.txt").read_bytes().count(b"\n")
    assert len(experiment.split.database) == lines
    next(iterate(experiment))
    first = time.perf_counter()
    found = {
        "list_and_split": listed - start,
        "list_and_split_cpu": cpu,
        "first_batch": first - listed,
    }
    if steps:
        found |= measure_steps(experiment, steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {name: float(f"{value:.3g}") for name, value in found.items()}
    return found | {"peak_megabytes": round(peak / 1024)}


def measure_steps(experiment: "Experiment", steps: int) -> dict[str, float]:
    """The same steps with files from the disk and from memory, twice each."""
    import jax

    from ssah_jax.run import parallel, train_state
    from ssah_jax.run.experiment import iterate

    config = experiment.config
    state = parallel.place_state(train_state.init_state(experiment), config)
    step = parallel.train_step(config)
    collections: list[int] = []
    found: dict[str, list[float]] = {}
    files = files_of_steps(experiment, steps)
    gc.callbacks.append(lambda phase, _: collections.append(phase == "stop"))
    for kind in ("cold", "warm") * 2:
        if kind == "cold":
            forget(files)
        iterator = iterate(experiment)
        for number in range(steps):
            if number == steps // 2:
                collections.clear()
            before, blocks = time.perf_counter(), blocks_read()
            cpu = time.process_time()
            batch = parallel.place_batch(next(iterator), config)
            state, metrics = step(state, batch)
            jax.block_until_ready(metrics)
            took = {
                f"{kind}_step": time.perf_counter() - before,
                f"{kind}_step_cpu": time.process_time() - cpu,
                f"{kind}_step_kilobytes_read": (blocks_read() - blocks) / 2,
            }
            for name, value in took.items() if number >= steps // 2 else ():
                found.setdefault(name, []).append(value)
        found.setdefault(f"{kind}_garbage_collections", []).append(sum(collections))
        iterator.close()
    return {name: statistics.median(values) for name, values in found.items()}


def files_of_steps(experiment: "Experiment", steps: int) -> set[str]:
    """Paths of what so many steps read, and of what is read ahead of them."""
    from ssah_jax.run.experiment import iterate

    source, seen = experiment.source, set()
    images = source.images.watched(lambda index, content: seen.add(index))
    watched = dataclasses.replace(source, images=images)
    iterator = iterate(dataclasses.replace(experiment, source=watched))
    for _ in range(steps + 10):
        next(iterator)
    iterator.close()
    return {f"{experiment.data_path}/{source.names[index]}" for index in tuple(seen)}


def forget(files: set[str]) -> None:
    """Ask the operating system to keep none of these files in memory."""
    os.sync()
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def blocks_read() -> int:
    """Of 512 bytes, by this process from the disk."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock


def main() -> None:
    """Measure each size in a process of its own, and write the record."""
    parser = argparse.ArgumentParser()
    sizes = [10_000, 100_000, 1_000_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--sets", help="where sets are made, and left")
    parser.add_argument("--output", help="where the JSON goes")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder:
        print(json.dumps(measure(Path(given.folder), given.steps)))
        return
    import records

    rows = {}
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(given.sets or name) / str(size)
            if not folder.exists():
                make(folder, size)
            done = subprocess.run(
                [
                    sys.executable,
                    __file__,
                    f"--folder={folder}",
                    f"--steps={given.steps}",
                ],
                env=os.environ,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            rows[str(size)] = json.loads(done.stdout.splitlines()[-1])
            print(size, rows[str(size)], file=sys.stderr)
    record = {"steps": given.steps, "classes": CLASSES, "seconds_by_images": rows}
    records.write("large_sets", record, given.output)


if __name__ == "__main__":
    main()
