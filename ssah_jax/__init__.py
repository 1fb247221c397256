"""Semi-supervised self-paced adversarial hashing in JAX.

Pure functions for anybody's JAX code: `losses`, `transforms`, `retrieval`, `pacing`,
`similarity`. The method that is built from them: `method`, `run`.
"""

import importlib
from types import ModuleType

from ssah_jax._version import __version__

__all__ = [
    "__version__",
    "losses",
    "pacing",
    "retrieval",
    "similarity",
    "transforms",
]


def __getattr__(name: str) -> ModuleType:
    """Imports a module once it is asked for: `retrieval` reads and writes files."""
    if name in __all__:
        return importlib.import_module(f"ssah_jax.{name}")
    raise AttributeError(f"module 'ssah_jax' has no attribute {name!r}")
