"""Near copies: images that were scaled, cropped a little or saved anew.

Source of the hash: N. Krawetz, "Kind of Like That", The Hacker Factor Blog, 2013
(dHash): signs of the differences between neighbouring grey values of a tiny picture.
"""

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt64
from PIL import Image

_SIDE: Final = 8
_THUMBNAIL: Final = 16
_MAX_BITS: Final = 14
_MAX_DIFFERENCE: Final = 0.3
_MIN_CONTRAST: Final = 4.0
_CHUNK: Final = 1 << 22


class Fingerprint(NamedTuple):
    """What near copies share.

    Attributes:
        bits: two dHashes, along rows and along columns, 64 bits each, `[2]`.
        thumbnail: of mean 0 and deviation 1, `[256]`; zero for an even picture.
    """

    bits: UInt64[np.ndarray, "2"]
    thumbnail: Float32[np.ndarray, "256"]


def fingerprint(image: UInt8[np.ndarray, "H W ch"]) -> Fingerprint:
    """Fingerprint of an image, uint8 `[H, W, ch]` of 1 or 3 channels."""
    array = image[:, :, 0] if image.shape[2] == 1 else image
    grey = Image.fromarray(array).convert("L")

    def small(width: int, height: int) -> Float32[np.ndarray, "h w"]:
        resized = grey.resize((width, height), Image.Resampling.BOX)
        return np.asarray(resized, np.float32)

    along_rows = np.diff(small(_SIDE + 1, _SIDE), axis=1) > 0
    along_columns = np.diff(small(_SIDE, _SIDE + 1), axis=0) > 0
    packed = np.packbits(np.stack([along_rows.ravel(), along_columns.ravel()]), axis=1)
    thumbnail = small(_THUMBNAIL, _THUMBNAIL).ravel()
    deviation = float(thumbnail.std())
    if deviation < _MIN_CONTRAST:
        return Fingerprint(packed.view(np.uint64)[:, 0], np.zeros_like(thumbnail))
    scaled = (thumbnail - thumbnail.mean()) / deviation
    return Fingerprint(packed.view(np.uint64)[:, 0], scaled.astype(np.float32))


def nearest_copies(
    query_bits: UInt64[np.ndarray, "Q 2"],
    query_thumbnails: Float32[np.ndarray, "Q 256"],
    bits: UInt64[np.ndarray, "N 2"],
    thumbnails: Float32[np.ndarray, "N 256"],
) -> Int64[np.ndarray, "Q"]:
    """For each query the nearest near copy, by its fingerprints.

    Near copies are images whose hashes differ in at most 14 of 128 bits and whose
    thumbnails differ by at most 0.3 of their deviation (root mean square). Even
    pictures have no copies: they are all alike.

    Args:
        query_bits: `[Q, 2]`, of `fingerprint`.
        query_thumbnails: `[Q, 256]`.
        bits: `[N, 2]`.
        thumbnails: `[N, 256]`.

    Returns:
        `[Q]`, an index into N, or -1.
    """
    found = np.full(len(query_bits), -1, np.int64)
    rows = max(_CHUNK // max(len(bits), 1), 1)
    for start in range(0, len(query_bits), rows):
        chunk = query_bits[start : start + rows]
        distance = np.zeros((len(chunk), len(bits)), np.int16)
        for word in range(bits.shape[1]):
            distance += np.bitwise_count(chunk[:, word, None] ^ bits[None, :, word])
        pairs = np.argwhere(distance <= _MAX_BITS)
        one, other = query_thumbnails[start + pairs[:, 0]], thumbnails[pairs[:, 1]]
        difference = np.sqrt(np.mean(np.square(one - other), axis=1))
        near = (difference <= _MAX_DIFFERENCE) & one.any(axis=1) & other.any(axis=1)
        # The nearest one is written last.
        for place in sorted(np.flatnonzero(near), key=lambda i: -difference[i]):
            found[start + pairs[place, 0]] = pairs[place, 1]
    return found
