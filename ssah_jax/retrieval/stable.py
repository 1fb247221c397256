"""Average precision on one fixed order of ties, as the field's tables are made.

Order: by distance, then by place in the database, on every backend. What published
code calls mAP differs, beside the order of ties, in what the sum is divided by and
in which queries the mean leaves out; `CONVENTIONS` names the variants.
"""

from typing import Literal, NamedTuple, cast, get_args

import numpy as np
from jaxtyping import Float64, Shaped

from ssah_jax.retrieval.histograms import key_blocks
from ssah_jax.retrieval.inputs import ArrayLike, PackedSets, check_top_k, pack_sets

Denominator = Literal["retrieved", "relevant", "capped"]

# Most two-byte keys held at once: queries of a block times the database, 64 MiB.
_KEYS_AT_ONCE = 1 << 25


class Convention(NamedTuple):
    """How a published mAP is averaged.

    Attributes:
        denominator: of a query's sum: relevant items "retrieved" inside the cut-off,
            all "relevant" items R of the database, or R "capped" at the cut-off.
        skip_empty: leave queries without a relevant item inside the cut-off out of
            the mean, which inflates it; else they count 0.
        skip_unlabelled: leave queries without any label out of the mean.
        drop_last: without a cut-off, leave out the last rank of the database.
    """

    denominator: Denominator
    skip_empty: bool = False
    skip_unlabelled: bool = False
    drop_last: bool = False


CONVENTIONS: dict[str, Convention] = {
    # https://github.com/swuxyj/DeepHash-pytorch, and so GreedyHash, SSDPH, OrthoHash.
    "deephash_pytorch": Convention("retrieved"),
    # The same as published code computes it for its topK = -1, which is meant to be
    # all: a slice [0:-1] loses the last rank.
    "deephash_pytorch_all": Convention("retrieved", drop_last=True),
    # https://github.com/thuml/HashNet, and so DeepHash (TensorFlow) and HashGAN.
    "hashnet": Convention("retrieved", skip_empty=True),
    # https://github.com/yuanli2333/Hadamard-Matrix-for-hashing.
    "csq": Convention("retrieved", skip_unlabelled=True),
    # Information retrieval's, as in https://github.com/KevinMusgrave/pytorch-metric-learning.
    "total_relevant": Convention("relevant"),
    # The same with 1 for a perfect top k: what expected AP@k is divided by, too.
    "capped": Convention("capped"),
}
"""Named variants of a published mAP."""


def stable_average_precision(
    query_codes: Shaped[ArrayLike, "Q K"],
    query_labels: Shaped[ArrayLike, "..."],
    database_codes: Shaped[ArrayLike, "N _"],
    database_labels: Shaped[ArrayLike, "..."],
    *,
    top_k: int | None = None,
    denominator: str = "retrieved",
    skip_empty: bool = False,
    skip_unlabelled: bool = False,
    drop_last: bool = False,
) -> Float64[np.ndarray, "kept"]:
    """Average precision with ties in database order.

    With "retrieved", AP@k can fall when retrieval improves: one hit at rank 1 is 1,
    hits at ranks 1 and 3 are 0.83.

    Args:
        query_codes: `[Q, K]`, any real but NaN, binarised at 0 (0 is +1), or booleans.
        query_labels: multi-hot `[Q, C]` in {0, 1}, or class numbers `[Q]` >= 0.
        database_codes: `[N, K]`, likewise.
        database_labels: `[N, C]` or `[N]`, of the same kind as `query_labels`.
        top_k: ranks counted, >= 1; None for all.
        denominator: "retrieved", "relevant" or "capped", as in `Convention`.
        skip_empty: leave out queries without a relevant item inside the cut-off.
        skip_unlabelled: leave out queries without any label.
        drop_last: with `top_k` None, leave out the last rank.

    Returns:
        `[kept]` in [0, 1], one value a query that is not left out, in their order;
        `[Q]` unless something is skipped.

    Raises:
        ValueError: inputs that disagree or are empty, NaN, an unknown denominator,
            `top_k` below 1.
    """
    check_top_k(top_k)
    if denominator not in get_args(Denominator):
        raise ValueError(
            f"denominator: found {denominator!r}; accepted are "
            f"{', '.join(get_args(Denominator))}"
        )
    sets = pack_sets(query_codes, query_labels, database_codes, database_labels)
    convention = Convention(
        cast(Denominator, denominator), skip_empty, skip_unlabelled, drop_last
    )
    return stable_of_sets(sets, convention, top_k=top_k)


def stable_of_sets(
    sets: PackedSets, convention: Convention, *, top_k: int | None = None
) -> Float64[np.ndarray, "kept"]:
    """`stable_average_precision` of sets that are packed already.

    Args:
        sets: packed queries and database.
        convention: denominator and queries left out.
        top_k: ranks counted, >= 1; None for all.

    Returns:
        `[kept]` in [0, 1].
    """
    num_query, size = len(sets.query_code), len(sets.database_code)
    cut = size - convention.drop_last if top_k is None else min(top_k, size)
    total, hits, relevant = np.zeros((3, num_query))
    block = max(1, min(256, _KEYS_AT_ONCE // size))
    keys = np.empty((min(block, num_query), size), np.uint16)
    # A pair's place in the order and its relevance in one integer: sorting values
    # is much faster than sorting indices, and unique values need no stable sort.
    wide = _dtype_for(2 * size * (sets.bits + 1))
    place, index = wide(2 * size), 2 * np.arange(size, dtype=wide)
    order, hit = np.empty((2, size), wide)
    number = np.arange(1.0, size + 1)
    for rows, part, values in key_blocks(sets, query_block=block, database_block=65536):
        keys[: len(values), part] = values
        if part.stop < size:
            continue
        for row, key in enumerate(keys[: len(values)], start=rows.start):
            # In place: memory for new arrays would take longer than the arithmetic.
            np.bitwise_and(key, 1, out=hit, casting="unsafe")
            np.right_shift(key, 1, out=order, casting="unsafe")
            np.multiply(order, place, out=order)
            np.add(order, index, out=order)
            np.add(order, hit, out=order)
            relevant[row] = np.count_nonzero(hit)
            first = order
            if cut < size:
                order.partition(max(cut - 1, 0))
                first = order[:cut]
            first.sort()
            ranks = np.flatnonzero((first & wide(1)).astype(bool)) + 1
            hits[row] = len(ranks)
            total[row] = (number[: len(ranks)] / ranks).sum()
    whole = {
        "retrieved": hits,
        "relevant": relevant,
        "capped": np.minimum(relevant, cut),
    }[convention.denominator]
    precision = np.where(whole > 0, total / np.maximum(whole, 1), 0.0)
    keep = np.ones(num_query, bool)
    if convention.skip_empty:
        keep &= hits > 0
    if convention.skip_unlabelled:
        keep &= sets.labelled
    return precision[keep]


def _dtype_for(places: int) -> type[np.uint32] | type[np.uint64]:
    """The narrowest unsigned integers that hold `places` values; they sort faster."""
    return np.uint32 if places <= 1 << 32 else np.uint64
