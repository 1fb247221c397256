"""The only place that knows `jax.pmap`, and its jit twin.

The state is replicated by `in_axes=None`, batches are split on their first axis.
`jax.pmap` is in maintenance mode; the twin below, one global program over a sharded
batch, computes the same numbers and is the way out should `pmap` go.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssah_jax.config import Config
from ssah_jax.method import steps
from ssah_jax.types import ImagePool, Metrics, Params, TrainState

AXIS = "batch"
"""Name of the mapped axis."""

T = TypeVar("T")
TrainStep = Callable[[TrainState, Any], tuple[TrainState, Metrics]]
"""From a state and a sharded `Batch` or `BatchRows` to the next state, and metrics."""

EncodeStep = Callable[[Params, Params, Any], jax.Array]
"""From parameters, statistics and sharded images to codes `[D, B/D, K]`."""

ApplyStep = Callable[[Params, Any], jax.Array]
"""From parameters and sharded images to rows `[D, B/D, ...]`."""


def _mesh() -> Mesh:
    return Mesh(np.asarray(jax.local_devices()), (AXIS,))


def replicate(tree: T) -> T:
    """Put a pytree on every local device.

    Done once before the loop: a step whose input lies elsewhere is traced anew.
    """
    return jax.device_put(tree, NamedSharding(_mesh(), P()))


def shard(batch: T) -> T:
    """Split the first axis of each leaf over the local devices, `[B] -> [D, B/D]`."""
    number = jax.local_device_count()
    return jax.tree.map(lambda x: x.reshape(number, -1, *x.shape[1:]), batch)


def pmap_train_step(config: Config, pool: ImagePool | None = None) -> TrainStep:
    """The training step over all devices: takes a replicated state, a `shard`ed batch.

    The state is donated. Everything that leaves is equal on all devices, because
    `out_axes=None` would silently return the first device's value.

    Args:
        config: of the run.
        pool: replicated images that the batches, then `BatchRows`, are taken from.
    """
    step = partial(steps.train_step, config=config, axis_name=AXIS)
    if pool is None:
        return jax.pmap(
            step, AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=(0,)
        )
    pooled = jax.pmap(
        lambda state, rows, pool: step(state, steps.gather_batch(pool, rows)),
        AXIS,
        in_axes=(None, 0, None),
        out_axes=(None, None),
        donate_argnums=(0,),
    )
    return lambda state, rows: pooled(state, rows, pool)


def jit_train_step(config: Config) -> TrainStep:
    """The same step as one global program: takes a replicated state, a plain batch."""
    mesh = _mesh()
    everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))
    step = partial(steps.train_step, config=config, axis_name=None)
    return jax.jit(
        step,
        in_shardings=(everywhere, split),
        out_shardings=(everywhere, everywhere),
    )


def pmap_encode_step(config: Config) -> EncodeStep:
    """Encoding over local devices: `sharded [D, B/D, ...] -> codes [D, B/D, K]`."""
    step = partial(steps.encode_step, config=config)
    return jax.pmap(step, AXIS, in_axes=(None, None, 0), out_axes=0)


def pmap_apply(function: Callable[[Params, Any], jax.Array]) -> ApplyStep:
    """A function of parameters and images over local devices.

    Args:
        function: from parameters, the same everywhere, and images `[B/D, ...]`.

    Returns:
        From replicated parameters and sharded images `[D, B/D, ...]` to what the
        function returns, `[D, B/D, ...]`.
    """
    return jax.pmap(function, AXIS, in_axes=(None, 0), out_axes=0)
