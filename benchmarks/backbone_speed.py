"""Images a second of every backbone with pretrained weights, beside PyTorch's.

    python benchmarks/backbone_speed.py
    python benchmarks/backbone_speed.py --device gpu --batch 64 --peak-tflops 495 989
    python benchmarks/backbone_speed.py --table

The first two write benchmarks/results/backbone_speed.json, the last prints it as a
table. Peers are torchvision's networks, and timm's of EfficientNet-Lite0 and DINOv2's
ViT-S/14; one that cannot be imported is left out, and the record says why.

Both sides are the same network, with the linear layer of ImageNet's 1,000 classes, the
same weights (carried over by `ssah_jax.networks.weight_tables`) and the same images;
their logits must agree in float32, or the script stops. Position embeddings are made
for the images' size on both sides, and dropout is left out. "forward" computes logits
in evaluation, "training" the gradient of the cross-entropy for all parameters and moves
the running statistics. JAX is compiled, which is timed apart (on a GPU all programs at
once), PyTorch eager, in the faster of its two layouts for images; with --compile its
compiled programs follow, each in rounds with JAX's. bfloat16 is the backbones' option
`dtype` and PyTorch's autocast, the latter on a GPU only. A GPU multiplies float32 in
TF32 on both sides.

One process; rounds that alternate, and their median; what takes below 50 ms is repeated
within its round. On a CPU: one core and one thread for both (the process binds itself
to one core). Operations are those of convolutions and matrix products in the traced
program (flops.py); utilisation is their rate over the peak that --peak-tflops gives.
The record is written after every row.
"""

import argparse
import importlib
import importlib.metadata
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Before NumPy, PyTorch and JAX start.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import numpy as np
from torch_backbones import (
    CLASSES,
    MODES,
    PEERS,
    Call,
    Key,
    seconds,
    torch_calls,
    torch_model,
)

RESULTS = Path(__file__).parent / "results" / "backbone_speed.json"
DTYPES = ("float32", "bfloat16")
# Of logits and losses in float32, beside their size; a GPU's TF32 has ten bits.
TOLERANCE = {"cpu": 1e-3, "gpu": 3e-2}


def jax_calls(
    name: str,
    tensors: dict[str, np.ndarray] | None,
    images: np.ndarray,
    labels: np.ndarray,
    wanted: Sequence[str],
    threads: int = 1,
    meanwhile: Sequence[Call] = (),
) -> tuple[dict[Key, Call], dict[Key, dict[str, float]]]:
    """Calls by data type and mode, and of each what compiling took and operations.

    XLA compiles without Python's lock, in so many threads; `meanwhile` calls, which
    compile as well, are made until it has ended.
    """
    import flax.linen as nn
    import flops
    import jax
    import jax.numpy as jnp
    import optax

    from ssah_jax.networks.backbones import SPECS, Classifier
    from ssah_jax.networks.weight_tables import convert

    spec = SPECS[name]
    # Position embeddings of the images' own size, as the peers have them.
    options = {"grid": images.shape[1] // spec.multiple} if spec.multiple > 1 else {}
    x, y = jax.device_put(images), jax.device_put(labels)
    calls: dict[Key, Call] = {}
    about: dict[Key, dict[str, float]] = {}

    def functions(network: nn.Module) -> dict[str, Callable[..., Any]]:
        def forward(variables: Any, x: jax.Array, y: jax.Array) -> jax.Array:
            return network.apply(variables, x)

        def training(variables: Any, x: jax.Array, y: jax.Array) -> Any:
            def loss(params: Any) -> tuple[jax.Array, Any]:
                logits, moved = network.apply(
                    variables | {"params": params},
                    x,
                    train=True,
                    mutable=["batch_stats"],
                )
                values = optax.softmax_cross_entropy_with_integer_labels(logits, y)
                return values.mean(), moved

            return jax.value_and_grad(loss, has_aux=True)(variables["params"])

        return {"forward": forward, "training": training}

    def network(dtype: str) -> nn.Module:
        return Classifier(spec.network(dtype=dtype, **options), CLASSES)

    if tensors is None:
        variables = jax.jit(network("float32").init)(jax.random.key(0), x[:1])
    else:
        variables = convert(name, tensors, network=network("float32"))
    variables = jax.device_put(variables)
    traced = {
        (dtype, mode): jax.jit(function).trace(variables, x, y)
        for dtype in wanted
        for mode, function in functions(network(dtype)).items()
    }

    def compile_(lowered: Any) -> tuple[Any, float]:
        start = time.perf_counter()
        return lowered.compile(), time.perf_counter() - start

    with ThreadPoolExecutor(threads) as pool:
        compiling = {key: pool.submit(compile_, t.lower()) for key, t in traced.items()}
        for other in meanwhile:
            if all(future.done() for future in compiling.values()):
                break
            other(1)
    for key, future in compiling.items():
        compiled, took = future.result()

        def call(times: int, compiled: Any = compiled) -> Any:
            for _ in range(times):
                found = compiled(variables, x, y)
            jax.block_until_ready(found)
            first = found[0][0] if isinstance(found, tuple) else found
            return np.asarray(first.astype(jnp.float32))

        operations = flops.by_hand(traced[key].jaxpr.jaxpr) / len(images)
        calls[key] = call
        about[key] = {
            "jax_compile_seconds": round(took, 2),
            "gflop_an_image": float(f"{operations / 1e9:.4g}"),
        }
    return calls, about


def rates(calls: Sequence[Call], given: argparse.Namespace) -> list[list[float]]:
    """Images a second of each, by rounds that alternate."""
    for call in calls:
        call(1)
    times = [max(1, math.ceil(0.05 / seconds(call))) for call in calls]
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(given.rounds):
        for values, call, number in zip(found, calls, times, strict=True):
            values.append(given.batch / seconds(call, number))
    return found


def compare(name: str, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of the record, one for each data type and mode; with PyTorch's compiled
    program a second time.
    """
    rng = np.random.default_rng(0)
    shape = (given.batch, given.size, given.size, 3)
    images = rng.normal(size=shape).astype(np.float32)
    labels = rng.integers(0, CLASSES, given.batch)
    tensors, layout, missing = None, None, ""
    theirs: dict[Key, Call] = {}
    try:
        model = torch_model(name, given.size)
    except ImportError as error:
        missing = str(error)
    else:
        tensors = {k: x.numpy().copy() for k, x in model.state_dict().items()}
        theirs, layout, answers = torch_calls(
            model, images, labels, given.device, given.dtypes, given.compile
        )
        del model
    # Compiling is timed: on a CPU nothing else goes on at the time.
    alone = given.device == "cpu"
    to_compile = [call for (_, mode), call in theirs.items() if mode not in MODES]
    ours, about = jax_calls(
        name,
        tensors,
        images,
        labels,
        given.dtypes,
        threads=1 if alone else 4,
        meanwhile=() if alone else to_compile,
    )
    exact = "float32" in given.dtypes and not missing
    for mode in MODES if exact else ():
        mine, other = ours["float32", mode](1), answers["float32", mode]
        error = np.linalg.norm(mine - other) / np.linalg.norm(other)
        if not error < TOLERANCE[given.device]:
            raise SystemExit(f"backbone_speed: {name}, {mode}: differs by {error:.2g}")
    rows: dict[Key, dict[str, Any]] = {}
    for key, found in about.items():
        dtype, mode = key
        row: dict[str, Any] = {"backbone": name, "dtype": dtype, "mode": mode}
        rows[key] = row
        calls = {"jax": ours.get(key), "torch": theirs.get(key)}
        present = {framework: call for framework, call in calls.items() if call}
        measured = dict(zip(present, rates(list(present.values()), given), strict=True))
        for framework in calls:
            values = measured.get(framework)
            row[f"{framework}_images_per_second"] = (
                float(f"{statistics.median(values):.4g}") if values else None
            )
            row[f"{framework}_range"] = (
                [float(f"{f(values):.4g}") for f in (min, max)] if values else None
            )
        mine, other = row["jax_images_per_second"], row["torch_images_per_second"]
        row["jax_over_torch"] = round(mine / other, 2) if other else None
        row |= {"torch_layout": layout if other else None, **found}
        if missing:
            row["torch_missing"] = missing
        if given.peak_tflops:
            peak = given.peak_tflops[DTYPES.index(dtype)]
            for framework, rate in (("jax", mine), ("torch", other)):
                row[f"{framework}_utilisation"] = (
                    round(rate * found["gflop_an_image"] / 1e3 / peak, 4)
                    if rate
                    else None
                )
        yield row
    for (dtype, mode), row in rows.items():
        if call := theirs.get((dtype, f"{mode}, compiled")):
            mine, rate = map(statistics.median, rates([ours[dtype, mode], call], given))
            row["torch_compiled_images_per_second"] = float(f"{rate:.4g}")
            row["jax_over_torch_compiled"] = round(mine / rate, 2)
            yield row


def table(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    peak = record["peak_tflops"] is not None
    heads = ["backbone", "dtype", "mode", "images/s, JAX", "images/s, PyTorch"]
    heads += ["JAX / PyTorch", "compile s, JAX"]
    heads += ["utilisation, JAX", "utilisation, PyTorch"] if peak else []
    lines = [heads, ["---"] * len(heads)]

    def number(x: float | None) -> str:
        return "-" if x is None else f"{x:,.3g}" if x < 1e3 else f"{x:,.0f}"

    def share(x: float | None) -> str:
        return "-" if x is None else f"{x:.1%}"

    for row in record["rows"]:
        ratio = row["jax_over_torch"]
        cells = [
            f"`{row['backbone']}`",
            row["dtype"],
            row["mode"],
            number(row["jax_images_per_second"]),
            number(row["torch_images_per_second"]),
            "-" if ratio is None else f"{ratio:.2f}",
            number(row["jax_compile_seconds"]),
        ]
        if peak:
            cells += [share(row[f"{x}_utilisation"]) for x in ("jax", "torch")]
        lines.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main() -> None:
    """Measure and write the record, or print the table of one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument(
        "--size", type=int, default=224, help="side of the images, in pixels"
    )
    parser.add_argument("--batch", type=int, default=8, help="images at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument(
        "--compile", action="store_true", help="PyTorch compiled beside it, too"
    )
    parser.add_argument(
        "--peak-tflops",
        type=float,
        nargs=2,
        metavar=("FLOAT32", "BFLOAT16"),
        help="the device's peaks for dense matrix products (of TF32 for float32)",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the record's rows of backbones that --only leaves out",
    )
    parser.add_argument("--output", help="where the record goes, or is read from")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        text = Path(given.output or RESULTS).read_text()
        print(table(json.loads(text)))
        return
    if given.device == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import jax

    jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda"}[given.device])
    packages = {}
    for package in ("torch", "torchvision", "timm"):
        try:
            importlib.import_module(package)
        except ImportError:
            packages[package] = None
        else:
            packages[package] = importlib.metadata.version(package)
    if packages["torch"]:
        import torch

        if given.device == "cpu":
            torch.set_num_threads(1)
        elif not torch.cuda.is_available():
            raise SystemExit("backbone_speed: --device gpu: PyTorch finds none")
    import records

    rows: dict[tuple[str, Key], dict[str, Any]] = {}
    kept = []
    if given.keep:
        before = json.loads(Path(given.output or RESULTS).read_text())["rows"]
        kept = [row for row in before if row["backbone"] not in given.only]

    def write(quiet: bool) -> None:
        every = sorted(
            kept + list(rows.values()),
            key=lambda row: list(PEERS).index(row["backbone"]),
        )
        record = {
            "device": given.device,
            "threads": 1 if given.device == "cpu" else None,
            "batch": given.batch,
            "size": given.size,
            "rounds": given.rounds,
            "peak_tflops": given.peak_tflops,
            "peers": packages,
            "rows": every,
        }
        records.write("backbone_speed", record, given.output, quiet=quiet)

    for name in given.only:
        for row in compare(name, given):
            print(json.dumps(row), file=sys.stderr)
            rows[name, (row["dtype"], row["mode"])] = row
            # What was measured is kept, should a time limit cut the rest off.
            write(quiet=True)
    write(quiet=False)


if __name__ == "__main__":
    main()
