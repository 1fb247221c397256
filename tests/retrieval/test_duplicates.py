"""Groups of like codes: all of them, by loops over pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssah_jax.retrieval import duplicates
from ssah_jax.retrieval.duplicates import comparisons, distances_to, groups


def by_loops(packed: np.ndarray, radius: int) -> list[list[int]]:
    """Each row takes the number of any row that it is near, until none changes."""
    ones = np.unpackbits(packed, axis=1).tolist()
    member, moved = list(range(len(ones))), True
    while moved:
        moved = False
        for i, one in enumerate(ones):
            for j, other in enumerate(ones):
                near = sum(a != b for a, b in zip(one, other, strict=True)) <= radius
                if near and member[j] < member[i]:
                    member[i], moved = member[j], True
    found = {}
    for row, number in enumerate(member):
        found.setdefault(number, []).append(row)
    return sorted(rows for rows in found.values() if len(rows) > 1)


@settings(max_examples=25, deadline=None)
@given(
    bits=st.sampled_from([3, 8, 20, 70, 130]),
    count=st.integers(0, 25),
    radius=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_groups_are_those_of_all_pairs(bits, count, radius, seed):
    rng = np.random.default_rng(seed)
    centres = rng.random((4, bits)) < 0.5
    ones = centres[rng.integers(4, size=count)] ^ (rng.random((count, bits)) < 0.05)
    packed = np.packbits(ones, axis=1)
    radius = min(radius, bits - 1)
    found = groups(packed, bits=bits, radius=radius)
    assert [rows.tolist() for rows in found] == by_loops(packed, radius)
    assert comparisons(packed, bits=bits, radius=radius) >= 0


def test_groups_do_not_depend_on_when_edges_are_folded(monkeypatch):
    rng = np.random.default_rng(1)
    packed = rng.integers(0, 256, (300, 2), np.uint8)
    whole = groups(packed, bits=16, radius=2)
    monkeypatch.setattr(duplicates, "_MOST_EDGES", 3)
    folded = groups(packed, bits=16, radius=2)
    assert len(whole) > 1
    assert [rows.tolist() for rows in whole] == [rows.tolist() for rows in folded]


def test_distances_and_what_is_refused():
    packed = np.array([[0, 1], [255, 1], [3, 3]], np.uint8)
    assert distances_to(packed[0], packed).tolist() == [0, 8, 3]
    for radius in (-1, 16):
        with pytest.raises(ValueError, match="radius"):
            groups(packed, bits=16, radius=radius)
