"""Reductions and collectives: the one way in which a loss becomes a number.

Inside a mapped step every device holds a share of the batch. The rule of this
package: a reduced loss is *this device's share of the global value*, so that the sum
over devices is the value, and the sum of the devices' gradients is its gradient. It
holds for pairs too, because the transpose of `all_gather` and of `psum` sums the
cotangents of all devices. Without a mapped axis (`axis_name=None`) a share is all.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from ssah_jax.similarity import arguments

T = TypeVar("T")


def all_sum(tree: T, axis_name: str | None) -> T:
    """Sum each leaf over the devices of `axis_name`; as it is without one."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


@arguments.takes(x=arguments.rows)
def all_rows(x: Num[Array, "B *rest"], axis_name: str | None) -> Num[Array, "M *rest"]:
    """Rows of all devices in device order, `[M, ...]`; differentiable.

    The gradient reaches the rows of every device: a loss over local rows x gathered
    columns, summed over devices, has the gradient of the loss over all pairs.
    """
    if axis_name is None:
        return x
    return jax.lax.all_gather(x, axis_name, tiled=True)


def first_row(batch: int, axis_name: str | None) -> Num[Array, ""]:
    """Global index of this device's first row, when each device holds `batch` rows."""
    if axis_name is None:
        return jnp.asarray(0)
    return jax.lax.axis_index(axis_name) * batch


def masked(
    values: Float[Array, "*shape"], where: Bool[Array, "*shape"] | None
) -> Float[Array, "*shape"]:
    """The values where the mask holds, 0 elsewhere; None takes all."""
    return values if where is None else jnp.where(where, values, 0.0)


@arguments.takes(values=arguments.real("..."), where=arguments.flags("..."))
def masked_mean(
    values: Float[Array, "*shape"],
    where: Bool[Array, "*shape"] | None = None,
    *,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Mean of the values where the mask holds; 0 on an empty mask.

    A value outside the mask has no influence, not even if it is infinite or NaN.

    Args:
        values: `[...]`.
        where: mask of the same shape; None takes all.
        axis_name: mapped axis; the result is then this device's share of the global
            mean, to be summed over devices.

    Returns:
        A scalar.
    """
    values = values.astype(jnp.float32)
    mask = jnp.ones(values.shape, bool) if where is None else where
    total = jnp.sum(jnp.where(mask, values, 0.0))
    count = all_sum(jnp.sum(mask, dtype=jnp.float32), axis_name)
    return total / jnp.maximum(count, 1.0)
