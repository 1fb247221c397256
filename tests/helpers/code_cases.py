"""Codes drawn at random, sets and files of them."""

import numpy as np

from ssah_jax.retrieval import CodeSet, CodeWriter

RNG = np.random.default_rng(0)


def codes_of(rows, bits=12):
    return RNG.normal(size=(rows, bits)).astype(np.float32)


def write(path, ids, codes, labels=None, *, fingerprint="f", **options):
    with CodeWriter(
        path, bits=codes.shape[1], fingerprint=fingerprint, **options
    ) as writer:
        writer.write(ids, codes, labels)
        writer.finish()


def code_set(codes, **fields):
    ids = tuple(f"{row}.jpg" for row in range(len(codes)))
    packed = np.packbits(codes >= 0, axis=1)
    return CodeSet(
        **{"ids": ids, "packed": packed, "bits": codes.shape[1], "fingerprint": "f"}
        | fields
    )


def assert_equal(found, wanted):
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)
