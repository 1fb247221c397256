"""Binary codes: from real outputs to signs, and from signs to bytes.

Bit order of packed codes, here and in every file this package writes: bit `i` of a
code is bit `7 - i % 8` of byte `i // 8` (big-endian, NumPy's default), 1 for +1 and
0 for -1; the last byte is filled with zeros. Pad both sides of a search alike and
the filling never changes a Hamming distance.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int8, Shaped, UInt8

from ssah_jax.similarity import arguments, checks
from ssah_jax.similarity.sizes import Sizes


def _codes(name: str, found: Any, sizes: Sizes) -> jax.Array:
    """Codes `[..., K]`, looked at where their values are at hand."""
    if not isinstance(found, jax.core.Tracer):
        checks.bits_of(name, found, extent=None)
    return arguments.signed(name, found)


def _packed(name: str, found: Any, sizes: Sizes) -> jax.Array:
    array = arguments.rows(name, found, sizes)
    if array.dtype != jnp.uint8:
        raise ValueError(
            f"{name}: found {array.dtype}, accepted are bytes (uint8), as of pack"
        )
    return array


@arguments.takes(u=_codes)
def binarise(
    u: Shaped[Array | np.ndarray, "*B K"],
) -> Shaped[Array, "*B K"]:
    """The code of a real output: its sign, with 0 counted as positive.

    Differs from `sign`, which sends 0 to 0 and so makes half-integer distances.

    Args:
        u: real codes, `[*B, K]`, any real whose sign is the bit, or booleans; under
            `jit` a NaN becomes -1.

    Returns:
        `[*B, K]` in {-1, +1}, of the dtype of `u`; int8 of booleans.

    Raises:
        ValueError: unsigned numbers, which are 0 and 1 or packed; outside `jit` also
            NaN, 0 and 1, or many numbers and none below 0.
    """
    return jnp.where(u >= 0, 1, -1).astype(u.dtype)


@arguments.takes(codes=_codes)
def pack(codes: Shaped[Array | np.ndarray, "*B K"]) -> UInt8[Array, "*B bytes"]:
    """Eight bits to a byte, in the order the module's docstring fixes.

    Args:
        codes: real or binary codes, `[*B, K]`, any real, binarised at 0 (0 is +1), or
            booleans.

    Returns:
        `[*B, ceil(K / 8)]` bytes.

    Raises:
        ValueError: as `binarise`.
    """
    return jnp.packbits(codes >= 0, axis=-1, bitorder="big")


@arguments.takes(packed=_packed, bits=arguments.whole())
def unpack(
    packed: UInt8[Array | np.ndarray, "*B bytes"], *, bits: int
) -> Int8[Array, "*B K"]:
    """The inverse of `pack`.

    Args:
        packed: bytes, `[*B, ceil(K / 8)]`.
        bits: K, without the filling of the last byte.

    Returns:
        `[*B, K]` in {-1, +1}.

    Raises:
        ValueError: the rows have not the bytes that `bits` asks for.
    """
    found, wanted = packed.shape[-1], -(-bits // 8)
    if bits < 1 or found != wanted:
        raise ValueError(
            f"packed: found {found} bytes a row for bits={bits}, accepted are bits "
            "of at least 1 in ceil(bits / 8) bytes"
        )
    ones = jnp.unpackbits(packed, axis=-1, count=bits, bitorder="big")
    return 2 * ones.astype(jnp.int8) - 1
