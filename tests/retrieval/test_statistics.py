"""Statistics of codes against plain loops, and the corners: constant, one, equal."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ssah_jax.retrieval import statistics
from ssah_jax.retrieval.statistics import code_statistics


def by_loops(codes: np.ndarray) -> dict:
    """The same numbers, each from its definition."""
    number, width = codes.shape
    signs = [[1 if value >= 0 else -1 for value in row] for row in codes.tolist()]
    columns = list(zip(*signs, strict=True))
    balance = [sum(v == 1 for v in column) / number for column in columns]
    entropy = 0.0
    for p in balance:
        for share in (p, 1 - p):
            entropy -= share * math.log2(share) / width if share > 0 else 0
    constant = [i for i, column in enumerate(columns) if len(set(column)) == 1]
    largest, pair = 0.0, None
    for i in range(width):
        for j in range(i + 1, width):
            if i in constant or j in constant:
                continue
            found = abs(np.corrcoef(columns[i], columns[j])[0, 1])
            if found > largest + 1e-12:
                largest, pair = found, [i, j]
    frequency: dict[tuple, int] = {}
    for row in signs:
        frequency[tuple(row)] = frequency.get(tuple(row), 0) + 1
    return {
        "balance": balance,
        "entropy": entropy,
        "max_correlation": largest,
        "most_correlated": pair,
        "constant_bits": constant,
        "num_codes": number,
        "num_distinct": len(frequency),
        "largest_share": max(frequency.values()) / number,
    }


def check(codes: np.ndarray) -> None:
    found, wanted = code_statistics(codes), by_loops(codes)
    assert found.keys() == wanted.keys()
    # Which of two equal correlations is the larger, rounding decides.
    pair = found.pop("most_correlated")
    wanted.pop("most_correlated")
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    if pair is None:
        assert wanted["max_correlation"] == pytest.approx(0, abs=1e-9)
    else:
        i, j = pair
        signs = np.where(codes >= 0, 1, -1)
        correlation = np.corrcoef(signs[:, i], signs[:, j])[0, 1]
        assert i < j
        assert abs(correlation) == pytest.approx(wanted["max_correlation"], abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.integers(1, 11)),
        elements=st.sampled_from([-2.0, -0.5, 0.0, 1.0]),
    )
)
def test_definitions(codes):
    codes[0, 0] = -0.5  # Without any sign they would be bits of the wrong form.
    check(codes)


def test_uneven_bits_in_several_blocks(monkeypatch):
    monkeypatch.setattr(statistics, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(50, 9)) + np.linspace(-2, 2, 9)
    codes[:, 4] = -codes[:, 7] * rng.choice([1, 1, 1, -1], 50)
    check(codes)


def test_values_known_by_hand():
    # Bit 1 is the opposite of bit 0, bit 2 is always +1, bit 3 is +1 in a quarter.
    codes = np.asarray(
        [[1, -1, 1, 1], [1, -1, 1, -1], [-1, 1, 1, -1], [-1, 1, 1, -1]], np.int8
    )
    found = code_statistics(codes)
    assert found["balance"] == [0.5, 0.5, 1.0, 0.25]
    assert found["constant_bits"] == [2]
    assert found["max_correlation"] == 1
    assert found["most_correlated"] == [0, 1]
    assert (found["num_codes"], found["num_distinct"]) == (4, 3)
    assert found["largest_share"] == 0.5
    quarter = 0.25 * 2 + 0.75 * math.log2(4 / 3)
    assert found["entropy"] == pytest.approx((1 + 1 + 0 + quarter) / 4)


def test_zero_is_positive_as_everywhere():
    assert code_statistics(np.asarray([[0.0], [-0.0], [-1.0], [1.0]]))["balance"] == [
        0.75
    ]


def test_one_code_and_collapsed_codes():
    for number in (1, 5):
        found = code_statistics(np.tile([1.0, -1.0, 3.0], (number, 1)))
        assert found["constant_bits"] == [0, 1, 2]
        assert found["entropy"] == 0
        assert found["max_correlation"] == 0 and found["most_correlated"] is None
        assert found["num_distinct"] == 1 and found["largest_share"] == 1


def test_order_does_not_matter_and_json_takes_it():
    codes = np.random.default_rng(1).normal(size=(100, 33))
    found = code_statistics(codes)
    assert code_statistics(codes[::-1]) == found
    assert code_statistics(jnp.asarray(codes)) == found
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_nothing_is_refused(shape):
    with pytest.raises(ValueError, match="codes: found shape"):
        code_statistics(np.zeros(shape))


def test_nan_is_refused():
    with pytest.raises(ValueError, match="codes: found NaN"):
        code_statistics(np.asarray([[1.0, np.nan]]))
