"""Ranking losses and soft histograms as loops in NumPy, and their inputs."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from loss_oracles import LABELS

from ssah_jax.losses.soft_histogram import soft_histogram

# Oracles, one loop each.


def histogram_loop(distance, weight, bins, limit):
    out = np.zeros((len(distance), bins + 1))
    width = limit / bins
    for i, j in np.ndindex(*distance.shape):
        d = min(max(float(distance[i, j]), 0.0), limit)
        for b in range(bins + 1):
            out[i, b] += float(weight[i, j]) * max(0.0, 1 - abs(d - b * width) / width)
    return out


def inner_loop(u, v):
    out = np.zeros((len(u), len(v)))
    for i, j in np.ndindex(*out.shape):
        out[i, j] = sum(float(a) * float(b) for a, b in zip(u[i], v[j], strict=True))
    return out


def dtsh_loop(u, v, similar, where, margin, scale):
    product = scale * inner_loop(u, v)
    out = np.zeros(len(u))
    for i in range(len(u)):
        terms = []
        for p in np.flatnonzero(similar[i] & where[i]):
            for n in np.flatnonzero(~similar[i] & where[i]):
                x = margin - (product[i, p] - product[i, n])
                terms.append(max(x, 0.0) + math.log1p(math.exp(-abs(x))))
        out[i] = sum(terms) / len(terms) if terms else 0.0
    return out


MASKS = ("all", "not self", "random", "one row", "empty")


def mask(name, rows, columns=None):
    columns = columns or rows
    return {
        "all": np.ones((rows, columns), bool),
        "not self": ~np.eye(rows, columns, dtype=bool),
        "random": np.random.default_rng(4).random((rows, columns)) < 0.6,
        "one row": np.broadcast_to(np.arange(rows)[:, None] == 3, (rows, columns)),
        "empty": np.zeros((rows, columns), bool),
    }[name]


def overlap(kind, rows):
    labels = LABELS[kind][:rows]
    return labels @ labels.T > 0.5


def on_device(function, similar, where=None, **options):
    """The loss as a function of both codes."""
    similar = jnp.asarray(similar)
    where = None if where is None else jnp.asarray(where)
    return jax.jit(lambda u, v: function(u, v, similar, where=where, **options))


# Soft histograms.


HISTOGRAMS = {
    options: jax.jit(partial(soft_histogram, bins=options[0], limit=options[1]))
    for options in ((1, 20.0), (4, 8.0), (7, 0.5))
}
