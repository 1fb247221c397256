"""Depthwise convolution on CPU, forward and gradient: shifted maps beside XLA's own.

    python benchmarks/depthwise.py

Maps of EfficientNet-Lite0 at 224 pixels, 4 images, on one core; rounds alternate.
"""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import records

from ssah_jax.networks.layers import depthwise_conv

# Side of the map, channels, side of the kernel, stride.
_LAYERS = (
    (112, 32, 3, 1),
    (112, 96, 3, 2),
    (56, 144, 3, 1),
    (28, 240, 5, 1),
    (14, 480, 3, 1),
    (14, 672, 5, 1),
    (7, 1152, 5, 1),
)
_FORMS = {"xla": jax.lax.conv_general_dilated, "shifted": depthwise_conv}
_ROUNDS = 7


def _convolve(
    form: Callable[..., jax.Array], x: jax.Array, kernel: jax.Array, stride: int
) -> jax.Array:
    return form(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def main() -> None:
    """Time both on each layer and write the record."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = []
    for side, channels, kernel_side, stride in _LAYERS:
        keys = jax.random.split(jax.random.key(0))
        x = jax.random.normal(keys[0], (4, side, side, channels))
        kernel = jax.random.normal(keys[1], (kernel_side, kernel_side, 1, channels))
        calls = {}
        for name, form in _FORMS.items():
            forward = partial(_convolve, form, stride=stride)
            calls[name, "forward"] = jax.jit(forward)
            calls[name, "gradient"] = jax.jit(
                jax.grad(lambda x, k, f=forward: (f(x, k) ** 2).sum(), (0, 1))
            )
        took: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
        for call in calls.values():
            jax.block_until_ready(call(x, kernel))
        for _ in range(_ROUNDS):
            for key, call in calls.items():
                start = time.perf_counter()
                jax.block_until_ready(call(x, kernel))
                took[key].append(1e3 * (time.perf_counter() - start))
        row = {"side": side, "channels": channels, "kernel": kernel_side}
        row |= {"stride": stride}
        for mode in ("forward", "gradient"):
            own, mine = (statistics.median(took[n, mode]) for n in ("xla", "shifted"))
            row |= {
                f"{mode}_xla_ms": round(own, 2),
                f"{mode}_shifted_ms": round(mine, 2),
                f"{mode}_xla_over_shifted": round(own / mine, 1),
            }
        rows.append(row)
    records.write("depthwise", {"images": 4, "layers": rows})


if __name__ == "__main__":
    main()
