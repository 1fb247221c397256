"""The histograms' program on one device, or on every device of a mesh.

A histogram of the database is the sum of its parts' histograms, of integers: rows may
lie on any devices of any processes, in any order, and the sum is the same.
"""

from collections.abc import Callable
from functools import cache, partial

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int32, Int64, UInt32

from ssah_jax.retrieval.bit_sliced import Lanes, count_lanes, lanes
from ssah_jax.retrieval.inputs import PackedSets

Count = Callable[
    [UInt32[np.ndarray, "Q W"], UInt32[np.ndarray, "Q V"]],
    Int32[Array, "Q kinds radii"],
]
"""From packed queries, codes and labels, to their histograms; does not wait."""

# A third faster with AVX-512, nothing to other processors.
_CPU_OPTIONS = {"xla_cpu_prefer_vector_width": 512}

# Counts are 32-bit integers with a sign.
_MOST_ITEMS = 2**31 - 1


def prepare(sets: PackedSets, *, mesh: Mesh | None, block: int, grades: int) -> Count:
    """Places the database on the devices.

    Args:
        sets: packed queries (of which only the kind is read) and database.
        mesh: one axis of devices; None for one device.
        block: most database items handled at once on a device, >= 1.
        grades: as in `bit_sliced.count_lanes`.

    Returns:
        The program, with its database bound.

    Raises:
        ValueError: the mesh has not one axis, or the database, over all processes,
            has 2**31 items or more.
    """
    options = sets.bits, sets.by_number, grades
    code, label = sets.database_code, sets.database_label
    if mesh is None:
        _check_items(len(code))
        database = jax.device_put(lanes(code, label, block=block))
        apart = np.array(True) if jax.default_backend() == "cpu" else None
        count = _program(None, *options)
        return lambda *query: count(*query, database, apart)
    if len(mesh.axis_names) != 1:
        raise ValueError(
            f"mesh: found the axes {mesh.axis_names}; accepted is one axis"
        )
    axis = mesh.axis_names[0]
    local = sum(d.process_index == jax.process_index() for d in mesh.devices.flat)
    sizes = over_processes(len(code))
    _check_items(int(sizes.sum()))
    # Every process lays out as many blocks of the same shape as the fullest one.
    parts = lanes(code, label, block=block, shards=local, rows=int(sizes.max()))
    split, whole = NamedSharding(mesh, P(axis)), NamedSharding(mesh, P())
    database = jax.tree.map(
        lambda part: jax.make_array_from_process_local_data(split, part), parts
    )
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    apart = np.array(True) if on_cpu else None

    def everywhere(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(whole, array, array.shape)

    count = _program(mesh, *options)
    flag = None if apart is None else everywhere(apart)
    return lambda code, label: count(
        everywhere(code), everywhere(label), database, flag
    )


def database_mesh() -> Mesh:
    """All devices of all processes on one axis, "database"."""
    return Mesh(np.array(jax.devices()), ("database",))


def over_processes(number: int) -> Int64[np.ndarray, "processes"]:
    """Each process's number, in the order of processes.

    Args:
        number: this process's.

    Returns:
        `[processes]`, the same everywhere.
    """
    if jax.process_count() == 1:
        return np.array([number], np.int64)
    # 64-bit integers would be cut to 32 on the way.
    gathered = multihost_utils.process_allgather(np.array(divmod(number, 1 << 30)))
    high, low = np.asarray(gathered, np.int64).reshape(-1, 2).T
    return (high << 30) + low


@cache
def _program(
    mesh: Mesh | None, bits: int, by_number: bool, grades: int
) -> Callable[..., jax.Array]:
    """`count_lanes`, compiled; on a mesh, of each share, summed over its devices."""
    count = partial(count_lanes, bits=bits, by_number=by_number, grades=grades)
    options = _CPU_OPTIONS if jax.default_backend() == "cpu" else None
    if mesh is None:
        return jax.jit(count, compiler_options=options)
    axis = mesh.axis_names[0]

    def total(
        code: jax.Array, label: jax.Array, database: Lanes, apart: jax.Array | None
    ) -> jax.Array:
        return lax.psum(count(code, label, database, apart), axis)

    split = jax.shard_map(
        total, mesh=mesh, in_specs=(P(), P(), P(axis), P()), out_specs=P()
    )
    return jax.jit(split, compiler_options=options)


def _check_items(items: int) -> None:
    """Refuses what 32-bit counts cannot hold."""
    if items > _MOST_ITEMS:
        raise ValueError(
            f"database_codes: found {items} items; accepted are at most {_MOST_ITEMS}"
        )
