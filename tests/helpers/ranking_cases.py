"""Codes with labels, and the order that they are found in, by loops."""

import itertools

import numpy as np


def make(seed=0, *, queries=9, items=60, bits=12, classes=4, density=0.3):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(queries, bits)).astype(np.float32),
        (rng.random((queries, classes)) < density).astype(np.float32),
        rng.normal(size=(items, bits)).astype(np.float32),
        (rng.random((items, classes)) < density).astype(np.float32),
    )


def orders(distance):
    """Every ranking that sorts by distance."""
    groups = [
        [n for n, d in enumerate(distance) if d == value]
        for value in sorted(set(distance))
    ]
    for parts in itertools.product(*map(itertools.permutations, groups)):
        yield list(itertools.chain(*parts))


def ranked_flags(sets):
    """Relevance in stable order, a list for each query, and plainly in loops."""
    query_codes, query_labels, database_codes, database_labels = sets
    for code, label in zip(query_codes, query_labels, strict=True):
        distance = [
            sum((a >= 0) != (b >= 0) for a, b in zip(code, item, strict=True))
            for item in database_codes
        ]
        order = sorted(range(len(distance)), key=lambda n: (distance[n], n))
        yield [bool((label * database_labels[n]).max() > 0) for n in order]


def total_of(flags):
    hits, total = 0, 0.0
    for rank, flag in enumerate(flags, start=1):
        if flag:
            hits += 1
            total += hits / rank
    return total


def csq(sets, k):
    values = []
    for flags, label in zip(ranked_flags(sets), sets[1], strict=True):
        if not label.any():
            continue
        found = sum(flags[:k])
        values.append(total_of(flags[:k]) / found if found else 0.0)
    return values


def sparse():
    """Sets with an unlabelled query and one whose only label no item carries."""
    query_codes, query_labels, database_codes, database_labels = make(3)
    query_labels[2] = 0
    query_labels[5] = [0, 0, 0, 1]
    database_labels[:, 3] = 0
    return query_codes, query_labels, database_codes, database_labels
