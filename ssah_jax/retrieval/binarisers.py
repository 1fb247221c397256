"""Codes of anybody's features without labels: rotations, projections and their signs.

Every kind here is one affine map and a sign, `sign((x - mean) W)`, learnt from features
alone; what a trained H-Net must beat.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int8, Shaped
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ssah_jax.retrieval.inputs import ArrayLike
from ssah_jax.similarity import checks

_CHUNK = 8192

ITERATIONS = 50
"""Of ITQ, as in its paper."""


@dataclasses.dataclass(frozen=True, eq=False)
class Binariser:
    """Features to codes, by an affine map and a sign.

    `Binariser.fit(features, kind="itq", bits=64).apply(others)`. Rows are brought to
    unit length first, since features of networks are compared by their cosine.

    Attributes:
        kind: one of `KINDS`.
        mean: what is taken off unit features, `[D]`.
        projection: directions whose side is a bit, `[D, K]`.
    """

    kind: str
    mean: Float32[np.ndarray, "D"]
    projection: Float32[np.ndarray, "D K"]

    @property
    def bits(self) -> int:
        """K."""
        return self.projection.shape[1]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits; codes compare only where theirs are equal."""
        digest = hashlib.sha256(repr(self.projection.shape).encode())
        for array in (self.mean, self.projection):
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    @classmethod
    def fit(
        cls, features: Shaped[ArrayLike, "N D"], *, kind: str, bits: int, seed: int = 0
    ) -> "Binariser":
        """Learn from the features of some images.

        Kinds, with unit features less their mean, since features behind a ReLU are
        nowhere negative:

        - "sign": the sign of each number, so that `bits` is D;
        - "lsh": Gaussian directions (Charikar, "Similarity Estimation Techniques from
          Rounding Algorithms", STOC 2002);
        - "pca": the K directions of largest variance;
        - "random-rotation": these, turned at random, so that bits share the variance
          ("PCA-RR" of the paper on ITQ);
        - "itq": these, turned so that codes lose least (Gong and Lazebnik, "Iterative
          Quantization: A Procrustean Approach to Learning Binary Codes", CVPR 2011).

        Args:
            features: any real, `[N, D]`, of at least two images.
            kind: one of `KINDS`.
            bits: K; at most D, and for all that look at the variance at most N.
            seed: of what is drawn at random.

        Raises:
            ValueError: an argument is none of these, or a feature is no number.
        """
        x = _unit_rows(features)
        number, width = x.shape
        checks.check_whole("seed", seed, 0)
        check_fit(number, width, kind=kind, bits=bits)
        mean = x.mean(axis=0)
        projection = KINDS[kind](x - mean, bits, np.random.default_rng(seed))
        return cls(kind, mean.astype("f4"), projection.astype("f4"))

    def apply(self, features: Shaped[ArrayLike, "N D"]) -> Int8[np.ndarray, "N K"]:
        """Codes of features, `[N, K]` in {-1, +1}.

        Args:
            features: any real, `[N, D]`.

        Raises:
            ValueError: they have not the D of `fit`, or one is no number.
        """
        return np.where(self.project(features) >= 0, 1, -1).astype(np.int8)

    transform = apply

    def project(self, features: Shaped[ArrayLike, "N D"]) -> Float32[np.ndarray, "N K"]:
        """What the signs are taken of, `[N, K]`, any real; as of `apply`."""
        x = _checked_rows(features)
        if x.shape[1] != len(self.mean):
            raise ValueError(
                f"features: found {x.shape[1]} numbers a row, accepted are "
                f"{len(self.mean)} as in fit"
            )
        found = np.empty((len(x), self.bits), np.float32)
        for start in range(0, len(x), _CHUNK):
            some = _units(x[start : start + _CHUNK].astype(np.float32)) - self.mean
            found[start : start + _CHUNK] = (
                some if self.kind == "sign" else some @ self.projection
            )
        return found

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write one file, in the safetensors format; it appears when it is whole.

        Args:
            path: the file, replaced if it is there.
            metadata: what else its header is to say, under names but "binariser".
        """
        arrays = {"mean": self.mean, "projection": self.projection}
        kind = {"binariser": json.dumps({"kind": self.kind})}
        content = save(arrays, metadata={**(metadata or {}), **kind})
        partial = Path(f"{os.fspath(path)}.partial")
        partial.write_bytes(content)
        partial.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Binariser":
        """Read what `save` wrote.

        Raises:
            ValueError: the file holds no binariser.
            OSError: it cannot be read.
        """
        where = os.fspath(path)
        try:
            with safe_open(where, framework="np") as file:
                kind = json.loads(file.metadata()["binariser"])["kind"]
                mean, projection = (
                    file.get_tensor(name) for name in ("mean", "projection")
                )
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{where}: found no binariser ({error}), accepted is a file of "
                "Binariser.save"
            ) from None
        if kind not in KINDS or projection.shape[:1] != mean.shape:
            raise ValueError(f"{where}: found a damaged binariser")
        return cls(kind, mean, projection)


def check_fit(number: int, width: int, *, kind: str, bits: int) -> None:
    """Check that `Binariser.fit` can learn, before anything is computed.

    Args:
        number: of images to learn from, N.
        width: of their features, D.
        kind: as of `Binariser.fit`.
        bits: as of `Binariser.fit`.

    Raises:
        ValueError: it cannot.
    """
    check_kind(kind)
    checks.check_whole("bits", bits)
    if number < 2:
        raise ValueError(f"features: found {number} rows, accepted are at least 2")
    if kind == "sign":
        if bits != width:
            raise ValueError(
                f"bits: found {bits}, accepted for sign is one for each of the "
                f"{width} features"
            )
        return
    most = width if kind == "lsh" else min(width, number)
    if not 1 <= bits <= most:
        raise ValueError(
            f"bits: found {bits}, accepted for {kind} are 1 to {most}, with "
            f"{number} images of {width} features"
        )


def check_kind(kind: str) -> None:
    """Check that there is such a kind of `Binariser`.

    Raises:
        ValueError: there is none.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind: found {kind!r}, accepted are {', '.join(KINDS)}")


def _unit_rows(features: Shaped[ArrayLike, "N D"]) -> Float[np.ndarray, "N D"]:
    return _units(_checked_rows(features).astype(np.float64))


def _checked_rows(features: Shaped[ArrayLike, "..."]) -> Float[np.ndarray, "N D"]:
    x = checks.host_array("features", features)
    if x.dtype.kind != "f":
        x = x.astype(np.float32)
    if x.ndim != 2:
        raise ValueError(f"features: found shape {x.shape}, accepted is [N, D]")
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise ValueError(
            f"features: found a value that is no finite number in row {bad[0]}"
        )
    return x


def _units(x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.maximum(length, np.finfo(np.float32).tiny)


def _lsh(x: np.ndarray, bits: int, draw: np.random.Generator) -> np.ndarray:
    return draw.standard_normal((x.shape[1], bits))


def _pca(x: np.ndarray, bits: int, draw: np.random.Generator) -> np.ndarray:
    _, vectors = np.linalg.eigh(x.T @ x)
    top = vectors[:, ::-1][:, :bits]
    # A direction and its opposite are one to the eigenvectors, and two codes to us.
    largest = np.take_along_axis(top, np.abs(top).argmax(axis=0)[None], axis=0)
    return top * np.where(largest < 0, -1.0, 1.0)


def _random_rotation(x: np.ndarray, bits: int, draw: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(draw.standard_normal((bits, bits)))
    # Uniform over rotations only with the signs of R's diagonal.
    return _pca(x, bits, draw) @ (q * np.sign(np.diag(r)))


def _itq(x: np.ndarray, bits: int, draw: np.random.Generator) -> np.ndarray:
    top = _pca(x, bits, draw)
    reduced = x @ top
    rotation = np.linalg.qr(draw.standard_normal((bits, bits)))[0]
    for _ in range(ITERATIONS):
        codes = np.where(reduced @ rotation >= 0, 1.0, -1.0)
        left, _, right = np.linalg.svd(reduced.T @ codes)
        rotation = left @ right
    return top @ rotation


KINDS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    # "sign" has nothing to learn.
    "sign": lambda x, bits, draw: np.eye(bits),
    "pca": _pca,
    "itq": _itq,
    "lsh": _lsh,
    "random-rotation": _random_rotation,
}
"""Accepted words, and how each finds its directions in centred features."""
