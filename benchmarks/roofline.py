"""Where a step's operations, bytes and seconds go, and what it says to other devices.

    python benchmarks/roofline.py --config configs/fashion_mnist.py
    python benchmarks/roofline.py --config configs/cifar10.py --peak-tflops 495 989

Writes benchmarks/results/roofline.json:

- `parts`: the step and its parts, each compiled alone on one device: operations and
  bytes as XLA counts them in what it compiled, operations of convolutions and matrix
  products counted by hand in the traced program (flops.py), and the median of timed
  rounds that alternate. Parts share work that the step does once, so that their sum is
  above the step.
- `rates_of`: the count that rates, utilisation and the prediction are of: XLA's on a
  CPU, elsewhere the one by hand, since XLA leaves out what a GPU's libraries compute.
- `ratio`: the step of SSAH over the supervised one, in operations and in seconds.
- `exchange`: what one step sends between eight devices, read off the collectives of
  the compiled program, for both forms of it; the largest are listed, and none may be
  of an image's shape.
- `predicted`: efficiency on 8 GPUs with NVLink and on 32 hosts of them, on paper: a
  ring of n devices moves 2 (n - 1) / n of the bytes through each link, each collective
  waits --latency, and nothing overlaps; the step of one device takes its operations at
  --share of the peak.

One process and one device; the exchange is compiled for eight simulated ones.
"""

import argparse
import dataclasses
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import flops
import jax
import jax.numpy as jnp
import numpy as np
import optax
import records

from ssah_jax.cli.config_option import read_config, split_fields
from ssah_jax.config import Config, from_json, to_json
from ssah_jax.losses.by_name import HASH_LOSSES
from ssah_jax.method import objectives, steps, views
from ssah_jax.method.optim import anet_optimiser, hnet_optimiser
from ssah_jax.run import parallel, train_state
from ssah_jax.run.experiment import iterate, prepare, spread_labels
from ssah_jax.types import Batch, ImagePool

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
H100 = (495.0, 989.0)
"""Dense TFLOP/s in TF32 and bfloat16."""

WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4}
WIDTHS |= {"u32": 4, "s64": 8, "u64": 8, "f64": 8}


def parts_of(config: Config, state: Any, batch: Batch) -> dict[str, Callable[[], Any]]:
    """The step's parts as functions of nothing but arrays, with their arguments."""
    seen = jax.jit(partial(views.make_views, config=config))(state.key, batch)
    adversary = config.anet.kind != "none"
    generate = partial(views.generate, config=config)
    made = jax.jit(generate)(state.anet, seen, state.pace) if adversary else None
    images = None if made is None else made.images
    size = config.batch.labelled + config.batch.unlabelled
    hash_ = partial(objectives.hash_images, config=config, axis_name=None)

    def h_net(params: Any, images: Any) -> Any:
        codes, _ = hash_(params, state.batch_stats, images, domain="clean")
        return jnp.sum(codes)

    def update(state: Any) -> Any:
        moved, kept = hnet_optimiser(config).update(
            state.hnet, state.hnet_opt, state.hnet
        )
        more = ()
        if adversary:
            more = anet_optimiser(config).update(state.anet, state.anet_opt, state.anet)
        hnet = optax.apply_updates(state.hnet, moved)
        teacher = optax.incremental_update(hnet, state.teacher, 0.01)
        return hnet, teacher, kept, more

    labelled = partial(objectives._compare, params=state.hnet, state=state)

    def losses(codes: Any) -> Any:
        compared = labelled(codes, label=batch.label, axis_name=None)
        method = HASH_LOSSES[config.loss.name].terms
        terms = method(compared, **config.loss.hash_options)
        return sum(jax.tree.leaves(terms), jnp.zeros(()))

    codes = jnp.tanh(jax.random.normal(state.key, (len(batch.label), config.bits)))
    raw = jnp.concatenate([seen.labelled, seen.unlabelled])
    found = {
        "H-Net, labelled images forward": (h_net, state.hnet, seen.labelled),
        "H-Net, labelled images forward and gradient": (
            jax.grad(h_net),
            state.hnet,
            seen.labelled,
        ),
        "weak augmentation": (
            partial(views.make_views, config=config),
            state.key,
            batch,
        ),
        "hash loss and gradient from codes": (jax.value_and_grad(losses), codes),
        "updates": (update, state),
    }
    if adversary:
        found |= {
            f"H-Net, all {size} images forward and gradient": (
                jax.grad(h_net),
                state.hnet,
                images,
            ),
            "A-Net forward": (
                partial(views.build_anet(config).apply),
                {"params": state.anet},
                raw,
            ),
            "A-Net and deformations": (generate, state.anet, seen, state.pace),
        }
    return found


def counted_by(platform: str) -> str:
    """The count to take rates, utilisation and the prediction from."""
    return "gflop_xla" if platform == "cpu" else "gflop_by_hand"


def measure(
    calls: dict[str, tuple[Any, ...]], rounds: int
) -> dict[str, dict[str, float]]:
    """Operations, bytes and median seconds of each."""
    found: dict[str, dict[str, float]] = {}
    compiled = {}
    traced = {name: jax.jit(call).trace(*rest) for name, (call, *rest) in calls.items()}
    # XLA compiles without Python's lock.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        compiling = {name: pool.submit(t.lower().compile) for name, t in traced.items()}
    programs = {name: future.result() for name, future in compiling.items()}
    for name, (_, *arguments) in calls.items():
        program = programs[name]
        cost = program.cost_analysis()
        by_hand = flops.by_hand(traced[name].jaxpr.jaxpr)
        compiled[name] = program, arguments
        found[name] = {
            "gflop_xla": float(f"{cost.get('flops', 0.0) / 1e9:.4g}"),
            "gflop_by_hand": float(f"{by_hand / 1e9:.4g}"),
            "megabytes_xla": float(f"{cost.get('bytes accessed', 0.0) / 1e6:.4g}"),
        }
        jax.block_until_ready(program(*arguments))
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, (program, arguments) in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            took[name].append(time.perf_counter() - start)
    for name, values in took.items():
        found[name]["seconds"] = float(f"{statistics.median(values):.4g}")
    return found


def exchange_of(text: str, image: tuple[int, ...]) -> dict[str, Any]:
    """Bytes of each kind of collective in a compiled program's text."""
    kinds = "|".join(COLLECTIVES)
    pattern = re.compile(rf"= (.+?) ({kinds})(?:-start)?\(")
    shape = re.compile(r"(\w+)\[([\d,]*)\]")
    found: dict[str, dict[str, float]] = {}
    largest: list[tuple[int, str]] = []
    for line in text.splitlines():
        if not (match := pattern.search(line)):
            continue
        entry = found.setdefault(match[2], {"count": 0, "bytes": 0})
        entry["count"] += 1
        for kind, numbers in shape.findall(match[1]):
            sides = tuple(int(n) for n in numbers.split(",") if n)
            if kind not in WIDTHS:
                continue
            size = math.prod(sides) * WIDTHS[kind]
            entry["bytes"] += size
            largest.append((size, f"{match[2]} {kind}{list(sides)}"))
            if sides[-len(image) :] == image:
                raise SystemExit(f"roofline: a step exchanges images: {line[:200]}")
    return {
        "kinds": found,
        "bytes": sum(each["bytes"] for each in found.values()),
        "count": sum(each["count"] for each in found.values()),
        "largest": [name for _, name in sorted(largest, reverse=True)[:5]],
    }


def exchange(config: Config) -> dict[str, Any]:
    """What one step exchanges between this process's devices, in both forms."""
    experiment = prepare(config)
    batch = next(iterate(experiment, spread=spread_labels(experiment)))
    state = train_state.init_state(experiment)
    found = {}
    for form in ("pmap", "jit"):
        asked = dataclasses.replace(config, parallel=form)
        placed = parallel.place_state(state, asked)
        rows = parallel.place_batch(batch, asked)
        program = parallel.train_step(asked).lower(placed, rows).compile()
        found[form] = exchange_of(program.as_text(), experiment.image_shape)
    return found | {
        "devices": jax.device_count(),
        "gradient_bytes": sum(
            leaf.nbytes for leaf in jax.tree.leaves((state.hnet, state.anet))
        ),
        "code_bytes": 4 * config.bits * config.batch.labelled,
        "image_bytes": int(batch.image.nbytes + batch.unlabelled.nbytes),
    }


def elsewhere(config: Config) -> dict[str, Any]:
    """`exchange` in a process that simulates eight devices."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    done = subprocess.run(
        [sys.executable, __file__, "--exchange"],
        input=to_json(config),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"roofline: {done.stderr.strip()[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def predict(
    gflop: float, said: dict[str, Any], given: argparse.Namespace
) -> dict[str, Any]:
    """Efficiency of many devices, each with this batch, with nothing overlapped."""
    peak = (given.peak_tflops or H100)[0]
    compute = gflop * 1e9 / (given.share * peak * 1e12)
    found: dict[str, Any] = {
        "assumed": {
            "tflops_float32": peak,
            "share_of_peak": given.share,
            "latency_seconds": given.latency,
            "bytes_a_second_inside_a_host": given.inside,
            "bytes_a_second_of_a_device_between_hosts": given.between,
        },
        "compute_seconds": float(f"{compute:.3g}"),
    }
    for name, devices, speed in (
        ("8 GPUs with NVLink", 8, given.inside),
        ("32 hosts of 8", 256, given.between),
    ):
        moved = 2 * (devices - 1) / devices * said["bytes"] / speed
        waited = said["count"] * given.latency
        found[name] = {
            "transfer_seconds": float(f"{moved:.3g}"),
            "latency_seconds": float(f"{waited:.3g}"),
            "efficiency": round(compute / (compute + moved + waited), 3),
        }
    return found


def main() -> None:
    """Measure, count, predict, write."""
    fields, rest = split_fields(sys.argv[1:])
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="configs/fashion_mnist.py")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", help="where the JSON goes")
    parser.add_argument(
        "--peak-tflops",
        type=float,
        nargs=2,
        metavar=("FLOAT32", "BFLOAT16"),
        help="of the device, for utilisation; a prediction without takes an H100's",
    )
    parser.add_argument("--share", type=float, default=0.3, help="of the peak")
    parser.add_argument("--latency", type=float, default=2e-5, help="of a collective")
    parser.add_argument("--inside", type=float, default=450e9, help="bytes a second")
    parser.add_argument("--between", type=float, default=50e9, help="bytes a second")
    parser.add_argument("--alone", action="store_true", help="leave out the exchange")
    parser.add_argument("--exchange", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(rest)
    if given.exchange:
        print(json.dumps(exchange(from_json(sys.stdin.read()))))
        return
    config = read_config(given.config, fields)
    experiment = prepare(config)
    iterator = iterate(experiment, spread=spread_labels(experiment))
    waits = []
    for _ in range(10):
        start = time.perf_counter()
        rows = next(iterator)
        waits.append(time.perf_counter() - start)
    batch = jax.tree.map(jnp.asarray, rows)
    if not isinstance(rows, Batch):
        arrays: Any = (experiment.source.images, experiment.source.labels, None)
        batch = steps.gather_batch(ImagePool(*map(jnp.asarray, arrays[:2])), rows)
    state = train_state.init_state(experiment)
    calls: dict[str, tuple[Any, ...]] = {
        "step, SSAH": (partial(steps.train_step, config=config), state, batch)
    }
    supervised = records.variants(config)["supervised"]
    calls["step, supervised"] = (
        partial(steps.train_step, config=supervised),
        train_state.init_state(dataclasses.replace(experiment, config=supervised)),
        batch,
    )
    calls |= parts_of(config, state, batch)
    parts = measure(calls, given.rounds)
    whole, baseline = parts["step, SSAH"], parts["step, supervised"]
    counted = counted_by(jax.default_backend())
    for part in parts.values():
        rate = part[counted] / max(part["seconds"], 1e-9)
        part["gflop_a_second"] = float(f"{rate:.4g}")
        if given.peak_tflops:
            part["utilisation"] = float(f"{rate / 1e3 / given.peak_tflops[0]:.3g}")
        part["share_of_step"] = round(part["seconds"] / whole["seconds"], 4)
    record: dict[str, Any] = {
        "device": jax.devices()[0].device_kind,
        "config": given.config,
        "fields": fields,
        "labelled": config.batch.labelled,
        "unlabelled": config.batch.unlabelled,
        "rounds": given.rounds,
        "peak_tflops": given.peak_tflops,
        "rates_of": counted,
        "parts": parts,
        "data_seconds": float(f"{np.median(waits):.4g}"),
        "ratio": {
            key: round(whole[key] / baseline[key], 3)
            for key in ("gflop_xla", "gflop_by_hand", "seconds")
        },
    }
    # What was measured is kept, should a time limit cut the rest off.
    records.write("roofline", record, given.output)
    if given.alone:
        return
    said = elsewhere(config)
    paper = {
        form: predict(whole[counted], said[form], given) for form in ("pmap", "jit")
    }
    record |= {"exchange": said, "predicted": paper}
    records.write("roofline", record, given.output)


if __name__ == "__main__":
    main()
