"""The record of a split: its checks, its digest, its form on disk."""

import dataclasses
import hashlib
import json

import numpy as np
from jaxtyping import Int64

from ssah_jax.data.sources import Part, Source

_TEST_FIELDS = ("query", "validation")
_TRAIN_FIELDS = ("labelled", "unlabelled", "database")
_INDEX_FIELDS = _TEST_FIELDS + _TRAIN_FIELDS
_DISJOINT = (
    ("query", "validation"),
    ("labelled", "unlabelled"),
    ("labelled", "database"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Who plays which part in one experiment.

    All index arrays are sorted int64. Compare splits by `digest`.

    Attributes:
        protocol: the name of the rule that made it.
        seed: the seed it was made with.
        query: test images that are searched with for the reported numbers, `[Q]`.
        validation: test images that are searched with for model selection, `[V]`.
        labelled: training images whose labels may be used, `[L]`.
        unlabelled: training images whose labels may not be used, `[U]`.
        database: training images that are searched, `[N]`.
    """

    protocol: str
    seed: int
    query: Int64[np.ndarray, "Q"]
    validation: Int64[np.ndarray, "V"]
    labelled: Int64[np.ndarray, "L"]
    unlabelled: Int64[np.ndarray, "U"]
    database: Int64[np.ndarray, "N"]

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
            ValueError: indices are not strictly increasing, or out of range, or
                sets that must be disjoint are not.
        """
        for name in _INDEX_FIELDS:
            indices = getattr(self, name)
            part = "test" if name in _TEST_FIELDS else "train"
            size = len(getattr(source, part))
            if np.any(np.diff(indices) <= 0):
                raise ValueError(
                    f"split: found {name} indices that repeat or are not sorted, "
                    "expected strictly increasing ones"
                )
            if len(indices) and not (indices[0] >= 0 and indices[-1] < size):
                raise ValueError(
                    f"split: found {name} indices {indices[0]} to {indices[-1]}, "
                    f"expected 0 to {size - 1}, the images of source.{part}"
                )
        for one, other in _DISJOINT:
            shared = np.intersect1d(getattr(self, one), getattr(self, other))
            if len(shared):
                raise ValueError(
                    f"split: found {len(shared)} images in both {one} and {other}, "
                    "expected none"
                )


def find_leaks(source: Source, split: Split) -> dict[str, int]:
    """Counts queries whose very pixels also occur where they should be new.

    Real data sets hold some duplicates, so a count above zero is for a report to
    tell, not an error.

    Args:
        source: the data set.
        split: its split.

    Returns:
        For `query_in_labelled`, `query_in_database` and `query_in_validation`, how
        many queries have a byte-identical image there.
    """

    def hashes(part: Part, indices: Int64[np.ndarray, "N"]) -> list[bytes]:
        return [
            hashlib.blake2b(part.images[int(i)].tobytes(), digest_size=16).digest()
            for i in indices
        ]

    queries = hashes(source.test, split.query)
    others = {
        "labelled": (source.train, split.labelled),
        "database": (source.train, split.database),
        "validation": (source.test, split.validation),
    }
    counts = {}
    for name, (part, indices) in others.items():
        present = set(hashes(part, indices))
        counts[f"query_in_{name}"] = sum(query in present for query in queries)
    return counts


def split_to_json(split: Split) -> str:
    """The split as a JSON object: its fields, and its digest."""
    fields: dict[str, object] = {"protocol": split.protocol, "seed": split.seed}
    fields |= {name: getattr(split, name).tolist() for name in _INDEX_FIELDS}
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
