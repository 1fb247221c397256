"""SSAH's terms as loops in NumPy, float64."""

import math

import numpy as np
from loss_oracles import (
    cosine_loop,
)

# Oracles, one loop each.


def pair_loop(u, v, similar, alpha):
    logit = alpha * cosine_loop(u, v)
    out = np.zeros(logit.shape)
    for i, j in np.ndindex(*out.shape):
        chance = 1.0 / (1.0 + math.exp(-logit[i, j]))
        s = float(similar[i, j])
        out[i, j] = -s * math.log(chance) - (1 - s) * math.log(1 - chance)
    return out


def balanced_loop(values, similar, where):
    kinds = {True: [], False: []}
    for i, j in np.ndindex(*values.shape):
        if where[i, j]:
            kinds[bool(similar[i, j])].append(float(values[i, j]))
    means = [sum(x) / len(x) if x else 0.0 for x in kinds.values()]
    return sum(means) / 2
