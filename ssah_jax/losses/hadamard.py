"""Hadamard matrices of the orders that are products of Sylvester's and Paley's."""

import math

import numpy as np


def hadamard(order: int) -> np.ndarray | None:
    """A matrix `[order, order]` in {-1, +1} with orthogonal rows, if one is found."""
    if order == 1:
        return np.ones((1, 1), np.float32)
    if order == 2:
        return np.array([[1, 1], [1, -1]], np.float32)
    if order % 4:
        return None
    # Doubling first, so that powers of two are always Sylvester's.
    for left in range(2, order):
        if order % left == 0 and left <= order // left:
            a, b = hadamard(left), hadamard(order // left)
            if a is not None and b is not None:
                return np.kron(a, b)
    if _is_prime(order - 1):
        return _paley_one(order - 1)
    if order % 8 == 4 and _is_prime(order // 2 - 1):
        return _paley_two(order // 2 - 1)
    return None


def _paley_one(q: int) -> np.ndarray:
    """Of order q + 1, for a prime q = 3 mod 4: I + S with a skew conference matrix S.

    Paley, "On Orthogonal Matrices", https://doi.org/10.1002/sapm1933121311.
    """
    skew = _conference(q)
    skew[1:, 0] = -1
    return skew + np.eye(q + 1, dtype=np.float32)


def _paley_two(q: int) -> np.ndarray:
    """Of order 2 (q + 1), for a prime q = 1 mod 4, of a symmetric conference matrix."""
    inside = np.array([[1, 1], [1, -1]], np.float32)
    diagonal = np.array([[1, -1], [-1, -1]], np.float32)
    symmetric = _conference(q)
    identity = np.eye(q + 1, dtype=np.float32)
    return np.kron(symmetric, inside) + np.kron(identity, diagonal)


def _conference(q: int) -> np.ndarray:
    """The quadratic characters of i - j mod q, bordered by ones and a zero corner."""
    character = np.full(q, -1, np.float32)
    character[np.arange(1, q) ** 2 % q] = 1
    character[0] = 0
    index = np.arange(q)
    matrix = np.ones((q + 1, q + 1), np.float32)
    matrix[0, 0] = 0
    matrix[1:, 1:] = character[(index[:, None] - index[None, :]) % q]
    return matrix


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))
