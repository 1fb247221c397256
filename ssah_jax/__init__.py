"""Semi-supervised self-paced adversarial hashing in JAX."""

from ssah_jax._version import __version__

__all__ = ["__version__"]
