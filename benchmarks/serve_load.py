"""`ssah serve` under load, on loopback, beside the bare encoder.

    python serve_load.py --workdir RUN --index FILE --images FOLDER

So many clients ask without a pause, each for another image, for a few seconds. Beside
it the encoder by itself, in this process, on the same images: in batches as large as
the server's, and one at a time.
"""

import argparse
import http.client
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import records

from ssah_jax.data.finding import find_images
from ssah_jax.data.images import decode
from ssah_jax.run.encoder import Encoder
from ssah_jax.run.serve.batching import SIZES, batch_encoder, warm_up

CLIENTS = (1, 4, 16, 32)
IMAGES = 512


def ask(port: int, contents: list[bytes], clients: int, seconds: float) -> dict:
    """What so many clients see."""
    times: list[float] = []
    failed: list[str] = []
    numbers, end = itertools.count(), time.perf_counter() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.perf_counter() < end:
            content = contents[next(numbers) % len(contents)]
            started = time.perf_counter()
            headers = {"content-type": "image/jpeg"}
            connection.request("POST", "/search?k=10", content, headers)
            answer = connection.getresponse()
            answer.read()
            times.append(time.perf_counter() - started)
            if answer.status != 200:
                failed.append(str(answer.status))

    started = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - started
    return {
        "clients": clients,
        "requests": len(times),
        "failed": len(failed),
        "requests_per_second": round(len(times) / wall, 1),
        "p50_ms": round(1000 * float(np.quantile(times, 0.5)), 1),
        "p99_ms": round(1000 * float(np.quantile(times, 0.99)), 1),
    }


def bare(workdir: str, contents: list[bytes], seconds: float) -> dict[str, float]:
    """Images a second of the encoder alone, decoding included."""
    encoder = Encoder.from_run(workdir)
    size, resize, channels = encoder.image_form
    encode = batch_encoder(encoder)
    warm_up(encoder)
    found = {}
    for batch in (1, SIZES[-1]):
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            some = [contents[(done + row) % len(contents)] for row in range(batch)]
            form = {"size": size, "resize": resize, "channels": channels}
            encode(np.stack([decode(c, name="image", **form) for c in some]))
            done += batch
        rate = done / (time.perf_counter() - started)
        found[f"images_per_second_batch_{batch}"] = round(rate, 1)
    return found


def main() -> None:
    """Measures and writes benchmarks/results/serve_load.json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--index", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--out", help="where the record goes")
    options = parser.parse_args()
    names = find_images(Path(options.images))
    chosen = names[:: max(1, len(names) // IMAGES)][:IMAGES]
    contents = [Path(options.images, name).read_bytes() for name in chosen]
    arguments = ["--workdir", options.workdir, "--index", options.index, "--port", "0"]
    server = subprocess.Popen(
        [sys.executable, "-m", "ssah_jax", "serve", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        port = int(line.partition("127.0.0.1:")[2].split()[0])
        record: dict[str, Any] = {
            "indexed": int(line.split()[0]),
            "seconds": options.seconds,
            # Of one minute: others on the machine cost both sides alike.
            "load_average": os.getloadavg()[0],
        }
        ask(port, contents, 4, 1)
        record["server"] = [
            ask(port, contents, clients, options.seconds) for clients in CLIENTS
        ]
    finally:
        server.terminate()
        server.wait(30)
    record["encoder"] = bare(options.workdir, contents, options.seconds)
    records.write("serve_load", record, options.out)


if __name__ == "__main__":
    main()
