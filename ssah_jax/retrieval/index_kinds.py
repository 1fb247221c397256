"""What FAISS needs of each kind of index: its options, their ranges, its class."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8

KINDS: Final = ("flat", "hnsw", "ivf", "multihash")
"""The words for what `build_index` makes."""

OPTIONS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "flat": {},
        "hnsw": {
            "m": "links of a code to others, 2 or more (default 32)",
            "ef_construction": "candidates when a code is linked (default 100)",
            "ef_search": "candidates when a query is searched (default 128)",
        },
        "ivf": {
            "nlist": "cells, up to the number of codes (default its square root)",
            "nprobe": "cells that a query is compared with (default nlist / 8)",
        },
        "multihash": {
            "nhash": "parts of the code, up to its bits (default bits / log2(codes))",
            "nflip": "bits flipped in each part (default 1)",
        },
    }
)
"""What each kind may be told, and what that means."""

SEARCH_OPTIONS: Final = ("ef_search", "nprobe", "nflip")
"""Those of `OPTIONS` that `Index.tune` changes."""

CLASSES: Final = {
    "flat": "IndexBinaryFlat",
    "hnsw": "IndexBinaryHNSW",
    "ivf": "IndexBinaryIVF",
    "multihash": "IndexBinaryMultiHash",
}
# Longer parts would leave the tables all but empty.
_MOST_HASH_BITS: Final = 32
# Flipping the bits of each byte: FAISS cuts codes for hashing from the lowest bit on.
_MIRRORED: Final = np.packbits(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1),
    axis=1,
    bitorder="little",
)[:, 0]


def make(
    kind: str,
    options: Mapping[str, int],
    packed: UInt8[np.ndarray, "N bytes"],
    *,
    bits: int,
) -> Any:
    """FAISS's index of a kind, without any codes.

    Args:
        kind: of `KINDS`.
        options: all of the kind's.
        packed: the codes that it is for, `mirrored`; cells are learnt from them.
        bits: K.
    """
    faiss = faiss_module()
    padded = 8 * packed.shape[1]
    if kind == "flat":
        index = faiss.IndexBinaryFlat(padded)
    elif kind == "hnsw":
        index = faiss.IndexBinaryHNSW(padded, options["m"])
        index.hnsw.efConstruction = options["ef_construction"]
    elif kind == "ivf":
        quantizer = faiss.IndexBinaryFlat(padded)
        index = faiss.IndexBinaryIVF(quantizer, padded, options["nlist"])
        # FAISS would warn on standard error of what is right for small sets.
        index.cp.min_points_per_centroid = 1
        index.train(packed)
    else:
        nhash = options["nhash"]
        index = faiss.IndexBinaryMultiHash(padded, nhash, bits // nhash)
    return index


def defaults(
    kind: str, options: Mapping[str, int], *, count: int, bits: int
) -> dict[str, int]:
    """`options` with what is not there filled in."""
    chosen = dict(options)
    if kind == "hnsw":
        chosen = {"m": 32, "ef_construction": 100, "ef_search": 128} | chosen
    elif kind == "ivf":
        nlist = chosen.setdefault("nlist", math.isqrt(count))
        chosen.setdefault("nprobe", -(-nlist // 8))
    elif kind == "multihash":
        # About as many entries in a hash table as codes, as its authors advise.
        part = max(1.0, min(math.log2(count), _MOST_HASH_BITS))
        nhash = max(1, round(bits / part), -(-bits // _MOST_HASH_BITS))
        chosen = {"nhash": nhash, "nflip": 1} | chosen
    return chosen


def check_names(kind: str, options: Mapping[str, int], known: list[str]) -> None:
    """Refuses options that are not among `known`."""
    for name in options:
        if name not in known:
            accepted = f"accepted are {', '.join(known)}" if known else "it has none"
            raise ValueError(f"options of {kind}: found {name!r}, {accepted}")


def check_values(
    kind: str, options: Mapping[str, int], *, count: int, bits: int
) -> None:
    """Check options that are all there."""
    ranges = {"m": (2, 1024), "ef_construction": (1, None), "ef_search": (1, None)}
    if kind == "ivf":
        ranges = {"nlist": (1, count), "nprobe": (1, options["nlist"])}
    elif kind == "multihash":
        nhash = options["nhash"]
        ranges = {"nhash": (-(-bits // _MOST_HASH_BITS), bits)}
        ranges["nflip"] = (0, bits // nhash if nhash > 0 else None)
    for name, value in options.items():
        least, most = ranges[name]
        if type(value) is not int or value < least or (most and value > most):
            accepted = f"{least} to {most}" if most else f"{least} or more"
            raise ValueError(f"{name}: found {value!r}, accepted is {accepted}")


def apply_search_options(index: Any, options: Mapping[str, int]) -> None:
    """Tells FAISS's index those of `options` that searches go by."""
    if "ef_search" in options:
        index.hnsw.efSearch = options["ef_search"]
    if "nprobe" in options:
        index.nprobe = options["nprobe"]
    if "nflip" in options:
        index.nflip = options["nflip"]


def serialised(index: Any) -> UInt8[np.ndarray, "bytes"]:
    """FAISS's index as bytes."""
    return np.asarray(faiss_module().serialize_index_binary(index))


def faiss_module() -> Any:
    """FAISS, which takes a while to import, and brings threads of its own."""
    try:
        import faiss
    except ImportError as error:
        raise ValueError(
            "faiss: found none, expected the package faiss-cpu (pip install faiss-cpu)"
        ) from error
    return faiss


def deserialised(stored: UInt8[np.ndarray, "bytes"]) -> Any:
    """FAISS's index; none of its parts may claim to be larger than all of it."""
    faiss = faiss_module()
    before = faiss.get_deserialization_vector_byte_limit()
    faiss.set_deserialization_vector_byte_limit(len(stored))
    try:
        return faiss.deserialize_index_binary(stored)
    finally:
        faiss.set_deserialization_vector_byte_limit(before)


def mirrored(packed: UInt8[np.ndarray, "n bytes"]) -> UInt8[np.ndarray, "n bytes"]:
    """Packed codes in FAISS's bit order, so that filling comes last there too."""
    return np.ascontiguousarray(_MIRRORED[packed])
