"""Semi-supervised self-paced adversarial hashing in JAX.

Pure functions for anybody's JAX code: `losses`, `transforms`, `retrieval`, `pacing`,
`similarity`, each imported when it is first looked up. The method that is built from
them: `method`; a run of it: `run`; the command line: `cli`.

`Encoder` and `Index` are what codes of images and a search by them need.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssah_jax import losses, pacing, retrieval, similarity, transforms
    from ssah_jax.retrieval.index import Index
    from ssah_jax.run.encoder import Encoder

__version__ = "0.1.0"

__all__ = [
    "Encoder",
    "Index",
    "__version__",
    "losses",
    "pacing",
    "retrieval",
    "similarity",
    "transforms",
]


_CLASSES = {"Encoder": "run.encoder", "Index": "retrieval.index"}


def __getattr__(name: str) -> Any:
    """Imports a public module when it is asked for, so that `ssah --help` is quick."""
    if name in _CLASSES:
        module = importlib.import_module(f"{__name__}.{_CLASSES[name]}")
        return getattr(module, name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
