"""Indices of packed codes: nearest neighbours by Hamming distance, in FAISS.

| kind | what it does | finds |
| --- | --- | --- |
| `flat` | compares with every code | the exact neighbours |
| `hnsw` | walks a graph of near codes | most of them |
| `ivf` | compares with the codes of the nearest cells | most of them |
| `multihash` | looks up parts of the code in tables | all within a radius |

What each may be told is in `index_kinds.OPTIONS`.

`multihash` is multi-index hashing ("Fast Exact Search in Hamming Space with Multi-Index
Hashing", https://arxiv.org/abs/1307.2982): the code is cut into `nhash` parts of b =
floor(K / nhash) bits, each with a hash table, and a query looks up its own parts with
up to `nflip` bits of each flipped. A code at distance r differs in at most
floor(r / nhash) bits in one of the parts, so everything up to distance
nhash * (nflip + 1) - 1 is found, and what is farther only by luck. It is made for
searches within a radius: neighbours beyond it are missing, even if fewer than k are
found. A query costs nhash * (1 + b + ... + C(b, nflip)) look-ups.

HNSW: https://arxiv.org/abs/1603.09320; FAISS: https://arxiv.org/abs/2401.08281.

FAISS searches and builds with all OpenMP threads it may use: OMP_NUM_THREADS in the
environment, or `faiss.omp_set_num_threads`, limits them, also for the sake of whatever
JAX does meanwhile.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, UInt8, UInt64

from ssah_jax.retrieval.code_files import CodeSet, pack_codes
from ssah_jax.retrieval.files import CodeFileError, PathLike, one_line
from ssah_jax.retrieval.index_file import StoredIndex, read_index, write_index
from ssah_jax.retrieval.index_kinds import (
    KINDS,
    OPTIONS,
    SEARCH_OPTIONS,
    apply_search_options,
    check_names,
    check_values,
    defaults,
    deserialised,
    faiss_module,
    make,
    mirrored,
    serialised,
)
from ssah_jax.similarity import checks


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """Codes that can be searched; made by `build_index` or `load_index`.

    Attributes:
        kind: of `KINDS`.
        bits: K.
        fingerprint: of the encoder of the codes.
        ids: names of the N images.
        labels: of each image, as in `CodeSet`; None where none are known.
        options: that it was built with, defaults filled in.
        name: what messages call it: its file, once there is one.
        encoder: what images are searched by, if anything; `Index.build` and
            `with_encoder` set it.

    >>> import numpy as np
    >>> from ssah_jax import Encoder, Index
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    >>> def pixels(images):
    ...     return images[:, ::4, ::4].reshape(len(images), -1) / 255
    >>> encoder = Encoder.from_backbone(pixels, image_size=16, bits=16).fit(images)
    >>> index = Index.build(encoder, images)
    >>> distances, rows = index.search(images[:2], k=3)
    >>> rows[:, 0].tolist(), distances[:, 0].tolist(), distances.shape
    ([0, 1], [0, 0], (2, 3))
    """

    kind: str
    bits: int
    fingerprint: str
    ids: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...] | None
    options: dict[str, int]
    name: str
    _index: Any = dataclasses.field(repr=False)
    encoder: Any = dataclasses.field(default=None, repr=False)

    @classmethod
    def build(
        cls,
        source: Any,
        images: Any = None,
        *,
        ids: Sequence[str] | None = None,
        labels: Sequence[Sequence[str]] | None = None,
        kind: str = "flat",
        **options: int,
    ) -> "Index":
        """An index of images, or of codes.

        Args:
            source: what makes codes of `images`, such as `ssah_jax.Encoder`; or a
                `CodeSet`; or codes `[N, K]`, as of `search`.
            images: N of them, as `source.transform` takes them.
            ids: N different names; None for the images' paths or numbers.
            labels: names of what each image shows; None where none are known.
            kind: as of `build_index`.
            **options: as of `build_index`.

        Raises:
            ValueError: arguments do not fit each other, or there are no images.
        """
        if isinstance(source, CodeSet):
            if images is not None or ids is not None or labels is not None:
                raise ValueError(
                    "source: found a CodeSet, accepted without images, ids and labels, "
                    "which it has"
                )
            return build_index(source, kind=kind, **options)
        encoder, fingerprint = None, ""
        if hasattr(source, "transform"):
            if images is None:
                raise ValueError("images: found none, accepted are those to index")
            encoder, given = source, source.given_images(images)
            codes, fingerprint = source.transform(given), source.fingerprint
            ids = given.names if ids is None else ids
        else:
            if images is not None:
                raise ValueError(
                    f"source: found {type(source).__name__}, accepted with images is "
                    "an encoder"
                )
            codes = checks.host_array("source", source)
        bits = codes.shape[1] if codes.ndim == 2 else 0
        packed = pack_codes(codes, bits=bits)
        names = tuple(map(str, range(len(packed)) if ids is None else ids))
        if len(set(names)) < len(names):
            raise ValueError("ids: found one twice, accepted are different ones")
        known = None if labels is None else tuple(map(tuple, labels))
        found = CodeSet(names, packed, bits, fingerprint, known)
        index = build_index(found, kind=kind, **options)
        return dataclasses.replace(index, encoder=encoder)

    def with_encoder(self, encoder: Any) -> "Index":
        """The same index, searched by images too.

        Args:
            encoder: of the model that encoded what is indexed.

        Raises:
            CodeFileError: it is of another model.
        """
        check_fingerprint(self, encoder.fingerprint)
        return dataclasses.replace(self, encoder=encoder)

    def search(
        self, codes: Any, k: int = 10
    ) -> tuple[Int32[np.ndarray, "Q k"], Int64[np.ndarray, "Q k"]]:
        """The nearest codes of each query.

        Args:
            codes: `[Q, K]`, any real but NaN, binarised at 0 (0 is +1), or booleans;
                with an encoder also Q images, as its `transform` takes them.
            k: neighbours wanted, >= 1; above N it counts as N.

        Returns:
            Distances in bits, `[Q, min(k, N)]`, ascending, and rows: indices into
            `ids`, likewise; ascending among equal distances. Of equally distant codes a
            `flat` index gives those of smallest row, so its answer is unique. Where
            another finds fewer, the last rows are -1 and their distances K + 1.

        Raises:
            CodeFileError: codes have another K, or hold NaN.
            ValueError: k is below 1; codes are unsigned, 0 and 1, or many and none
                below 0.
        """
        checks.check_whole("k", k, 1)
        if self.encoder is not None and len(getattr(codes, "shape", ())) != 2:
            codes = self.encoder.transform(codes)
        codes = checks.host_array("codes", codes)
        if codes.ndim == 2 and codes.shape[1] != self.bits:
            raise CodeFileError(
                f"codes: found {codes.shape[1]} bits, expected {self.bits} as in "
                f"{self.name}"
            )
        return self._nearest(mirrored(pack_codes(codes, bits=self.bits)), k)

    def _nearest(
        self, query: UInt8[np.ndarray, "Q bytes"], k: int
    ) -> tuple[Int32[np.ndarray, "Q k"], Int64[np.ndarray, "Q k"]]:
        """As `search`, of mirrored codes."""
        count = len(self.ids)
        k = min(k, count)
        # One more tells whether the last distance goes on beyond the cut.
        wanted = min(k + 1, count) if self.kind == "flat" else k
        if not len(query):
            return np.zeros((0, k), np.int32), np.zeros((0, k), np.int64)
        distances, rows = self._index.search(query, wanted)
        distances = np.where(rows < 0, self.bits + 1, distances)
        order = np.lexsort((np.where(rows < 0, count, rows), distances))
        distances = np.take_along_axis(distances, order, axis=1).astype(np.int32)
        rows = np.take_along_axis(rows, order, axis=1).astype(np.int64)
        if wanted > k:
            cut = distances[:, k - 1]
            for q in np.flatnonzero(distances[:, k] == cut):
                first = int(np.searchsorted(distances[q], cut[q]))
                rows[q, first:k] = self._first_at(query[q], int(cut[q]), k - first)
        return distances[:, :k], rows[:, :k]

    @functools.cached_property
    def packed(self) -> UInt8[np.ndarray, "N bytes"]:
        """The codes of all rows, `[N, ceil(K / 8)]`, as in `CodeSet`."""
        faiss = faiss_module()
        if self.kind != "ivf":
            # Graphs and hash tables keep the codes in a flat index.
            flat = self._index
            if self.kind != "flat":
                flat = faiss.downcast_IndexBinary(flat.storage)
            stored = faiss.vector_to_array(flat.xb)
            return mirrored(stored.reshape(len(self.ids), -1))
        lists, size = self._index.invlists, self._index.code_size
        packed = np.zeros((len(self.ids), size), np.uint8)
        for number in range(self._index.nlist):
            count = lists.list_size(number)
            if count:
                rows = faiss.rev_swig_ptr(lists.get_ids(number), count)
                codes = faiss.rev_swig_ptr(lists.get_codes(number), count * size)
                packed[rows] = mirrored(codes.reshape(count, size))
        return packed

    def code_set(self) -> CodeSet:
        """What is indexed, as codes."""
        return CodeSet(self.ids, self.packed, self.bits, self.fingerprint, self.labels)

    def search_packed(
        self, packed: UInt8[np.ndarray, "Q bytes"], k: int
    ) -> tuple[Int32[np.ndarray, "Q k"], Int64[np.ndarray, "Q k"]]:
        """As `search`, of codes that are packed as in `CodeSet`."""
        checks.check_whole("k", k, 1)
        return self._nearest(mirrored(packed), k)

    def tune(self, **options: int) -> None:
        """Changes how a query is searched, for this object and what it saves.

        Args:
            **options: of `SEARCH_OPTIONS`, what the kind knows.

        Raises:
            ValueError: the kind knows no such option, or no such value.
        """
        known = [name for name in OPTIONS[self.kind] if name in SEARCH_OPTIONS]
        check_names(self.kind, options, known)
        merged = self.options | options
        check_values(self.kind, merged, count=len(self.ids), bits=self.bits)
        self.options.update(options)
        apply_search_options(self._index, self.options)

    def save(self, path: PathLike) -> None:
        """Writes all of it into one file, atomically.

        Args:
            path: replaced if it is there.

        Raises:
            CodeFileError: it cannot be written.
        """
        parts = StoredIndex(
            self.kind,
            self.bits,
            self.fingerprint,
            self.ids,
            self.labels,
            self.options,
            self._index,
        )
        write_index(path, parts)

    def _first_at(
        self, query: UInt8[np.ndarray, "bytes"], distance: int, wanted: int
    ) -> Int64[np.ndarray, "wanted"]:
        """The first rows at a distance, of which there are enough."""
        words = _words(query[None])[:, 0]
        found: list[np.ndarray] = []
        start, size = 0, 4096
        while wanted > 0:
            block = self._flat_words[:, start : start + size]
            at = np.zeros(block.shape[1], np.int32)
            for word, code in zip(words, block, strict=True):
                at += np.bitwise_count(code ^ word)
            rows = np.flatnonzero(at == distance)[:wanted]
            found.append(start + rows)
            wanted -= len(rows)
            start, size = start + size, min(4 * size, 65536)
        return np.concatenate(found)

    @functools.cached_property
    def _flat_words(self) -> UInt64[np.ndarray, "W N"]:
        """The codes of a flat index once more, for `_first_at`."""
        codes = faiss_module().vector_to_array(self._index.xb)
        return _words(codes.reshape(len(self.ids), self._index.code_size))


def build_index(codes: CodeSet, *, kind: str = "flat", **options: int) -> Index:
    """An index of codes.

    Args:
        codes: N >= 1 of them.
        kind: of `KINDS`; the module's docstring tells them apart.
        **options: those of the kind in `OPTIONS`.

    Returns:
        The index.

    Raises:
        CodeFileError: there are no codes.
        ValueError: `codes` is no CodeSet; there is no such kind, or it knows no such
            option or value; FAISS is not installed.
    """
    if not isinstance(codes, CodeSet):
        raise ValueError(
            f"codes: found {type(codes).__name__}, accepted is a CodeSet, as of "
            "read_codes"
        )
    if kind not in KINDS:
        raise ValueError(f"kind: found {kind!r}, accepted are {', '.join(KINDS)}")
    count, bits = codes.packed.shape[0], codes.bits
    if not count:
        raise CodeFileError("codes: found none, expected at least one to index")
    check_names(kind, options, [*OPTIONS[kind]])
    options = defaults(kind, options, count=count, bits=bits)
    check_values(kind, options, count=count, bits=bits)
    packed = mirrored(codes.packed)
    index = make(kind, options, packed, bits=bits)
    index.add(packed)
    apply_search_options(index, options)
    return Index(
        kind=kind,
        bits=bits,
        fingerprint=codes.fingerprint,
        ids=codes.ids,
        labels=codes.labels,
        options=options,
        name="index",
        _index=index,
    )


def with_rows(index: Index, codes: CodeSet) -> Index:
    """An index of other rows, made as another one was.

    Args:
        index: whose kind, options and, where it has them, cells are taken.
        codes: N >= 1 rows, of its bits and fingerprint.

    Returns:
        An index of all of `codes`. An `ivf` one keeps its cells, an `hnsw` one its
        graph if its rows are the first of `codes`; otherwise it is as built anew.
    """
    count, options = len(codes.ids), dict(index.options)
    before = len(index.ids)
    if index.kind == "ivf" and count >= options["nlist"]:
        inner = deserialised(serialised(index._index))
        inner.reset()
        inner.add(mirrored(codes.packed))
    elif index.kind == "hnsw" and (
        count >= before and np.array_equal(codes.packed[:before], index.packed)
    ):
        inner = deserialised(serialised(index._index))
        inner.add(mirrored(codes.packed[before:]))
    else:
        if index.kind == "ivf":
            options = {name: min(value, count) for name, value in options.items()}
        return build_index(codes, kind=index.kind, **options)
    apply_search_options(inner, options)
    return dataclasses.replace(
        index, ids=codes.ids, labels=codes.labels, options=options, _index=inner
    )


def load_index(path: PathLike) -> Index:
    """The index in a file that `Index.save` wrote.

    Nothing in the file is executed, and damage is noticed before FAISS sees it; yet
    FAISS was not made for files of somebody who means harm.

    Args:
        path: the file.

    Returns:
        The index.

    Raises:
        CodeFileError: the file is absent, damaged or something else.
        ValueError: FAISS is not installed.
    """
    stored = read_index(path)
    return Index(
        kind=stored.kind,
        bits=stored.bits,
        fingerprint=stored.fingerprint,
        ids=stored.ids,
        labels=stored.labels,
        options=stored.options,
        name=one_line(path),
        _index=stored.faiss,
    )


def check_fingerprint(index: Index, fingerprint: str) -> None:
    """Check that queries are of the encoder that the index is of.

    Args:
        index: to be searched.
        fingerprint: of the queries' encoder.

    Raises:
        CodeFileError: they are not, so distances would mean nothing.
    """
    if index.fingerprint != fingerprint:
        raise CodeFileError(
            f"{index.name}: made by model {index.fingerprint}, found queries of model "
            f"{fingerprint}, expected those of one model; encode and index again"
        )


def _words(packed: UInt8[np.ndarray, "n bytes"]) -> UInt64[np.ndarray, "W n"]:
    """Packed codes as 64-bit words, filled with zeros, a word a row."""
    filled = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
    return np.ascontiguousarray(filled.view(np.uint64).T)
