"""What a retrieval metric is given, checked once and packed into machine words.

A database of 59,000 codes of 48 bits is 0.5 MB once packed, and both the Hamming
distance and "shares a label" become a few XORs and ANDs on 32-bit words.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int, Int64, Shaped, UInt32

from ssah_jax.similarity import checks

ArrayLike = np.ndarray | jax.Array

# 2K + 1 still fits the 16 bits of a key.
_MOST_BITS = 32767


class PackedSets(NamedTuple):
    """Queries and database as 32-bit words.

    Attributes:
        query_code: `[Q, W]`, W = ceil(K / 32); K bits, zero-filled.
        database_code: `[N, W]`, likewise.
        query_label: `[Q, V]`: a bit a class, or (V = 1) the class's number.
        database_label: `[N, V]`, likewise.
        labelled: whether a query carries any label, `[Q]`.
        by_number: whether labels are numbers, to be compared, not intersected.
        bits: K.
    """

    query_code: UInt32[np.ndarray, "Q W"]
    database_code: UInt32[np.ndarray, "N W"]
    query_label: UInt32[np.ndarray, "Q V"]
    database_label: UInt32[np.ndarray, "N V"]
    labelled: Bool[np.ndarray, "Q"]
    by_number: bool
    bits: int


def pack_sets(
    query_codes: Shaped[ArrayLike, "..."],
    query_labels: Shaped[ArrayLike, "..."],
    database_codes: Shaped[ArrayLike, "..."],
    database_labels: Shaped[ArrayLike, "..."],
    *,
    numbered: bool = True,
) -> PackedSets:
    """Checks queries and database against each other and packs them.

    Nothing the caller owns is written to.

    Args:
        query_codes: `[Q, K]`, any real but NaN, binarised at 0 (0 is +1), or booleans.
        query_labels: multi-hot `[Q, C]` in {0, 1}, or class numbers `[Q]` >= 0.
        database_codes: `[N, K]`, likewise.
        database_labels: `[N, C]` or `[N]`, of the same kind as `query_labels`.
        numbered: whether labels of many classes, at most one a row, become numbers;
            not where another process may see rows of several.

    Returns:
        The packed sets.

    Raises:
        ValueError: an empty side, K, C or lengths that disagree, NaN, codes whose signs
            say nothing, labels that are neither multi-hot nor class numbers.
    """
    query_code = _bits("query_codes", query_codes)
    database_code = _bits("database_codes", database_codes)
    bits = query_code.shape[1]
    if database_code.shape[1] != bits:
        raise ValueError(
            f"database_codes: found {database_code.shape[1]} bits; accepted are as "
            f"many as query_codes has, {bits}"
        )
    query_label = labels_of("query_labels", query_labels, len(query_code))
    database_label = labels_of("database_labels", database_labels, len(database_code))
    if query_label.ndim != database_label.ndim:
        raise ValueError(
            f"database_labels: found a label of shape {database_label.shape[1:]} "
            f"beside one of {query_label.shape[1:]} in query_labels; accepted are two "
            "of one kind, class numbers or multi-hot"
        )
    if query_label.shape[1:] != database_label.shape[1:]:
        raise ValueError(
            f"database_labels: found a label of shape {database_label.shape[1:]}; "
            f"accepted is that of query_labels, {query_label.shape[1:]}"
        )
    by_number = query_label.ndim == 1
    if by_number:
        words = query_label[:, None], database_label[:, None]
        labelled = np.full(len(query_label), True)
    else:
        words = _words(query_label), _words(database_label)
        labelled = np.any(query_label, axis=1)
        if numbered and words[0].shape[1] > 1 and all(map(_single, words)):
            # One comparison instead of an AND for every 32 classes. What carries no
            # label has a number of its own, on each side another.
            by_number, classes = True, query_label.shape[1]
            words = (
                _numbers(query_label, unlabelled=classes),
                _numbers(database_label, unlabelled=classes + 1),
            )
    return PackedSets(
        query_code=_words(query_code),
        database_code=_words(database_code),
        query_label=words[0],
        database_label=words[1],
        labelled=labelled,
        by_number=by_number,
        bits=bits,
    )


def check_top_k(top_k: int | None) -> None:
    """Refuses a cut-off below 1; the whole ranking is None, never -1.

    Args:
        top_k: ranks counted, or None for all.

    Raises:
        ValueError: `top_k` is below 1, or no whole number.
    """
    if top_k is not None:
        check_rank("top_k", top_k, "None or a number >= 1")


def check_rank(name: str, found: int, accepted: str = "numbers >= 1") -> None:
    """Refuses what counts no ranks.

    Args:
        name: of the argument.
        found: whatever is there.
        accepted: what is, for the message.

    Raises:
        ValueError: it is below 1, or no whole number.
    """
    checks.check_whole(name, found)
    if found < 1:
        raise ValueError(f"{name}: found {found}; accepted are {accepted}")


def _bits(name: str, codes: ArrayLike) -> Bool[np.ndarray, "rows K"]:
    """Codes as booleans, True for +1."""
    bits = checks.bits_of(name, codes)
    if 0 in bits.shape or bits.shape[1] > _MOST_BITS:
        raise ValueError(
            f"{name}: found shape {bits.shape}, accepted is [rows, bits], rows "
            f">= 1 and bits 1 to {_MOST_BITS}"
        )
    return bits


def histograms_of(
    axes: int, **found: Int[np.ndarray, "..."]
) -> tuple[Int64[np.ndarray, "..."], ...]:
    """Histograms from outside, once they are seen to be such.

    Args:
        axes: that each has, 2 for `[Q, radii]`.
        **found: the histograms by name; the second is of a part of the first's items.

    Returns:
        The histograms.

    Raises:
        ValueError: numbers that are not whole, other axes, no queries, shapes that
            disagree, a negative number, or more in the part than in the whole.
    """
    accepted = "[Q, radii]" if axes == 2 else "[Q, grades, radii]"
    arrays = []
    for name, histogram in found.items():
        array = checks.host_array(name, histogram)
        if array.ndim != axes or not array.size:
            raise ValueError(
                f"{name}: found shape {array.shape}, accepted is {accepted}"
            )
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"{name}: found {array.dtype}, accepted are whole numbers of items"
            )
        if array.min() < 0:
            raise ValueError(
                f"{name}: found {array.min()}, accepted are numbers of items, >= 0"
            )
        # Not unsigned: differences are taken.
        arrays.append(array.astype(np.int64))
    (whole, *parts), (first, *names) = arrays, found
    for name, part in zip(names, parts, strict=True):
        if part.shape != whole.shape or (part > whole).any():
            raise ValueError(
                f"{name}: found shape {part.shape}, or more items than in "
                f"{first}, accepted is a part of {first}, of shape {whole.shape}"
            )
    return tuple(arrays)


def labels_of(name: str, labels: ArrayLike, rows: int) -> np.ndarray:
    """Labels as booleans `[rows, C]` or as class numbers, uint32 `[rows]`.

    Args:
        name: of the argument.
        labels: multi-hot `[rows, C]`, 0 and 1 or booleans, or class numbers `[rows]`.
        rows: that there must be.

    Returns:
        The labels.

    Raises:
        ValueError: text, one number a row that is not a whole one, another shape, a
            column `[rows, 1]`, or other values.
    """
    array = checks.host_array(name, labels)
    if array.ndim not in (1, 2) or len(array) != rows or array.shape[-1] == 0:
        raise ValueError(
            f"{name}: found shape {array.shape}, accepted is [{rows}] or "
            f"[{rows}, classes], a label for each code"
        )
    if array.ndim == 2:
        checks.check_width(name, array.shape, array)
        checks.check_multi_hot(name, array)
        return array == 1
    checks.check_class_dtype(name, array.dtype)
    checks.check_class_range(name, array, None)
    return array.astype(np.uint32)


def _words(flags: np.ndarray) -> np.ndarray:
    """Booleans `[rows, n]` as uint32 words `[rows, ceil(n / 32)]`."""
    packed = np.packbits(flags, axis=1)
    filled = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 4)))
    return np.ascontiguousarray(filled).view(np.uint32)


def _single(words: UInt32[np.ndarray, "rows V"]) -> bool:
    """Whether no row has more than one label."""
    return bool((np.bitwise_count(words).sum(axis=1) <= 1).all())


def _numbers(
    flags: Bool[np.ndarray, "rows C"], *, unlabelled: int
) -> UInt32[np.ndarray, "rows 1"]:
    """The class of each row, or `unlabelled`."""
    number = np.where(flags.any(axis=1), flags.argmax(axis=1), unlabelled)
    return number.astype(np.uint32)[:, None]
