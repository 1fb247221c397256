"""Strict JAX for every test: eight CPU devices, no silent rank promotion."""

import os

# Before JAX reads it, and for the commands that tests start: no test leaves anything
# in a cache, or depends on one, unless whoever runs them names it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "0"

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiling is most of the suite's time, and what the tests compare does not depend on
# how far XLA optimises.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def key() -> jax.Array:
    """A typed key, the same in every test."""
    return jax.random.key(0)
