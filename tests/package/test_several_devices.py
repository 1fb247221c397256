"""Which tests a machine leaves out for want of devices."""

import types

import jax
import pytest
from several_devices import first_devices


@pytest.mark.parametrize(
    ("platform", "end"),
    [("gpu", pytest.skip.Exception), ("cpu", pytest.fail.Exception)],
)
def test_one_gpu_skips_and_one_cpu_fails(platform, end, monkeypatch):
    one = types.SimpleNamespace(platform=platform)
    monkeypatch.setattr(jax, "devices", lambda: [one])
    assert first_devices(1) == [one]
    with pytest.raises(end, match="needs 4 devices"):
        first_devices(4)
