"""What values are looked at for, wherever they are at hand: NumPy code asks too."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Fewer real numbers may be of one sign by chance.
_MANY, _LONG = 64, 8
ROUNDING = 1e-3
"""What rounding may add to a number of a known range."""


def check_not_bits(name: str, values: np.ndarray) -> None:
    """Refuse codes of 0 and 1, whose signs say nothing.

    Args:
        name: of the argument.
        values: codes, any numbers.

    Raises:
        ValueError: both 0 and 1 are there, and nothing else.
    """
    if not values.size or values.min() != 0 or values.max() != 1:
        return
    if ((values == 0) | (values == 1)).all():
        raise ValueError(
            f"{name}: found 0 and 1, accepted are numbers whose sign is the bit, or "
            f"booleans; 2 * {name} - 1 or {name} > 0 makes them"
        )


def bits_of(name: str, found: Any, *, extent: int | None = 2) -> np.ndarray:
    """Codes from outside as booleans, once they are seen to be codes.

    Args:
        name: of the argument.
        found: booleans, or signed numbers whose sign is the bit (0 is +1).
        extent: axes that there must be; None for one or more.

    Returns:
        Booleans of the same shape, True for +1.

    Raises:
        ValueError: another shape, NaN, or numbers of which all signs are the same
            because something else was meant: 0 and 1, probabilities, packed bytes.
        ValueError: no numbers, or unsigned ones.
    """
    array = host_array(name, found)
    if (array.ndim != extent) if extent else not array.ndim:
        raise ValueError(f"{name}: found shape {array.shape}, accepted is [rows, bits]")
    if array.dtype == bool:
        return array
    check_signed(name, array)
    if not array.size:
        return array >= 0
    least = array.min()
    if least != least:
        rows = int(np.isnan(array).reshape(-1, array.shape[-1]).any(axis=1).sum())
        raise ValueError(f"{name}: found NaN in {rows} rows, accepted are real numbers")
    if least >= 0:
        check_not_bits(name, array)
        most = array.max()
        whole = np.issubdtype(array.dtype, np.integer)
        by_chance = array.size < _MANY or array.shape[-1] < _LONG or least == most
        if (whole and (least, most) != (1, 1)) or not by_chance:
            raise ValueError(
                f"{name}: found {span(float(least), float(most))}, so that every bit "
                "would be +1; accepted are numbers whose sign is the bit, or booleans "
                f"({name} > threshold; unpack takes packed codes apart)"
            )
    return array >= 0


def check_class_dtype(name: str, dtype: Any) -> None:
    """Refuse what stands alone in a row and is no whole number.

    Args:
        name: of the argument.
        dtype: of labels `[B]`.

    Raises:
        ValueError: it is none of whole numbers.
    """
    if not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(
            f"{name}: found one {dtype} a row, accepted are whole class numbers "
            f"[rows] ({name}.astype(int) makes them) or multi-hot [rows, classes]"
        )


def check_class_range(name: str, values: np.ndarray, count: int | None) -> None:
    """Refuse class numbers that no class has.

    Args:
        name: of the argument.
        values: whole numbers, at least one.
        count: of the classes; None where it is not known.

    Raises:
        ValueError: one is negative, or `count` or more.
    """
    least, most = int(values.min()), int(values.max())
    largest = np.iinfo(np.uint32).max if count is None else count - 1
    if least < 0 or most > largest:
        raise ValueError(
            f"{name}: found class numbers {least} to {most}, accepted are 0 to "
            f"{largest}; an image without a label has a row of zeros in multi-hot "
            "labels"
        )


def check_width(name: str, shape: tuple[int, ...], values: np.ndarray | None) -> None:
    """Refuse a column, which is class numbers to some and multi-hot to others.

    Args:
        name: of the argument.
        shape: `[rows, classes]`.
        values: where they are at hand; all ones mean the same to both.

    Raises:
        ValueError: there is but one column.
    """
    if shape[1] == 1 and (values is None or not (values == 1).all()):
        raise ValueError(
            f"{name}: found a column [{shape[0]}, 1], accepted are class numbers "
            f"[rows] ({name}[:, 0] of a column of them) or multi-hot of two classes or "
            "more"
        )


def check_multi_hot(name: str, values: np.ndarray) -> None:
    """Refuse rows that are not multi-hot.

    Args:
        name: of the argument.
        values: `[rows, classes]`.

    Raises:
        ValueError: other values than 0 and 1.
    """
    odd = (values != 0) & (values != 1)
    if odd.any():
        first = values[odd].flat[0]
        advice = f"; {name} > 0 makes booleans" if first == -1 else ""
        raise ValueError(
            f"{name}: found values other than 0 and 1 ({first:g}), accepted is "
            f"multi-hot [rows, classes] or whole class numbers [rows]{advice}"
        )


def check_whole(name: str, found: Any, low: int | None = None) -> None:
    """Refuse what is no whole number, or too small a one.

    Args:
        name: of the argument.
        found: whatever is there.
        low: least; None for any.

    Raises:
        ValueError: it is no whole number; it is below `low`.
    """
    least = "" if low is None else f" >= {low}"
    try:
        if isinstance(found, bool):
            raise TypeError
        value = operator.index(found)
    except TypeError:
        raise ValueError(
            f"{name}: found {found!r}, accepted is a whole number{least}, a Python one"
        ) from None
    if low is not None and value < low:
        raise ValueError(f"{name}: found {value}, accepted is at least {low}")


def host_array(name: str, found: Any) -> np.ndarray:
    """Numbers or booleans from outside as NumPy has them.

    Args:
        name: of the argument.
        found: whatever is there.

    Raises:
        ValueError: no array of numbers, or values that are not at hand.
    """
    if isinstance(found, jax.core.Tracer):
        raise ValueError(
            f"{name}: found an array without values, accepted is one with; this is "
            "no function for jit"
        )
    values = values_of(array_of(name, found, on_host=True))
    assert values is not None
    return values


def array_of(name: str, found: Any, *, on_host: bool = False) -> Any:
    """An array of numbers or booleans, of JAX if it was one, else of NumPy."""
    if isinstance(found, jax.Array):
        array: Any = found
    else:
        try:
            array = np.asarray(found)
        except (TypeError, ValueError):
            array = np.asarray(None)
        if array.dtype == object or (
            array.dtype.kind in "USMmV" and not _narrow(array)
        ):
            what = "text" if array.dtype.kind in "US" else type(found).__name__
            advice = (
                f"; np.unique({name}, return_inverse=True)[1] makes class numbers"
                if what == "text"
                else ""
            )
            raise ValueError(
                f"{name}: found {what}, accepted is an array of numbers{advice}"
            )
        if not on_host:
            _check_fits(name, array)
    if not _numeric(array.dtype):
        raise ValueError(f"{name}: found {array.dtype}, accepted are real numbers")
    return array


def _check_fits(name: str, array: np.ndarray) -> None:
    """Refuse whole numbers that JAX would cut to 32 bits."""
    if array.dtype.kind not in "iu" or array.dtype.itemsize < 8 or not array.size:
        return
    kept = np.iinfo(jax.dtypes.canonicalize_dtype(array.dtype))
    if array.min() < kept.min or array.max() > kept.max:
        raise ValueError(
            f"{name}: found {span(array.min(), array.max())}, accepted are whole "
            f"numbers of {kept.bits} bits"
        )


def _narrow(array: np.ndarray) -> bool:
    """Whether it is of a type that NumPy itself does not know, as bfloat16."""
    return jnp.issubdtype(array.dtype, jnp.floating)


def _numeric(dtype: Any) -> bool:
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)


def values_of(array: Any) -> np.ndarray | None:
    """The values, or None where they are not at hand."""
    if isinstance(array, jax.core.Tracer):
        return None
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return None
    values = np.asarray(array)
    # NumPy has no minimum of some narrow types.
    narrow = values.dtype.kind not in "biuf"
    return values.astype(np.float32) if narrow else values


def extent_of(array: Any) -> tuple[float, float] | None:
    """The least and the most value; None without any, or where none is at hand."""
    values = values_of(array)
    if values is None or not values.size:
        return None
    return float(values.min()), float(values.max())


def within(extent: tuple[float, float], low: float, high: float) -> bool:
    """Whether all lies between two numbers, but for rounding; NaN never does."""
    return extent[0] >= low - ROUNDING and extent[1] <= high + ROUNDING


def check_signed(name: str, array: Any) -> None:
    """Refuse unsigned numbers where the sign is the bit."""
    if jnp.issubdtype(array.dtype, jnp.unsignedinteger):
        raise ValueError(
            f"{name}: found dtype {array.dtype}, accepted are signed numbers "
            f"whose sign is the bit, or booleans; {name} == 1 makes booleans of 0 and "
            "1, unpack takes packed codes apart"
        )


def floating(array: Any) -> jax.Array:
    """Whole numbers and booleans as float32, floats as they are."""
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return jnp.asarray(array, None if floating else jnp.float32)


def in_unit(name: str, array: Any, *, any_float: bool = False) -> jax.Array:
    """Floats in [0, 1], with `any_float` any; whole numbers are meant as bytes."""
    whole = jnp.issubdtype(array.dtype, jnp.integer) and array.ndim
    extent = (0.0, 0.0) if any_float else extent_of(array) or (0.0, 0.0)
    if whole or not within(extent, 0.0, 1.0):
        found = f"{array.dtype}" if whole else span(*extent)
        raise ValueError(
            f"{name}: found {found}, accepted are floats in [0, 1]; {name} / 255 makes "
            "them of bytes"
        )
    return floating(array)


def span(least: Any, most: Any) -> str:
    """The least and the most of what was found, for a message."""
    if least != least:
        return "NaN"
    return f"{least:g}" if least == most else f"numbers from {least:g} to {most:g}"
