"""Strict JAX for every test: eight CPU devices, no silent rank promotion."""

import gc
import os
import pathlib
import tempfile
from collections.abc import Iterator
from importlib import metadata

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiling is most of the suite's time, and what the tests compare does not depend on
# how far XLA optimises. In the environment for the commands that tests start.
jax.config.update("jax_disable_most_optimizations", True)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
# A third of the time to compile. Later releases end at a flag that they do not know.
if tuple(map(int, metadata.version("jaxlib").split(".")[:2])) <= (0, 10):
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_use_fusion_emitters" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_use_fusion_emitters=false".strip()

# Tracing makes objects by the million; nearly all are freed without the collector.
gc.set_threshold(100_000, 20, 100)


def pytest_configure(config: pytest.Config) -> None:
    """Keep what was compiled, for this process, those it starts, and the next run.

    In pytest's own cache (`pytest --cache-clear` forgets it), not in that of whoever
    runs the tests, unless `JAX_COMPILATION_CACHE_DIR` names a directory. Small programs
    too: there are thousands of them.
    """
    options = {"persistent_cache_min_compile_time_secs": 0.0}
    options["persistent_cache_min_entry_size_bytes"] = -1
    if directory := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        options["compilation_cache_dir"] = directory
    elif hasattr(config, "cache"):
        options["compilation_cache_dir"] = str(config.cache.mkdir("compiled"))
    else:
        options["enable_compilation_cache"] = False
    for name, value in options.items():
        jax.config.update(f"jax_{name}", value)
        # For the commands that tests start.
        os.environ[f"JAX_{name.upper()}"] = str(value)


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Forget compiled programs before the system runs out of memory mappings.

    Each holds several, a process of Linux may have 65,530, and XLA dies where it gets
    none. Those that are wanted again come from the cache on disk.
    """
    if nextitem is None or nextitem.path == item.path:
        return
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 25_000:
        jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """Where libraries put what they do not remove: TFDS, a folder for each builder.

    Of the commands that tests start as well. pytest removes it, with its own.
    """
    path = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(path))
        patch.setattr(tempfile, "tempdir", str(path))
        yield path


@pytest.fixture
def key() -> jax.Array:
    """A typed key, the same in every test."""
    return jax.random.key(0)
