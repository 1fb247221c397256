"""Features that were computed once and stored, in the place of a backbone."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ssah_jax.networks.layers import Domain
from ssah_jax.networks.spec import BackboneSpec


class StoredFeatures(nn.Module):
    """Stored features as they are; it has no parameters.

    Attributes:
        dtype: not used: the hash layer computes in float32.
        frozen: not used: there is nothing to freeze.
    """

    dtype: str = "float32"
    frozen: int = 0

    @nn.compact
    def __call__(
        self, image: Float[Array, "B 1 1 D"], *, domain: Domain, train: bool
    ) -> Float[Array, "B D"]:
        """Features `[B, D]` of "images" `[B, 1, 1, D]`."""
        return image[:, 0, 0].astype(jnp.float32)


SPECS = {
    "features": BackboneSpec(
        StoredFeatures, None, 1, (), image_size=0, mean=(0.0,), std=(1.0,)
    ),
}
"""By their words in a configuration."""
