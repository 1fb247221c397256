"""From a folder of photographs to a page to search them with: each command timed.

    python benchmarks/from_nothing.py --images runs/cifar10-jpeg \\
      --weights PATH/efficientnet_lite0.pth --work runs/from-nothing
    python benchmarks/from_nothing.py --images runs/cifar10-jpeg --work runs/small \\
      --model small

Codes without labels, of a frozen backbone or of the encoder that comes with the
package: encode, index, serve, and searches over HTTP. Seconds are those of the clock,
and of the processor; on a machine with others' work only the second says what a command
takes.

What a step made stays in `--work`, and its row is in the record as soon as it ends: the
same command goes on with the step that was interrupted, from its beginning.
"""

import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import records
from absl import app, flags

_IMAGES = flags.DEFINE_string("images", None, "A folder.", required=True)
_WORK = flags.DEFINE_string("work", None, "What the commands write.", required=True)
_MODEL = flags.DEFINE_string("model", None, "An encoder, in the place of a backbone.")
_WEIGHTS = flags.DEFINE_string("weights", "default", "Of EfficientNet-Lite0.")
_SIDE = flags.DEFINE_integer("side", 64, "Of the images that the backbone sees.")
_OUT = flags.DEFINE_string("out", None, "The record; None for benchmarks/results.")

SSAH = (sys.executable, "-m", "ssah_jax")
WAIT = 60
"""Seconds that a server has to end in."""


class Record:
    """Rows of steps, on the disk after each."""

    def __init__(self, about: dict[str, Any]) -> None:
        """Goes on with a record of the same; its rows are `rows`."""
        name = Path(_OUT.value or records.RESULTS / "from_nothing.json")
        known = json.loads(name.read_text()) if name.is_file() else {}
        same = all(known.get(key) == value for key, value in about.items())
        self._about = about
        self.rows: list[dict[str, Any]] = known["steps"] if same and known else []

    def has(self, step: str) -> bool:
        """Whether a step has ended before."""
        return any(row["step"] == step for row in self.rows)

    @contextlib.contextmanager
    def timed(self, step: str, used: Callable[[], float]) -> Iterator[dict[str, Any]]:
        """Notes the seconds of what it encloses, of the processor by `used`."""
        row: dict[str, Any] = {"step": step, "load_average": os.getloadavg()[0]}
        wall, cpu = time.monotonic(), used()
        yield row
        row["wall_seconds"] = round(time.monotonic() - wall, 2)
        row["cpu_seconds"] = round(used() - cpu, 2)
        self.rows.append(row)
        self.write()

    def write(self) -> None:
        """What is known so far."""
        files = sorted(Path(_WORK.value).glob("*/*"))
        found = {
            "steps": self.rows,
            "bytes": {file.suffix[1:]: file.stat().st_size for file in files},
            "cores_used": len(os.sched_getaffinity(0)),
        }
        records.write("from_nothing", self._about | found, _OUT.value)


def children() -> float:
    """Processor seconds of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def of_process(process: subprocess.Popen[str] | None) -> float:
    """Processor seconds of a child process that runs; 0 before there is one."""
    if process is None:
        return 0.0
    # After the name, which may hold anything, come 11 other fields.
    _, _, fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main(_: list[str]) -> None:
    """Run the commands that have not ended yet."""
    work = Path(_WORK.value)
    codes, index = work / "encode/codes.parquet", work / "index/photos.index"
    encoder = ["--model", _MODEL.value]
    if not _MODEL.value:
        encoder = [
            *("--backbone", "efficientnet_lite0", "--weights", _WEIGHTS.value),
            *("--image-size", str(_SIDE.value), "--bits", "64", "--keep", "float16"),
        ]
    labels = ("--labels", "folders")
    commands = {
        "encode": ("encode", *encoder, *labels, _IMAGES.value, "--out", str(codes)),
        "index": ("index", str(codes), "--out", str(index)),
    }
    record = Record(
        {
            "what": "from a folder of images to a page to search them with",
            "data": "CIFAR-10 as JPEG files",
            "encoder": _MODEL.value or "efficientnet_lite0",
            "side": None if _MODEL.value else _SIDE.value,
        }
    )
    for name, arguments in commands.items():
        if record.has(name):
            continue
        # Half a step goes on faster than a whole one.
        shutil.rmtree(work / name, ignore_errors=True)
        (work / name).mkdir(parents=True)
        with record.timed(name, children) as row:
            done = subprocess.run(
                [*SSAH, *arguments], stdout=subprocess.PIPE, text=True
            )
            if done.returncode:
                raise SystemExit(f"{name}: exit status {done.returncode}")
            row["said"] = re.sub(r": /?\S+$", "", done.stdout.splitlines()[-1])
    record.rows = [row for row in record.rows if row["step"] in commands]
    serve(codes, index, next(Path(_IMAGES.value).rglob("*.jpg")), record)


def serve(codes: Path, index: Path, image: Path, record: Record) -> None:
    """The page until it answers, and searches: the first one compiles."""
    encoder = ("--model", _MODEL.value) if _MODEL.value else ("--like", str(codes))
    server: subprocess.Popen[str] | None = None

    def used() -> float:
        return of_process(server)

    with record.timed("serve, until it answers", used) as row:
        server = subprocess.Popen(
            [*SSAH, "serve", *encoder, "--index", str(index), "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        said = server.stdout.readline()
        address = re.search(r"http://[^\s,]+", said)
        if not address:
            server.kill()
            raise SystemExit(f"serve: found {said!r}, expected an address")
        row["said"] = re.sub(r"http://\S+", "http://...", said.strip())
    url = f"{address[0].rstrip('/')}/search?k=10"
    header = {"content-type": "image/jpeg"}
    try:
        for step in ("first search over HTTP", "second search over HTTP"):
            with record.timed(step, used) as row:
                request = urllib.request.Request(url, image.read_bytes(), header)
                with urllib.request.urlopen(request) as answer:
                    found = json.loads(answer.read())
                assert len(found["results"]) == 10, found
    finally:
        server.terminate()
        server.wait(WAIT)


if __name__ == "__main__":
    app.run(main)
