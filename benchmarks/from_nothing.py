"""From a folder of photographs to a page to search them with: each command timed.

    python benchmarks/from_nothing.py --images runs/cifar10-jpeg \\
      --weights PATH/efficientnet_lite0.pth

Codes of a frozen backbone, without labels: encode, index, serve, and one search over
HTTP. Seconds are those of the clock, and of the processor; on a machine with others'
work only the second says what a command takes.
"""

import contextlib
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import records
from absl import app, flags

_IMAGES = flags.DEFINE_string("images", None, "A folder.", required=True)
_WEIGHTS = flags.DEFINE_string("weights", "default", "Of EfficientNet-Lite0.")
_SIDE = flags.DEFINE_integer("side", 64, "Of the images that the backbone sees.")
_OUT = flags.DEFINE_string("out", None, "The record; None for benchmarks/results.")

SSAH = (sys.executable, "-m", "ssah_jax")


@contextlib.contextmanager
def timed(name: str, rows: list[dict]) -> Iterator[dict]:
    """Notes the seconds of what it encloses, and of its child processes."""
    row: dict = {"step": name}

    def children() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    wall, cpu = time.monotonic(), children()
    yield row
    row |= {"wall_seconds": time.monotonic() - wall, "cpu_seconds": children() - cpu}
    rows.append(row)


def main(_: list[str]) -> None:
    """Run the commands and write the record."""
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        codes, index = f"{folder}/codes.parquet", f"{folder}/photos.index"
        commands = {
            "encode": (
                *("encode", "--backbone", "efficientnet_lite0"),
                *("--weights", _WEIGHTS.value, "--image-size", str(_SIDE.value)),
                *("--bits", "64", "--keep", "float16", "--labels", "folders"),
                *(_IMAGES.value, "--out", codes),
            ),
            "index": ("index", codes, "--out", index),
        }
        for name, arguments in commands.items():
            with timed(name, rows) as row:
                done = subprocess.run(
                    [*SSAH, *arguments], capture_output=True, text=True, check=True
                )
            row["said"] = re.sub(r": /\S+$", "", done.stdout.splitlines()[-1])
        serve(codes, index, next(Path(_IMAGES.value).rglob("*.jpg")), rows)
        bytes_ = {Path(x).suffix[1:]: Path(x).stat().st_size for x in (codes, index)}
        bytes_["features"] = Path(codes).with_suffix(".features").stat().st_size
    records.write(
        "from_nothing",
        {
            "what": "from a folder of images to a page to search them with",
            "data": "CIFAR-10 as JPEG files",
            "backbone": "efficientnet_lite0",
            "side": _SIDE.value,
            "bits": 64,
            "steps": rows,
            "bytes": bytes_,
        },
        _OUT.value,
    )


def serve(codes: str, index: str, image: Path, rows: list[dict]) -> None:
    """The page until it answers, and a search."""
    with timed("serve, until it answers", rows):
        server = subprocess.Popen(
            [*SSAH, "serve", "--like", codes, "--index", index, "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        said = server.stdout.readline()
        address = re.search(r"http://\S+", said)
        assert address, said
    try:
        request = urllib.request.Request(
            f"{address[0]}/search?k=10",
            image.read_bytes(),
            {"content-type": "image/jpeg"},
        )
        with timed("one search over HTTP", rows), urllib.request.urlopen(request) as it:
            assert it.status == 200
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


if __name__ == "__main__":
    app.run(main)
