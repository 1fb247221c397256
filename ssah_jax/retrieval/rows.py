"""Rows of codes and of indices: adding, removing, choosing by label or path."""

import fnmatch
import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int64

from ssah_jax.retrieval.code_files import CodeSet
from ssah_jax.retrieval.files import CodeFileError
from ssah_jax.retrieval.index import Index, build_index


def take(codes: CodeSet, rows: Int64[np.ndarray, "n"]) -> CodeSet:
    """Some rows, in the order given.

    Args:
        codes: N rows.
        rows: indices in 0 .. N - 1, each once.
    """
    chosen = rows.tolist()
    ids, labels = codes.ids, codes.labels
    return CodeSet(
        tuple(ids[row] for row in chosen),
        codes.packed[rows],
        codes.bits,
        codes.fingerprint,
        None if labels is None else tuple(labels[row] for row in chosen),
    )


def without(codes: CodeSet, ids: Iterable[str], *, name: str = "codes") -> CodeSet:
    """All rows but some, in their order.

    Args:
        codes: N rows.
        ids: of those that go.
        name: what messages call the codes.

    Raises:
        CodeFileError: there is no such image, or none would be left.
    """
    gone = dict.fromkeys(ids)
    kept = [row for row, each in enumerate(codes.ids) if each not in gone]
    if len(codes.ids) - len(kept) < len(gone):
        absent = gone.keys() - set(codes.ids)
        first = next(each for each in gone if each in absent)
        raise CodeFileError(
            f"{name}: found no image {first!r} to remove ({len(absent)} of {len(gone)} "
            "are absent), expected ids as it has them"
        )
    if not kept:
        raise CodeFileError(f"{name}: found no image left, expected at least one")
    return take(codes, np.asarray(kept, np.int64))


def added(codes: CodeSet, new: CodeSet) -> CodeSet:
    """Rows and more rows; of an id in both, the new code and labels in the old place.

    Args:
        codes: N rows.
        new: of the same bits and fingerprint.
    """
    row_of = {each: row for row, each in enumerate(codes.ids)}
    known = np.asarray([row_of.get(each, -1) for each in new.ids], np.int64)
    fresh = np.flatnonzero(known < 0)
    packed = codes.packed.copy()
    packed[known[known >= 0]] = new.packed[known >= 0]
    labels = None
    if codes.labels is not None or new.labels is not None:
        theirs = new.labels or ((),) * len(new.ids)
        rows = list(codes.labels or ((),) * len(codes.ids))
        for row, names in zip(known.tolist(), theirs, strict=True):
            if row >= 0:
                rows[row] = names
        labels = (*rows, *(theirs[row] for row in fresh.tolist()))
    return CodeSet(
        (*codes.ids, *(new.ids[row] for row in fresh.tolist())),
        np.concatenate([packed, new.packed[fresh]]),
        codes.bits,
        codes.fingerprint,
        labels,
    )


def matching(
    index: Index, *, labels: Sequence[str] = (), paths: Sequence[str] = ()
) -> Int64[np.ndarray, "n"]:
    """Rows of the images that have a label and whose id is like a pattern.

    Args:
        index: N images.
        labels: names of which an image must have one; none asks for none.
        paths: patterns of which an id must match one as a whole, with `*` for
            anything, `/` included, `?` and `[...]`; none asks for none.

    Returns:
        Ascending.

    Raises:
        CodeFileError: no image of the index has such a label, or is like a pattern.
    """
    rows = np.ones(len(index.ids), bool)
    if labels:
        wanted = set(labels)
        for name in labels:
            if not index.labels or not any(name in row for row in index.labels):
                raise CodeFileError(
                    f"{index.name}: found no image with the label {name!r}"
                    f"{_some_labels(index)}"
                )
        assert index.labels is not None
        rows &= np.fromiter(
            (not wanted.isdisjoint(row) for row in index.labels), bool, len(rows)
        )
    if paths:
        like = re.compile("|".join(fnmatch.translate(path) for path in paths)).match
        rows &= np.fromiter((like(name) is not None for name in index.ids), bool)
    if not rows.any():
        raise CodeFileError(
            f"{index.name}: found no image "
            + (f"like {' or '.join(map(repr, paths))}" if paths else "")
            + (" with such a label" if labels else "")
            + ", expected at least one"
        )
    return np.flatnonzero(rows).astype(np.int64)


def among(index: Index, rows: Int64[np.ndarray, "n"]) -> Index:
    """A flat index of some rows: searched among these alone, and exactly.

    Args:
        index: of any kind.
        rows: n >= 1 of them, ascending.
    """
    return build_index(take(index.code_set(), rows))


def _some_labels(index: Index) -> str:
    if index.labels is None:
        return ", and none with any: `ssah encode --labels` keeps them"
    known = sorted({name for row in index.labels for name in row})
    more = f" and {len(known) - 10} others" if len(known) > 10 else ""
    return f", expected {', '.join(map(repr, known[:10]))}{more}"
