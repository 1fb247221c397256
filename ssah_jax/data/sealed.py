"""Records in JSON that tell whether they are still what was written."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

SEAL: Final = "seal"
"""The key under which a record holds the digest of all else in it."""


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with their seal, the last key."""
    return {**values, SEAL: _digest(values)}


def unsealed(values: Any) -> dict[str, Any]:
    """The inverse of `sealed`.

    Args:
        values: anything that JSON can say.

    Raises:
        ValueError: something has changed, or there is no seal.
    """
    if not isinstance(values, dict):
        raise ValueError(f"found {type(values).__name__}, expected an object")
    rest = {name: value for name, value in values.items() if name != SEAL}
    if values.get(SEAL) != _digest(rest):
        raise ValueError("its seal is not that of what it says")
    return rest


def _digest(values: Mapping[str, Any]) -> str:
    # As it will be read again: keys are words there, tuples are lists.
    there = json.loads(json.dumps(values))
    return hashlib.sha256(json.dumps(there, sort_keys=True).encode()).hexdigest()
