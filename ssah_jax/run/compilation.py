"""Compiled programs that outlive the process, so that only the first start waits."""

import hashlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

import jax

_LARGEST = 2 * 1024**3
_SMALLEST = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def keep_compiled() -> None:
    """Keep what XLA compiles in the user's cache directory, 2 GiB at most.

    Called by commands, never by importing. `JAX_COMPILATION_CACHE_DIR` names another
    directory, `JAX_ENABLE_COMPILATION_CACHE=0` keeps nothing. JAX trusts what it
    finds there, so nobody else may write to it.

    Small programs too, which JAX leaves out: a state is begun by some 140 of them, and
    they took half of a start.
    """
    # Untyped: before 0.12 JAX does not declare its options.
    options: Any = jax.config
    if not options.jax_enable_compilation_cache:
        return
    if options.jax_compilation_cache_dir is not None:
        return
    path = cache_directory()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return  # No home to keep anything in, as in some containers.
    if not os.access(path, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_compilation_cache_max_size", _LARGEST)
    for name, value in _SMALLEST.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)


def cache_directory() -> Path:
    """Of this user, this JAX and this kind of processor."""
    if sys.platform == "darwin":
        root = Path("~/Library/Caches").expanduser()
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return root / "ssah_jax" / f"xla-{jax.__version__}-{_processor()}"


def _processor() -> str:
    """Eight hexadecimal digits: homes are shared, a processor's instructions not."""
    about = platform.machine() + platform.processor()
    flags = Path("/proc/cpuinfo")
    if flags.is_file():
        lines = flags.read_text(errors="replace").splitlines()
        about += next((line for line in lines if line.startswith("flags")), "")
    return hashlib.sha256(about.encode()).hexdigest()[:8]
