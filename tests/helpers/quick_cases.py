"""Cases of a test, of which a few speak for all where only quick tests are run."""

from collections.abc import Iterable

import pytest


def slow_but(cases: Iterable, *quick):
    """All cases, those that are not `quick` marked slow."""
    cases = list(cases)
    assert set(quick) <= set(cases), quick
    return [
        case
        if case in quick
        else pytest.param(
            *(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow
        )
        for case in cases
    ]
