"""H-Net and A-Net: the only place that imports Flax's linen."""

from ssah_jax.networks.anet import ANet
from ssah_jax.networks.backbones import BACKBONES, SMALLEST_IMAGE
from ssah_jax.networks.hnet import HNet, backbone_scope
from ssah_jax.networks.layers import NORMS, Domain

__all__ = [
    "BACKBONES",
    "NORMS",
    "SMALLEST_IMAGE",
    "ANet",
    "Domain",
    "HNet",
    "backbone_scope",
]
