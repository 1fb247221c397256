"""2x2 max pooling, forward and gradient: pairwise maxima beside two alternatives.

python benchmarks/pooling.py
"""

import statistics
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import records

from ssah_jax.networks.layers import max_pool2

_SHAPES = ((192, 28, 28, 32), (192, 14, 14, 64))
_ROUNDS = 20


def _reshaped(x: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return x.max((2, 4))


def _reduce_window(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (2, 2), strides=(2, 2))


def main() -> None:
    """Time each form on each shape and write the record."""
    forms: dict[str, Callable[[jax.Array], jax.Array]] = {
        "pairwise maxima": max_pool2,
        "reshape and max": _reshaped,
        "reduce_window": _reduce_window,
    }
    found = {}
    for shape in _SHAPES:
        x = jax.random.normal(jax.random.key(0), shape)
        weight = jax.random.normal(
            jax.random.key(1), (shape[0], shape[1] // 2, shape[2] // 2, shape[3])
        )
        run = {
            name: jax.jit(jax.grad(lambda x, w, f=form: (f(x) * w).sum()))
            for name, form in forms.items()
        }
        seconds: dict[str, list[float]] = {name: [] for name in run}
        for name in run:
            jax.block_until_ready(run[name](x, weight))
        for _ in range(_ROUNDS):
            for name in run:
                start = time.perf_counter()
                jax.block_until_ready(run[name](x, weight))
                seconds[name].append(time.perf_counter() - start)
        found["x".join(map(str, shape))] = {
            name: 1e3 * statistics.median(values) for name, values in seconds.items()
        }
    records.write("pooling", {"median_milliseconds": found})


if __name__ == "__main__":
    main()
