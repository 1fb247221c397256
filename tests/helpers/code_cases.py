"""Files of codes, drawn at random."""

import numpy as np

from ssah_jax.retrieval import CodeWriter

RNG = np.random.default_rng(0)


def codes_of(rows, bits=12):
    return RNG.normal(size=(rows, bits)).astype(np.float32)


def write(path, ids, codes, labels=None, *, fingerprint="f", **options):
    with CodeWriter(
        path, bits=codes.shape[1], fingerprint=fingerprint, **options
    ) as writer:
        writer.write(ids, codes, labels)
        writer.finish()
