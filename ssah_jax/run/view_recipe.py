"""Several views of an image, of which features are kept: how they are drawn."""

import dataclasses
import hashlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from ssah_jax import pacing
from ssah_jax.config import Config
from ssah_jax.method.stored_views import number_weak
from ssah_jax.method.views import clean_view, draw_hard, weak_view
from ssah_jax.types import DeformationLogits


@dataclasses.dataclass(frozen=True)
class ViewRecipe:
    """Several views of each image, as `ssah_jax.method.stored_views` orders them.

    Attributes:
        number: V, at least 1.
        config: whose weak augmentation, family of deformations and seed they have.
    """

    number: int
    config: Config

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of all that the views after the first depend on."""
        if self.number == 1:
            return ""
        data, anet, config = self.config.data, self.config.anet, self.config
        windows = (anet.scales, anet.grid, anet.fill, data.mean)
        angles = (anet.blocks, anet.angle_bins, anet.max_degrees, anet.border)
        seen = (config.seed, data.crop_size, data.max_shift, data.flip, windows, angles)
        return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]

    def check(self) -> None:
        """Check that views differ from each other.

        Raises:
            ValueError: there is no weak augmentation to draw several by.
        """
        data = self.config.data
        weak = data.crop_size or data.max_shift or data.flip
        if number_weak(self.number) > 1 and not weak:
            raise ValueError(
                f"--views: found {self.number} without any weak augmentation, accepted "
                "is a configuration with data.crop_size, data.max_shift or data.flip"
            )


def draw_views(
    key: Key[Array, ""],
    image: UInt8[Array, "H W ch"] | Float[Array, "H W ch"],
    *,
    recipe: ViewRecipe,
) -> Float[Array, "V h w ch"]:
    """The views of one image, in [0, 1]: itself, weakly augmented ones, hard samples.

    Args:
        key: consumed.
        image: `[H, W, ch]`.
        recipe: how many, and how they are drawn.
    """
    config, anet = recipe.config, recipe.config.anet
    bins = anet.angle_bins if anet.max_degrees else 1
    uniform = DeformationLogits(
        scale=jnp.zeros(len(anet.scales)),
        position=jnp.zeros((len(anet.scales), anet.grid, anet.grid)),
        angle=jnp.zeros((anet.blocks, bins)),
    )
    number = number_weak(recipe.number)
    keys = jax.random.split(key, recipe.number)
    weak = [clean_view(image[None], config=config)[0]]
    for each in keys[1:number]:
        weak.append(weak_view(jax.random.split(each, 3)[:2], image, config=config))
    # No pace will follow them: the whole family.
    pace = pacing.init_pace(config.pace.start, config.pace.target, reach=1.0)
    hard = [
        draw_hard(each, view, uniform, pace=pace, config=config)[0]
        for each, view in zip(keys[number:], weak, strict=False)
    ]
    return jnp.stack(weak + hard)
