"""The record of a split: its checks, its digest, its form on disk."""

import dataclasses
import hashlib
import json

import numpy as np
from jaxtyping import Int64

from ssah_jax.data.source import DataError, Source

_INDEX_FIELDS = ("query", "validation", "labelled", "unlabelled", "database")
# Queries in the database come first: that is how lists of published splits leak.
_DISJOINT = (
    ("query", "database"),
    ("query", "labelled"),
    ("query", "unlabelled"),
    ("query", "validation"),
    ("labelled", "unlabelled"),
    ("labelled", "validation"),
)


def without(
    rows: Int64[np.ndarray, "n"], others: Int64[np.ndarray, "m"]
) -> Int64[np.ndarray, "k"]:
    """Those of some different rows that are not among others, in their order.

    As `np.setdiff1d` of sorted rows, without its hash table, which for millions of them
    takes most of a second.
    """
    return rows[~np.isin(rows, others)]


def either(
    rows: Int64[np.ndarray, "n"], others: Int64[np.ndarray, "m"]
) -> Int64[np.ndarray, "k"]:
    """Different rows and different others, each once, sorted; see `without`."""
    return np.sort(np.concatenate([rows, without(others, rows)]))


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Who plays which part in one experiment.

    All index arrays are sorted int64 and index the pool of the source. Compare splits
    by `digest`.

    Attributes:
        protocol: the name of the rule that made it.
        seed: the seed it was made with.
        query: images that are searched with for the reported numbers, `[Q]`; no other
            set holds any of them.
        validation: images that are searched with for model selection, `[V]`. Some
            may lie in the database, which they then search without themselves.
        labelled: images whose labels training may use, `[L]`; they may lie in the
            database.
        unlabelled: images that training may use without their labels, `[U]`; none
            where all are labelled.
        database: images that are searched, `[N]`.
        num_leaks: queries that the data set also has elsewhere, where they were taken
            out; not part of the digest.
    """

    protocol: str
    seed: int
    query: Int64[np.ndarray, "Q"]
    validation: Int64[np.ndarray, "V"]
    labelled: Int64[np.ndarray, "L"]
    unlabelled: Int64[np.ndarray, "U"]
    database: Int64[np.ndarray, "N"]
    num_leaks: int = 0

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the protocol, the seed and all indices."""
        header = {"protocol": self.protocol, "seed": self.seed}
        header |= {name: len(getattr(self, name)) for name in _INDEX_FIELDS}
        digest = hashlib.sha256(json.dumps(header).encode())
        for name in _INDEX_FIELDS:
            digest.update(getattr(self, name).astype("<i8").tobytes())
        return digest.hexdigest()

    def check(self, source: Source) -> None:
        """Checks the split against the data it is of.

        Args:
            source: the data set.

        Raises:
            ValueError: indices are not strictly increasing, or out of range; sets
                that must be disjoint are not; or an image whose labels nobody knows
                is where labels are needed, in a source that has classes.
        """
        for name in _INDEX_FIELDS:
            indices = getattr(self, name)
            if np.any(np.diff(indices) <= 0):
                raise ValueError(
                    f"split: found {name} indices that repeat or are not sorted, "
                    "expected strictly increasing ones"
                )
            if len(indices) and not (indices[0] >= 0 and indices[-1] < len(source)):
                raise ValueError(
                    f"split: found {name} indices {indices[0]} to {indices[-1]}, "
                    f"expected 0 to {len(source) - 1}, the images of source "
                    f"{source.name!r}"
                )
        for one, other in _DISJOINT:
            rows = getattr(self, one)
            shared = rows[np.isin(rows, getattr(self, other))]
            if len(shared):
                few = ", ".join(source.describe(i) for i in shared[:3].tolist())
                more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
                advice = ""
                if other in ("database", "labelled") and one == "query":
                    advice = (
                        "; data.on_leak=drop takes them out of the database and of "
                        "training"
                    )
                raise ValueError(
                    f"split: found {len(shared)} images in both {one} and {other}: "
                    f"{few}{more}, expected none{advice}"
                )
        unknown = source.part("unlabelled")
        for name in _INDEX_FIELDS:
            rows = getattr(self, name)
            shared = rows[np.isin(rows, unknown)]
            if name != "unlabelled" and len(shared) and source.num_classes:
                raise ValueError(
                    f"split: found {len(shared)} {name} images whose labels are not "
                    f"known, the first of them image {shared[0]}, expected none"
                )


def find_leaks(source: Source, split: Split) -> dict[str, int]:
    """Counts queries whose very bytes also occur where they should be new.

    Compared are the pixels, or the files where `source.images` has a method
    `encoded(index) -> bytes`: reading files is much faster than decoding them, at the
    price of copies that were saved anew. Images that cannot be read are passed over.
    Real data sets hold some duplicates, so a count above zero is for a report to
    tell, not an error.

    Args:
        source: the data set; each image of the split is read once.
        split: its split.

    Returns:
        For `query_in_labelled`, `query_in_database`, `query_in_validation` and
        `query_in_unlabelled`, how many queries have a byte-identical image there.
    """
    encoded = getattr(source.images, "encoded", None)

    def digest(index: int) -> bytes | None:
        try:
            data = encoded(index) if encoded else source.images[index].tobytes()
        except (DataError, OSError):
            return None
        return hashlib.blake2b(data, digest_size=16).digest()

    # Only the queries' digests stay in memory: one image in ten or fewer.
    queries = [digest(index) for index in split.query.tolist()]
    wanted = set(queries) - {None}
    others = {name: getattr(split, name) for name in _INDEX_FIELDS if name != "query"}
    member = {name: np.zeros(len(source), bool) for name in others}
    for name, indices in others.items():
        member[name][indices] = True
    present: dict[str, set[bytes | None]] = {name: set() for name in others}
    for index in np.flatnonzero(np.any(list(member.values()), axis=0)).tolist():
        found = digest(index)
        if found in wanted:
            for name in others:
                if member[name][index]:
                    present[name].add(found)
    return {
        f"query_in_{name}": sum(query in present[name] for query in queries)
        for name in ("labelled", "database", "validation", "unlabelled")
    }


def split_to_json(split: Split) -> str:
    """The split as a JSON object: its fields, and its digest."""
    fields: dict[str, object] = {"protocol": split.protocol, "seed": split.seed}
    fields |= {name: getattr(split, name).tolist() for name in _INDEX_FIELDS}
    fields["num_leaks"] = split.num_leaks
    return json.dumps(fields | {"digest": split.digest})


def split_from_json(text: str) -> Split:
    """The split that `split_to_json` wrote.

    Args:
        text: the JSON object.

    Returns:
        The split.

    Raises:
        ValueError: the text is no such object, or does not fit its digest.
    """
    try:
        fields = json.loads(text)
        split = Split(
            protocol=str(fields["protocol"]),
            seed=int(fields["seed"]),
            num_leaks=int(fields.get("num_leaks", 0)),
            **{name: np.array(fields[name], np.int64) for name in _INDEX_FIELDS},
        )
        found = fields["digest"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"split: found no split in the JSON text ({error!r}), expected one that "
            "split_to_json wrote"
        ) from error
    if found != split.digest:
        raise ValueError(
            f"split: found indices of digest {split.digest}, expected {found}"
        )
    return split
