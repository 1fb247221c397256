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

F = TypeVar("F", bound=Callable[..., Any])
Form = Callable[[str, Any, "Sizes"], Any]
"""From an argument's name, what was found, and the sizes so far, to the form wanted."""

# Fewer real numbers may be of one sign by chance.
_MANY, _LONG = 64, 8
# What rounding may add to a number in [0, 1].
_ROUNDING = 1e-3


class Sizes(dict[str, tuple[Any, str]]):
    """The size of each letter of a call, and the argument that it is known from."""

    def match(self, name: str, found: tuple[int, ...], dims: str) -> None:
        """Compare a shape with its letters.

        Args:
            name: of the argument.
            found: its shape.
            dims: a letter, a number or `1` for each axis; `...` first for any others.

        Raises:
            ValueError: they do not fit, or not what other arguments have.
        """
        letters = dims.split()
        lead = letters[:1] == ["..."]
        letters = letters[lead:]
        rest = len(found) - len(letters)
        if rest < 0 or (rest and not lead):
            self._refuse(name, found, dims)
        given: list[tuple[str, Any]] = list(zip(letters, found[rest:], strict=True)) + (
            [("...", found[:rest])] if lead else []
        )
        for letter, size in given:
            wanted = int(letter) if letter.isdigit() else self.get(letter, (size,))[0]
            if size != wanted:
                self._refuse(name, found, dims)
        for letter, size in given:
            self.setdefault(letter, (size, name))

    def _refuse(self, name: str, found: tuple[int, ...], dims: str) -> None:
        letters = dims.split()
        known = [
            f"{letter} = {self[letter][0]} as in {self[letter][1]}"
            for letter in letters
            if letter in self and letter != "..."
        ]
        if "..." in letters and "..." in self:
            known.append(f"... = {self['...'][0]} as in {self['...'][1]}")
        accepted = f"[{', '.join(letters)}]" + (
            f" with {', '.join(known)}" if known else ""
        )
        advice = ""
        if len(letters) == len(found) == 2 and all(
            letter not in self or self[letter][0] == size
            for letter, size in zip(letters, found[::-1], strict=True)
        ):
            advice = f"; {name}.T is"
        elif letters == ["H", "W", "ch"]:
            advice = {
                2: f"; {name}[..., None] has one channel",
                4: "; jax.vmap takes a batch",
            }.get(len(found), "")
        elif len(found) == len(letters) + 1 and "..." not in letters:
            advice = "; jax.vmap takes a batch of them"
        raise ValueError(f"{name}: found shape {found}, accepted is {accepted}{advice}")


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


# Kinds of arrays.


def codes(dims: str, *, bits_too: bool = False) -> Form:
    """Real codes: any real numbers whose sign is the bit; booleans are bits.

    Args:
        dims: letters of the shape.
        bits_too: whether 0 and 1 are numbers like any others, as in sigmoid codes.
    """

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = _array(name, found)
        sizes.match(name, array.shape, dims)
        if array.dtype == bool:
            return jnp.where(array, 1.0, -1.0).astype(jnp.float32)
        _check_signed(name, array)
        values = _values(array)
        if values is not None and not bits_too:
            check_not_bits(name, values)
        return _floating(array)

    return form


def signed(name: str, found: Any) -> jax.Array:
    """Numbers whose sign is the bit, in their own dtype; booleans as int8.

    Args:
        name: of the argument.
        found: an array of any shape, whose values are not looked at.

    Raises:
        ValueError: no numbers, or unsigned ones.
    """
    array = _array(name, found)
    if array.dtype == bool:
        return jnp.where(array, 1, -1).astype(jnp.int8)
    _check_signed(name, array)
    return jnp.asarray(array)


def signs(dims: str) -> Form:
    """Bits as -1 and +1 and nothing between; booleans are bits."""

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = codes(dims)(name, found, sizes)
        values = None if _values(found) is None else np.asarray(found)
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
        array = _array(name, found)
        sizes.match(name, array.shape, dims)
        values = _values(array) if bounds.finite else None
        if values is not None and values.size:
            least, most = float(values.min()), float(values.max())
            if not (bounds.has(least) and bounds.has(most)):
                raise ValueError(
                    f"{name}: found {_range(least, most)}, accepted are numbers in "
                    f"{interval}"
                )
        return _floating(array)

    return form


def probability(dims: str) -> Form:
    """Booleans, or how probable each is, floats in [0, 1]; float32 in the function."""

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = _array(name, found)
        sizes.match(name, array.shape, dims)
        if array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(
                f"{name}: found {array.dtype}, accepted are booleans or floats in "
                f"[0, 1]; {name} > 0 makes booleans of 0 and 1, or of -1 and +1"
            )
        values = _values(array)
        if values is not None and values.size and array.dtype != bool:
            least, most = float(values.min()), float(values.max())
            if not (least >= -_ROUNDING and most <= 1 + _ROUNDING):
                advice = f"; {name} > 0 makes booleans" if least == -1 else ""
                raise ValueError(
                    f"{name}: found {_range(least, most)}, accepted are booleans or "
                    f"numbers in [0, 1]{advice}"
                )
        return jnp.asarray(array, jnp.float32)

    return form


def flags(dims: str) -> Form:
    """Booleans: which pairs are similar, or what counts."""

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = _array(name, found)
        sizes.match(name, array.shape, dims)
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
        array = _array(name, found)
        if array.ndim == 1:
            sizes.match(name, array.shape, rows)
            check_class_dtype(name, array.dtype)
            count = sizes.get(classes, (None, ""))[0]
            values = _values(array)
            if values is not None and values.size:
                check_class_range(name, values, count)
            array = jnp.asarray(array)
            if numbers:
                return array
            assert count is not None, "an argument before the labels must tell C"
            return jax.nn.one_hot(array, count, dtype=jnp.float32)
        # Beside the one centre of one class a column can be nothing else.
        if array.ndim == 2 and sizes.get(classes, (None, ""))[0] != 1:
            check_width(name, array.shape, _values(array))
        sizes.match(name, array.shape, dims)
        values = _values(array)
        if values is not None:
            check_multi_hot(name, values)
        return jnp.asarray(array, jnp.float32)

    return form


def image(*, moved: bool = False) -> Form:
    """An image `[H, W, ch]`, floats in [0, 1].

    Args:
        moved: whether pixels are only moved, so that any floats are as good.
    """

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = _array(name, found)
        sizes.match(name, array.shape, "H W ch")
        height, width, channels = array.shape
        if height in (1, 3, 4) and width > 4 and channels > 4:
            raise ValueError(
                f"{name}: found shape {array.shape}, accepted is [H, W, ch], "
                f"channels last; jnp.moveaxis({name}, 0, -1) is"
            )
        return _in_unit(name, array, any_float=moved)

    return form


def fill(name: str, found: Any, sizes: Sizes) -> Any:
    """What takes the place of pixels: a number, `[ch]` or `[H, W, ch]`, in [0, 1]."""
    array = _in_unit(name, _array(name, found))
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
        array = _array(name, found)
        sizes.match(name, array.shape, dims)
        values = _values(array)
        if values is not None and values.size:
            least, most = float(values.min()), float(values.max())
            if not max(-least, most) <= math.pi + _ROUNDING:
                raise ValueError(
                    f"{name}: found {_range(least, most)}, accepted are radians in "
                    f"[-pi, pi]; jnp.deg2rad makes them of degrees"
                )
        return _floating(array)

    return form


def places(dims: str) -> Form:
    """Whole numbers that say which row or pixel."""

    def form(name: str, found: Any, sizes: Sizes) -> jax.Array:
        array = _array(name, found)
        sizes.match(name, array.shape, dims)
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise ValueError(
                f"{name}: found {array.dtype}, accepted are whole numbers; "
                f"{name}.astype(int) makes them"
            )
        return jnp.asarray(array)

    return form


def rows(name: str, found: Any, sizes: Sizes) -> jax.Array:
    """An array of rows of anything, `[B, ...]`."""
    array = _array(name, found)
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
        array = _array(name, found)
        if array.shape:
            raise ValueError(
                f"{name}: found shape {array.shape}, accepted is one number"
            )
        if isinstance(found, jax.core.Tracer):
            return _floating(array)
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
        check_whole(name, found, low)
        return operator.index(found)

    return form


def step(name: str, found: Any, sizes: Sizes) -> Any:
    """Completed steps: a whole number >= 0, of Python or an array `[]`."""
    array = _array(name, found)
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


# What NumPy code asks too: values are at hand there, always.


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
    _check_signed(name, array)
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
                f"{name}: found {_range(float(least), float(most))}, so that every bit "
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
    values = _values(_array(name, found, on_host=True))
    assert values is not None
    return values


def _array(name: str, found: Any, *, on_host: bool = False) -> Any:
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
            f"{name}: found {_range(array.min(), array.max())}, accepted are whole "
            f"numbers of {kept.bits} bits"
        )


def _narrow(array: np.ndarray) -> bool:
    """Whether it is of a type that NumPy itself does not know, as bfloat16."""
    return jnp.issubdtype(array.dtype, jnp.floating)


def _numeric(dtype: Any) -> bool:
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)


def _values(array: Any) -> np.ndarray | None:
    """The values, or None where they are not at hand."""
    if isinstance(array, jax.core.Tracer):
        return None
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return None
    values = np.asarray(array)
    # NumPy has no minimum of some narrow types.
    narrow = values.dtype.kind not in "biuf"
    return values.astype(np.float32) if narrow else values


def _check_signed(name: str, array: Any) -> None:
    if jnp.issubdtype(array.dtype, jnp.unsignedinteger):
        raise ValueError(
            f"{name}: found dtype {array.dtype}, accepted are signed numbers "
            f"whose sign is the bit, or booleans; {name} == 1 makes booleans of 0 and "
            "1, unpack takes packed codes apart"
        )


def _floating(array: Any) -> jax.Array:
    """Whole numbers and booleans as float32, floats as they are."""
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return jnp.asarray(array, None if floating else jnp.float32)


def _in_unit(name: str, array: Any, *, any_float: bool = False) -> jax.Array:
    whole = jnp.issubdtype(array.dtype, jnp.integer) and array.ndim
    values = _values(array)
    least, most = (0.0, 0.0)
    if values is not None and values.size and not any_float:
        least, most = float(values.min()), float(values.max())
    if whole or not (least >= -_ROUNDING and most <= 1 + _ROUNDING):
        found = f"{array.dtype}" if whole else _range(least, most)
        raise ValueError(
            f"{name}: found {found}, accepted are floats in [0, 1]; {name} / 255 makes "
            "them of bytes"
        )
    return _floating(array)


def _range(least: Any, most: Any) -> str:
    if least != least:
        return "NaN"
    return f"{least:g}" if least == most else f"numbers from {least:g} to {most:g}"
