"""Scripts of benchmarks/ that call the library's inner functions still fit them."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from ssah_jax.config import default, from_config_dict
from ssah_jax.method import steps
from ssah_jax.types import Batch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Imports a script by name, as Python runs it: its folder is on the path."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.slow
def test_the_roofline_takes_the_step_apart(script):
    roofline = script("roofline")
    config = from_config_dict(default())
    config = dataclasses.replace(
        config, hnet=dataclasses.replace(config.hnet, widths=(2, 2)), bits=4
    )
    key = jax.random.key(0)
    batch = Batch(
        jnp.zeros((4, 8, 8, 1), jnp.uint8),
        jnp.eye(4),
        jnp.zeros((4, 8, 8, 1), jnp.uint8),
    )
    state = steps.init_state(key, config=config, image_shape=(8, 8, 1), num_classes=4)
    parts = roofline.parts_of(config, state, batch)
    assert "A-Net and deformations" in parts
    for function, *arguments in parts.values():
        assert jax.tree.leaves(jax.eval_shape(function, *arguments))
