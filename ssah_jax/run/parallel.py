"""The only place that knows `jax.pmap`, and its jit twin.

The state is replicated by `in_axes=None`, batches are split on their first axis.
`jax.pmap` is in maintenance mode; the twin below, one global program over all devices,
computes the same numbers and is the way out should `pmap` go.

Of several processes each holds its share of the batch and, under `pmap`, its own
replica of the state; the step spans the devices of all of them. Encoding is each
process's own affair.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssah_jax.config import Config
from ssah_jax.method import steps
from ssah_jax.run import processes
from ssah_jax.types import HashOutputs, ImagePool, Metrics, Params, TrainState

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


def _everywhere() -> NamedSharding:
    """Replicated over the devices of all processes."""
    return NamedSharding(Mesh(np.asarray(jax.devices()), (AXIS,)), P())


def replicate(tree: T) -> T:
    """Put a pytree on every local device.

    Done once before the loop: a step whose input lies elsewhere is traced anew.
    """
    return jax.device_put(tree, NamedSharding(_mesh(), P()))


def globally(tree: T) -> T:
    """A replicated pytree as one of all processes, as checkpoints know it.

    Shares the buffers; of a single process the tree itself. The processes' values
    must be equal.
    """
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(partial(_rewrap, sharding=_everywhere()), tree)


def locally(tree: T) -> T:
    """The inverse of `globally`: a pytree on the local devices alone."""
    if jax.process_count() == 1:
        return tree
    sharding = NamedSharding(_mesh(), P())
    return jax.tree.map(partial(_rewrap, sharding=sharding), tree)


def _rewrap(leaf: jax.Array, *, sharding: NamedSharding) -> jax.Array:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        words = _rewrap(jax.random.key_data(leaf), sharding=sharding)
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
    pieces = [piece.data for piece in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, pieces)


class AnyProcess:
    """Whether any process raised a flag, told to all at the same step.

    The answer is a step late, so that nothing waits for the devices. A single process
    has its own answer at once.
    """

    def __init__(self) -> None:
        """Starts with no flag raised."""
        self._pending: jax.Array | None = None
        self._reduce = jax.pmap(
            lambda flag: jax.lax.pmax(flag, AXIS), AXIS, in_axes=0, out_axes=None
        )

    def __call__(self, flag: bool) -> bool:
        """Takes this step's flag, returns whether any was raised the step before."""
        if jax.process_count() == 1:
            return flag
        before = self._pending
        self._pending = self._reduce(np.full(jax.local_device_count(), flag, np.int32))
        return before is not None and bool(before)


def shard(batch: T) -> T:
    """Split the first axis of each leaf over the local devices, `[B] -> [D, B/D]`."""
    number = jax.local_device_count()
    return jax.tree.map(
        # Not -1: of no rows there are no rows for each device.
        lambda x: x.reshape(number, len(x) // number, *x.shape[1:]),
        batch,
    )


def train_step(config: Config, pool: ImagePool | None = None) -> TrainStep:
    """The training step over all devices, in the form that the configuration asks for.

    Takes what `place_state` and `place_batch` give; the state is donated.

    Args:
        config: of the run.
        pool: placed images that the batches, then `BatchRows`, are taken from.
    """
    make = jit_train_step if config.parallel == "jit" else pmap_train_step
    return make(config, pool)


def _together(program: Any) -> Callable[..., Any]:
    """A program that is compiled apart, and first called when all processes are there.

    One that compiles for longer is waited for: collectives of CPUs give up after 30
    seconds.
    """
    if jax.process_count() == 1:
        return program
    compiled = False

    def call(*arguments: Any) -> Any:
        nonlocal compiled
        if not compiled:
            program.lower(*arguments).compile()
            processes.gather("compiled")
            compiled = True
        return program(*arguments)

    return call


def place_state(tree: T, config: Config) -> T:
    """A state, or images for a pool, where `train_step` wants them.

    Done once before the loop: a step whose input lies elsewhere is traced anew.
    """
    local = replicate(tree)
    return globally(local) if config.parallel == "jit" else local


def place_batch(batch: T, config: Config) -> T:
    """This process's share of a batch as `train_step` takes it."""
    if config.parallel == "pmap":
        return shard(batch)
    rows = NamedSharding(_everywhere().mesh, P(AXIS))
    place = partial(jax.make_array_from_process_local_data, rows)
    return jax.tree.map(place, batch)


def pmap_train_step(config: Config, pool: ImagePool | None = None) -> TrainStep:
    """The training step over all devices: takes a replicated state, a `shard`ed batch.

    The state is donated. Everything that leaves is equal on all devices, because
    `out_axes=None` would silently return the first device's value.

    Args:
        config: of the run.
        pool: replicated images that the batches, then `BatchRows`, are taken from.
    """
    program = _pmap_program(steps.train_step, config, pool is not None)
    return _of_pool(_together(program), pool)


@lru_cache(maxsize=2)
def _pmap_program(
    train_step: Callable[..., Any], config: Config, pooled: bool
) -> Callable[..., Any]:
    """Kept, so that the same run continued or repeated is not traced again."""
    return jax.pmap(
        _each_device(train_step, config, pooled),
        AXIS,
        in_axes=(None, 0, None) if pooled else (None, 0),
        out_axes=(None, None),
        donate_argnums=(0,),
    )


def jit_train_step(config: Config, pool: ImagePool | None = None) -> TrainStep:
    """The same step as one global program over the devices of all processes.

    Takes a state on all of them and a batch split over them. The state is donated.
    Written for one device and its share, like the mapped step: left to split a step
    of the whole batch, XLA would send images where it joins labelled and unlabelled.

    Args:
        config: of the run.
        pool: images on all devices that the batches, then `BatchRows`, are taken from.
    """
    program = _jit_program(steps.train_step, config, pool is not None)
    return _of_pool(_together(program), pool)


@lru_cache(maxsize=2)
def _jit_program(
    train_step: Callable[..., Any], config: Config, pooled: bool
) -> Callable[..., Any]:
    everywhere = _everywhere()
    split = NamedSharding(everywhere.mesh, P(AXIS))
    return jax.jit(
        jax.shard_map(
            _each_device(train_step, config, pooled),
            mesh=everywhere.mesh,
            in_specs=(P(), P(AXIS), P()) if pooled else (P(), P(AXIS)),
            out_specs=P(),
            # What leaves is equal on all devices, which is not for JAX to prove.
            check_vma=False,
        ),
        in_shardings=(everywhere, split, everywhere) if pooled else (everywhere, split),
        out_shardings=everywhere,
        donate_argnums=(0,),
    )


def _each_device(
    train_step: Callable[..., Any], config: Config, pooled: bool
) -> Callable[..., Any]:
    """The step of one device; takes a pool as well, if batches are of its rows."""
    step = partial(train_step, config=config, axis_name=AXIS)
    if not pooled:
        return step
    return lambda state, rows, pool: step(state, steps.gather_batch(pool, rows))


def _of_pool(program: Callable[..., Any], pool: ImagePool | None) -> TrainStep:
    if pool is None:
        return program
    return lambda state, rows: program(state, rows, pool)


def pmap_encode_step(config: Config) -> EncodeStep:
    """Encoding over local devices: `sharded [D, B/D, ...] -> codes [D, B/D, K]`."""
    return _encoding(steps.encode_step, config)


def pmap_describe_step(config: Config) -> Callable[[Params, Params, Any], HashOutputs]:
    """As `pmap_encode_step`, codes and features `[D, B/D, ...]`."""
    return _encoding(steps.describe_step, config)


@lru_cache(maxsize=4)
def _encoding(step: Callable[..., Any], config: Config) -> Callable[..., Any]:
    return _local_pmap(partial(step, config=config), in_axes=(None, None, 0))


def pmap_apply(function: Callable[[Params, Any], jax.Array]) -> ApplyStep:
    """A function of parameters and images over local devices.

    Args:
        function: from parameters, the same everywhere, and images `[B/D, ...]`.

    Returns:
        From replicated parameters and sharded images `[D, B/D, ...]` to what the
        function returns, `[D, B/D, ...]`.
    """
    return _local_pmap(function, in_axes=(None, 0))


def _local_pmap(function: Callable[..., Any], in_axes: Any) -> Callable[..., Any]:
    """Over this process's devices: processes need not call it equally often."""
    devices = None if jax.process_count() == 1 else jax.local_devices()
    return jax.pmap(function, AXIS, in_axes=in_axes, out_axes=0, devices=devices)
