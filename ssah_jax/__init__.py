"""Semi-supervised self-paced adversarial hashing in JAX.

Pure functions for anybody's JAX code: `losses`, `transforms`, `retrieval`, `pacing`,
`similarity`. The method that is built from them: `steps`, `train_lib`.
"""

from ssah_jax import losses, pacing, retrieval, similarity, transforms
from ssah_jax._version import __version__

__all__ = [
    "__version__",
    "losses",
    "pacing",
    "retrieval",
    "similarity",
    "transforms",
]
