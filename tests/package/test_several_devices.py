"""Which tests a machine leaves out for want of devices."""

import types

import jax
import pytest
from several_devices import first_devices

ENDS = (pytest.skip.Exception, pytest.fail.Exception)


@pytest.mark.parametrize(("platform", "end"), [("gpu", ENDS[0]), ("cpu", ENDS[1])])
def test_one_gpu_skips_and_one_cpu_fails(platform, end, monkeypatch):
    one = types.SimpleNamespace(platform=platform)
    monkeypatch.setattr(jax, "devices", lambda: [one])
    assert first_devices(1) == [one]
    # Both are caught, or a wrong skip would skip this test.
    with pytest.raises(ENDS, match="needs 4 devices") as caught:
        first_devices(4)
    assert caught.type is end
