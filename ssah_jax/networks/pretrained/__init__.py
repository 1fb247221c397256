"""Weights that others trained: found, downloaded, verified and read as arrays.

Nothing here executes what a file says, and nothing needs PyTorch.
"""

from ssah_jax.networks.pretrained.sources import TORCHVISION, cache_dir, digest, locate
from ssah_jax.networks.pretrained.tensors import read_tensors, write_tensors
from ssah_jax.networks.weight_tables import WeightsError

__all__ = [
    "TORCHVISION",
    "WeightsError",
    "cache_dir",
    "digest",
    "locate",
    "read_tensors",
    "write_tensors",
]
