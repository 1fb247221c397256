"""Stored features, for all who read them."""

from pathlib import Path

import pytest
from feature_cases import WIDTH, data_set, write


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """Features of all generated images."""
    path = tmp_path_factory.mktemp("features") / "synthetic"
    assert write(data_set(), path, batch_size=256) == (1300, WIDTH)
    return path
