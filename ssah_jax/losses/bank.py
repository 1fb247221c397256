"""A memory bank: codes of earlier batches, to compare a batch with.

It is a pytree of arrays that the caller carries, like an optimiser's state: through
`jit`, `pmap` and `scan`, donated, into a checkpoint. docs/losses.md has an example.
"""

from typing import NamedTuple, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssah_jax.similarity import arguments


# JAX rebuilds a pytree around whatever a transformation puts at its leaves.
@no_type_check
class CodeBank(NamedTuple):
    """Codes and labels of earlier images, and which rows hold one.

    Rows that hold none are zero, and `valid` must keep them out of every loss: zero
    labels are similar to nothing, so DeepHash-pytorch counts them as dissimilar.

    Attributes:
        codes: `[N, K]` float32; constants of the gradient.
        labels: multi-hot `[N, C]` in {0, 1}.
        valid: rows that hold a code, `[N]`.
        cursor: the row that a ring writes next, in [0, N); int32.
    """

    codes: Float[Array, "N K"]
    labels: Float[Array, "N C"]
    valid: Bool[Array, "N"]
    cursor: Int[Array, ""]


_bank = arguments.record(
    CodeBank,
    codes=arguments.codes("N K"),
    labels=arguments.real("N C"),
    valid=arguments.flags("N"),
    cursor=arguments.step,
)


@arguments.takes(
    size=arguments.whole(1), bits=arguments.whole(1), num_classes=arguments.whole(1)
)
def init_bank(*, size: int, bits: int, num_classes: int) -> CodeBank:
    """An empty bank.

    Args:
        size: N, at least 1; with `rows` of `update_bank` the number of images.
        bits: K.
        num_classes: C.
    """
    return CodeBank(
        codes=jnp.zeros((size, bits), jnp.float32),
        labels=jnp.zeros((size, num_classes), jnp.float32),
        valid=jnp.zeros(size, bool),
        cursor=jnp.zeros((), jnp.int32),
    )


@arguments.takes(
    bank=_bank,
    codes=arguments.codes("B K"),
    labels=arguments.labels("B C"),
    rows=arguments.places("B"),
    where=arguments.flags("B"),
)
def update_bank(
    bank: CodeBank,
    codes: Float[Array, "B K"],
    labels: Float[Array, "B C"],
    *,
    rows: Int[Array, "B"] | None = None,
    where: Bool[Array, "B"] | None = None,
) -> CodeBank:
    """The bank with a batch in it.

    Without `rows` a ring: the oldest codes are overwritten, and of a batch longer than
    the bank its last N stay. With `rows` a slot for each image, as in DeepHash-pytorch
    and in the authors' code for DPSH and DTSH; the cursor stays where it is. Where a
    row occurs twice in a batch, the later code stays, on any device.

    On several devices, write the codes of all (`all_rows`): every device then holds
    the same bank. Cost: O(B (K + C)) time and memory where the bank is donated.

    Args:
        bank: as of `init_bank`.
        codes: of the batch, `[B, K]`, any real; constants of the gradient.
        labels: of the batch, multi-hot `[B, C]` in {0, 1}.
        rows: where to write each, `[B]` in [0, N); others are not written.
        where: codes that are written, `[B]`; None writes all.
    """
    write = jnp.ones(len(codes), bool) if where is None else where
    target, cursor = _targets(bank, write, rows)
    codes = jax.lax.stop_gradient(codes.astype(jnp.float32))
    labels = jax.lax.stop_gradient(labels.astype(jnp.float32))
    return CodeBank(
        codes=bank.codes.at[target].set(codes, mode="drop"),
        labels=bank.labels.at[target].set(labels, mode="drop"),
        valid=bank.valid.at[target].set(True, mode="drop"),
        cursor=cursor,
    )


def _targets(
    bank: CodeBank, write: Bool[Array, "B"], rows: Int[Array, "B"] | None
) -> tuple[Int[Array, "B"], Int[Array, ""]]:
    """Where each code goes, and the next cursor.

    All rows in [0, N) are different, because a scatter to equal ones has no order on
    most devices; what is not written goes to row N, which there is not.
    """
    size = len(bank.valid)
    if rows is None:
        order = jnp.cumsum(write, dtype=jnp.int32)
        number = jnp.sum(write, dtype=jnp.int32)
        write = write & (order > number - size)
        rows = (bank.cursor + order - 1) % size
        return jnp.where(write, rows, size), (bank.cursor + number) % size
    rows = jnp.where(write & (rows >= 0) & (rows < size), rows, size)
    index = jnp.arange(len(rows), dtype=jnp.int32)
    # A maximum does not depend on the order.
    last = jnp.full(size + 1, -1, jnp.int32).at[rows].max(index)
    return jnp.where(last[rows] == index, rows, size), bank.cursor
