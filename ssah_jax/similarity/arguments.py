"""What arguments of public functions may be: written, checked and understood once.

    @takes(u=codes("B K"), centres=signs("C K"), labels=labels("B C"), where=flags("B"))
    def loss(u, labels, centres, *, where=None): ...

The function is written for one form of each argument, the one of its annotation. A kind
makes that form of what people have (lists, NumPy, anything with `__array__`; booleans
are bits, whole numbers `[B]` are classes) or refuses it in one line. Shapes and dtypes
tell much of it, under `jit` too and then at no cost but that of tracing. Values are
looked at where they are at hand: outside `jit`, `vmap` and the like, or where a
transformation does not reach them. Letters of shapes are those of `ssah_jax.types`; the
same letter is the same size in all arguments of a call.
"""

import functools
import inspect
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ssah_jax.similarity import checks
from ssah_jax.similarity.sizes import Sizes

F = TypeVar("F", bound=Callable[..., Any])
Form = Callable[[str, Any, Sizes], Any]
"""From an argument's name, what was found, and the sizes so far, to the form wanted."""


class _Interval(NamedTuple):
    """Real numbers between two, either of which may be one of them."""

    low: float
    high: float
    low_in: bool
    high_in: bool

    @classmethod
    def of(cls, text: str) -> "_Interval":
        """Of `[0, 1)` and the like."""
        low, high = (
            math.pi if end == "pi" else float(end) for end in text[1:-1].split(", ")
        )
        return cls(low, high, text[0] == "[", text[-1] == "]")

    @property
    def finite(self) -> bool:
        """Whether it leaves anything out."""
        return self.low > -math.inf or self.high < math.inf

    def has(self, x: float) -> bool:
        """Whether it holds a number; it never holds NaN."""
        above = x >= self.low if self.low_in else x > self.low
        return above and (x <= self.high if self.high_in else x < self.high)


def takes(**forms: Form) -> Callable[[F], F]:
    """Say what the arguments of a function may be; see the module's docstring.

    Args:
        **forms: a kind for each argument, looked at in this order. None passes, where
            it is an argument's default.
    """

    def decorate(function: F) -> F:
        parameters = inspect.signature(function).parameters
        names = tuple(parameters)
        unknown = forms.keys() - parameters.keys()
        assert not unknown, f"{function.__name__}: no arguments {unknown}"
        optional = {n for n, p in parameters.items() if p.default is None}

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            if len(args) > len(names):
                return function(*args, **kwargs)
            given = dict(zip(names, args, strict=False))
            if given.keys() & kwargs.keys():
                return function(*args, **kwargs)
            given |= kwargs
            sizes = Sizes()
            for name, form in forms.items():
                if name in given and not (given[name] is None and name in optional):
                    given[name] = form(name, given[name], sizes)
            positional = [given.pop(name) for name in names[: len(args)]]
            # Whatever the caller allows, JAX's own rules of promotion hold inside.
            with jax.numpy_dtype_promotion("standard"):
                return function(*positional, **given)

        checked.takes = forms  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return decorate


def _shaped(name: str, found: Any, sizes: Sizes, dims: str) -> Any:
    """An array of NumPy or JAX, once its shape is seen to be the one of the letters."""
    array = checks.array_of(name, found)
    sizes.match(name, array.shape, dims)
    return array


# Kinds of arrays.


def codes(dims: str, *, bits_too: bool = False) -> Form:
    """Real codes: any real numbers whose sign is the bit; booleans are bits.

    Args:
        dims: letters of the shape.
        bits_too: whether 0 and 1 are numbers like any others, as in sigmoid codes.
    """

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = _shaped(name, found, sizes, dims)
        if array.dtype == bool:
            return jnp.where(array, 1.0, -1.0).astype(jnp.float32)
        checks.check_signed(name, array)
        values = checks.values_of(array)
        if values is not None and not bits_too:
            checks.check_not_bits(name, values)
        return checks.floating(array)

    return form


def signed(name: str, found: Any) -> jax.Array:
    """Numbers whose sign is the bit, in their own dtype; booleans as int8.

    Args:
        name: of the argument.
        found: an array of any shape, whose values are not looked at.

    Raises:
        ValueError: no numbers, or unsigned ones.
    """
    array = checks.array_of(name, found)
    if array.dtype == bool:
        return jnp.where(array, 1, -1).astype(jnp.int8)
    checks.check_signed(name, array)
    return jnp.asarray(array)


def signs(dims: str) -> Form:
    """Bits as -1 and +1 and nothing between; booleans are bits."""

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = codes(dims)(name, found, sizes)
        values = None if checks.values_of(found) is None else np.asarray(found)
        if values is not None and values.dtype != bool and (np.abs(values) != 1).any():
            odd = values[np.abs(values) != 1].flat[0]
            raise ValueError(
                f"{name}: found {odd:g}, accepted are -1 and +1; "
                f"jnp.where({name} >= 0, 1.0, -1.0) makes them"
            )
        return array

    return form


def real(dims: str, interval: str = "(-inf, inf)") -> Form:
    """Any real numbers; booleans are 0 and 1.

    Args:
        dims: letters of the shape.
        interval: that they lie in; NaN passes where nothing bounds them.
    """
    bounds = _Interval.of(interval)

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = _shaped(name, found, sizes, dims)
        extent = checks.extent_of(array) if bounds.finite else None
        if extent and not all(map(bounds.has, extent)):
            raise ValueError(
                f"{name}: found {checks.span(*extent)}, accepted are numbers in "
                f"{interval}"
            )
        return checks.floating(array)

    return form


def probability(dims: str) -> Form:
    """Booleans, or how probable each is, floats in [0, 1]; float32 in the function."""

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = _shaped(name, found, sizes, dims)
        if array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(
                f"{name}: found {array.dtype}, accepted are booleans or floats in "
                f"[0, 1]; {name} > 0 makes booleans of 0 and 1, or of -1 and +1"
            )
        extent = checks.extent_of(array) if array.dtype != bool else None
        if extent and not checks.within(extent, 0.0, 1.0):
            advice = f"; {name} > 0 makes booleans" if extent[0] == -1 else ""
            raise ValueError(
                f"{name}: found {checks.span(*extent)}, accepted are booleans or "
                f"numbers in [0, 1]{advice}"
            )
        return jnp.asarray(array, jnp.float32)

    return form


def flags(dims: str) -> Form:
    """Booleans: which pairs are similar, or what counts."""

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = _shaped(name, found, sizes, dims)
        if array.dtype != bool:
            raise ValueError(
                f"{name}: found {array.dtype}, accepted are booleans; {name} > 0 makes "
                "them of 0 and 1, or of -1 and +1"
            )
        return jnp.asarray(array)

    return form


def labels(dims: str, *, numbers: bool = False) -> Form:
    """Labels: multi-hot `[B, C]`, 0 and 1 or booleans, or whole class numbers `[B]`.

    The function has float32 `[B, C]`.

    Args:
        dims: letters of the multi-hot form.
        numbers: whether class numbers stay what they are; else an argument before must
            tell C.
    """
    rows, classes = dims.split()

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = checks.array_of(name, found)
        if array.ndim == 1:
            sizes.match(name, array.shape, rows)
            checks.check_class_dtype(name, array.dtype)
            count = sizes.get(classes, (None, ""))[0]
            values = checks.values_of(array)
            if values is not None and values.size:
                checks.check_class_range(name, values, count)
            array = jnp.asarray(array)
            if numbers:
                return array
            assert count is not None, "an argument before the labels must tell C"
            return jax.nn.one_hot(array, count, dtype=jnp.float32)
        # Beside the one centre of one class a column can be nothing else.
        if array.ndim == 2 and sizes.get(classes, (None, ""))[0] != 1:
            checks.check_width(name, array.shape, checks.values_of(array))
        sizes.match(name, array.shape, dims)
        values = checks.values_of(array)
        if values is not None:
            checks.check_multi_hot(name, values)
        return jnp.asarray(array, jnp.float32)

    return form


def image(*, moved: bool = False) -> Form:
    """An image `[H, W, ch]`, floats in [0, 1].

    Args:
        moved: whether pixels are only moved, so that any floats are as good.
    """

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = _shaped(name, found, sizes, "H W ch")
        height, width, channels = array.shape
        if height in (1, 3, 4) and width > 4 and channels > 4:
            raise ValueError(
                f"{name}: found shape {array.shape}, accepted is [H, W, ch], "
                f"channels last; jnp.moveaxis({name}, 0, -1) is"
            )
        return checks.in_unit(name, array, any_float=moved)

    return form


def fill(name: str, found: Any, sizes: Sizes) -> Any:
    """What takes the place of pixels: a number, `[ch]` or `[H, W, ch]`, in [0, 1]."""
    array = checks.in_unit(name, checks.array_of(name, found))
    if array.ndim not in (0, 1, 3):
        raise ValueError(
            f"{name}: found shape {array.shape}, accepted is a number, [ch] or "
            "[H, W, ch]"
        )
    if array.ndim:
        sizes.match(name, array.shape, "ch" if array.ndim == 1 else "H W ch")
    return array


def angle(dims: str = "") -> Form:
    """Radians, in [-pi, pi], which is every rotation there is."""

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = _shaped(name, found, sizes, dims)
        extent = checks.extent_of(array)
        if extent and not checks.within(extent, -math.pi, math.pi):
            raise ValueError(
                f"{name}: found {checks.span(*extent)}, accepted are radians in "
                "[-pi, pi]; jnp.deg2rad makes them of degrees"
            )
        return checks.floating(array)

    return form


def places(dims: str) -> Form:
    """Whole numbers that say which row or pixel."""

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = _shaped(name, found, sizes, dims)
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise ValueError(
                f"{name}: found {array.dtype}, accepted are whole numbers; "
                f"{name}.astype(int) makes them"
            )
        return jnp.asarray(array)

    return form


def rows(name: str, found: Any, sizes: Sizes) -> jax.Array:
    """An array of rows of anything, `[B, ...]`."""
    array = checks.array_of(name, found)
    if not array.ndim:
        raise ValueError(f"{name}: found one number, accepted is [B, ...]")
    return jnp.asarray(array)


def record(kind: type, **fields: Form) -> Form:
    """A record, field by field."""

    def form(name: str, found: Any, sizes: Sizes) -> Any:
        if not isinstance(found, kind):
            raise ValueError(
                f"{name}: found {type(found).__name__}, accepted is {kind.__name__}"
            )
        new = {
            field: check(f"{name}.{field}", getattr(found, field), sizes)
            for field, check in fields.items()
        }
        changed: Any = found
        replace = getattr(changed, "_replace", None) or changed.replace
        return replace(**new)

    return form


# Kinds of numbers and words.


def number(interval: str) -> Form:
    """One real number, of Python or an array `[]`.

    Args:
        interval: that it lies in.
    """
    bounds = _Interval.of(interval)

    def form(name: str, found: Any, sizes: Sizes) -> Any:
        array = checks.array_of(name, found)
        if array.shape:
            raise ValueError(
                f"{name}: found shape {array.shape}, accepted is one number"
            )
        if isinstance(found, jax.core.Tracer):
            return checks.floating(array)
        value = float(array)
        if not bounds.has(value):
            raise ValueError(
                f"{name}: found {value:g}, accepted is a number in {interval}"
            )
        # Python's, which takes the dtype of what it meets.
        return value

    return form


def whole(low: int | None = None) -> Form:
    """One whole number that is static under `jit`.

    Args:
        low: least; None for any.
    """

    def form(name: str, found: Any, sizes: Sizes) -> int:
        checks.check_whole(name, found, low)
        return operator.index(found)

    return form


def step(name: str, found: Any, sizes: Sizes) -> Any:
    """Completed steps: a whole number >= 0, of Python or an array `[]`."""
    array = checks.array_of(name, found)
    if array.shape or not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(
            f"{name}: found {array.dtype}{array.shape}, accepted is one whole number"
        )
    if not isinstance(found, jax.core.Tracer) and int(array) < 0:
        raise ValueError(f"{name}: found {int(array)}, accepted is 0 or more")
    return jnp.asarray(array)


def truth(name: str, found: Any, sizes: Sizes) -> bool:
    """True or False, static under `jit`."""
    if not isinstance(found, bool | np.bool_):
        raise ValueError(
            f"{name}: found {type(found).__name__}, accepted are True and False"
        )
    return bool(found)


def word(*accepted: str) -> Form:
    """One of a few words."""

    def form(name: str, found: Any, sizes: Sizes) -> str:
        if found not in accepted:
            raise ValueError(
                f"{name}: found {found!r}, accepted are {', '.join(accepted)}"
            )
        return str(found)

    return form


def shares(name: str, found: Any, sizes: Sizes) -> tuple[float, ...]:
    """One or more Python numbers in (0, 1]."""
    try:
        values = tuple(float(share) for share in found)
    except TypeError:
        raise ValueError(
            f"{name}: found {type(found).__name__}, accepted are one or more shares in "
            "(0, 1], Python numbers"
        ) from None
    if not values or not all(0 < share <= 1 for share in values):
        raise ValueError(
            f"{name}: found {values}, accepted are one or more shares in (0, 1]"
        )
    return values


def key(name: str, found: Any, sizes: Sizes) -> jax.Array:
    """One key of `jax.random`, `jax.random.key(0)` or the older `PRNGKey(0)`."""
    dtype = getattr(found, "dtype", None)
    if dtype == jnp.uint32 and found.shape == (2,):
        return jax.random.wrap_key_data(jnp.asarray(found))
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise ValueError(
            f"{name}: found {type(found).__name__}, accepted is jax.random.key(seed)"
        )
    if found.shape:
        raise ValueError(
            f"{name}: found {found.shape[0]} keys, accepted is one; jax.vmap takes "
            "several"
        )
    return found
