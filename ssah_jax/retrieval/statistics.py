"""What a set of binary codes looks like, whatever it is used for.

Good codes have balanced bits that know nothing of one another; bits that never change
and images that all share a code are how hashing fails.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float64, Int64, Shaped

from ssah_jax.similarity import checks

# Rows whose products are summed at once: exact in float32, and little memory.
_BLOCK = 1 << 16


def code_statistics(
    codes: Shaped[np.ndarray | jax.Array, "N K"],
) -> dict[str, Any]:
    """Balance, entropy and correlation of the bits, and how many codes are in use.

    Balanced, uncorrelated bits are what "Spectral Hashing" (NIPS 2008,
    https://papers.nips.cc/paper/3383-spectral-hashing) asks of a code. Counting is in
    integers, so the numbers do not depend on the order of the codes.

    Args:
        codes: `[N, K]`, N and K >= 1, any real but NaN, binarised at 0 (0 is +1), or
            booleans.

    Returns:
        Ready for JSON:

        - `balance`: share of codes in which each bit is +1, K floats in [0, 1].
        - `entropy`: mean over bits of the entropy of one, in bits, [0, 1].
        - `max_correlation`: largest absolute correlation of two bits, in [0, 1];
          constant bits have none, and 0 is that of fewer than two other bits.
        - `most_correlated`: that pair of bits, the first of equals; None without one.
        - `constant_bits`: bits that are the same in all codes.
        - `num_codes`: N.
        - `num_distinct`: different codes among them, 1 to min(N, 2**K).
        - `largest_share`: share of codes that equal the most frequent one, (0, 1].

    Raises:
        ValueError: no codes, no bits, NaN, unsigned numbers, 0 and 1, or many numbers
            and none below 0.
    """
    bits = checks.bits_of("codes", codes)
    if 0 in bits.shape:
        raise ValueError(
            f"codes: found shape {list(bits.shape)}, accepted is [rows >= 1, bits >= 1]"
        )
    together = _together(bits)
    ones = np.diag(together)
    balance = ones / len(bits)
    correlation = np.triu(np.abs(_correlation(together, len(bits))), k=1)
    first, second = np.unravel_index(np.argmax(correlation), correlation.shape)
    largest = float(correlation[first, second])
    packed = np.packbits(bits, axis=1)
    _, counts = np.unique(packed, axis=0, return_counts=True)
    return {
        "balance": balance.tolist(),
        "entropy": float(np.mean(_entropy(balance) + _entropy(1 - balance))),
        "max_correlation": largest,
        "most_correlated": [int(first), int(second)] if largest else None,
        "constant_bits": np.flatnonzero((ones == 0) | (ones == len(bits))).tolist(),
        "num_codes": len(bits),
        "num_distinct": len(counts),
        "largest_share": float(np.max(counts) / len(bits)),
    }


def _together(bits: np.ndarray) -> Int64[np.ndarray, "K K"]:
    """In how many rows of booleans `[N, K]` two columns are both True."""
    total = np.zeros((bits.shape[1],) * 2, np.int64)
    for start in range(0, len(bits), _BLOCK):
        block = bits[start : start + _BLOCK].astype(np.float32)
        total += (block.T @ block).astype(np.int64)
    return total


def _correlation(
    together: Int64[np.ndarray, "K K"], number: int
) -> Float64[np.ndarray, "K K"]:
    """Pearson's correlation of bits, 0 where one of them is constant."""
    ones = np.diag(together)
    covariance = number * together - np.outer(ones, ones)
    variance = np.diag(covariance).astype(np.float64)
    scale = np.sqrt(variance[:, None] * variance[None, :])
    return np.where(scale > 0, covariance / np.maximum(scale, 1), 0.0)


def _entropy(share: Float64[np.ndarray, "K"]) -> Float64[np.ndarray, "K"]:
    """-p log2 p, 0 at 0."""
    return -share * np.log2(np.where(share > 0, share, 1))
