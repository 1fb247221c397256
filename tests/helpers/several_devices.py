"""Devices for tests that need several."""

import jax
import pytest


def first_devices(number: int) -> list[jax.Device]:
    """The first `number` devices; without so many the test is skipped.

    Never on a CPU, which shows as many as tests/conftest.py asks of it.
    """
    found = jax.devices()
    if len(found) < number:
        reason = f"needs {number} devices, and here is {found}"
        if found[0].platform == "cpu":
            pytest.fail(reason)
        pytest.skip(reason)
    return found[:number]
