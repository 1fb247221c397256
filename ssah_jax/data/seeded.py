"""Named random streams that give the same numbers on every NumPy release.

NumPy promises the raw output of a bit generator and of `SeedSequence` for ever, but
not that of `Generator.permutation`. Whatever a split or an order of images depends
on is therefore made from raw output.
"""

import hashlib

import numpy as np
from jaxtyping import Int64


def _bits(seed: int, names: tuple[str | int, ...]) -> np.random.PCG64:
    """The bit generator of one named stream."""
    text = "/".join(str(name) for name in (seed, *names))
    entropy = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    return np.random.PCG64(np.random.SeedSequence(entropy))


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A generator for one purpose, independent of those of all other names.

    Args:
        seed: the seed of the run or data set; any integer.
        *names: what the numbers are for, such as `"query"`.

    Returns:
        A fresh generator; the same for the same arguments.
    """
    return np.random.Generator(_bits(seed, names))


def permutation(seed: int, size: int, *names: str | int) -> Int64[np.ndarray, "N"]:
    """A uniformly random order of `size` things, the same on every NumPy release.

    Args:
        seed: the seed of the run or data set; any integer.
        size: how many things, N.
        *names: what the order is for, such as `"query"`.

    Returns:
        The integers 0 .. N - 1 in random order, `[N]`.
    """
    draws = _bits(seed, names).random_raw(size)
    return np.argsort(draws, kind="stable").astype(np.int64)
