"""What lies in a pytree, in words: its leaves by path, and what two trees differ in."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

KeyPath = tuple[str, ...]


def by_path(tree: Any) -> dict[KeyPath, Any]:
    """The leaves of `tree` by path, in order, as `("hnet_opt", "1", "0", "count")`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        tuple(jax.tree_util.keystr((key,), simple=True) for key in path): leaf
        for path, leaf in leaves
    }


def _shape_dtype(leaf: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of `leaf` as they are stored: a typed key as its words."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return tuple(leaf.shape), np.dtype(leaf.dtype)


def _named(shape_dtype: tuple[tuple[int, ...], np.dtype]) -> str:
    """As in `float32[64, 10]`."""
    shape, dtype = shape_dtype
    return f"{dtype.name}[{', '.join(map(str, shape))}]"


def first_mismatch(
    stored: Mapping[KeyPath, Any], wanted: Mapping[KeyPath, Any]
) -> str | None:
    """Says where a stored tree first differs from the one wanted, None if nowhere."""
    for path, leaf in wanted.items():
        name, want = "/".join(path), _shape_dtype(leaf)
        if path not in stored:
            return f"{name} is not stored, expected {_named(want)}"
        have = _shape_dtype(stored[path])
        if have != want:
            return f"{name} is stored as {_named(have)}, expected {_named(want)}"
    for path, leaf in stored.items():
        if path not in wanted:
            have = _shape_dtype(leaf)
            return f"{'/'.join(path)} is stored as {_named(have)}, expected absent"
    return None


def description(tree: Mapping[KeyPath, Any]) -> str:
    """Paths, dtypes and shapes of all leaves, sorted; equal for equal trees only."""
    return "; ".join(
        f"{'/'.join(path)} {_named(_shape_dtype(leaf))}"
        for path, leaf in sorted(tree.items())
    )
