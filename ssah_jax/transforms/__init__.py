"""Pure spatial transforms of one image: occlusion, rotation, weak augmentation.

The contract, for every function here:

* Images are unbatched `[H, W, ch]`, float, values in [0, 1]; for a batch, use
  `jax.vmap`. Outputs are not clipped to that range, so that transforms can be
  chained; but for rounding they stay in it when image, fill and mask do.
* Coordinates are (row, column) in pixels; pixel `[i, j]` has its centre at (i, j),
  rows grow downward. Angles are in radians, positive is counter-clockwise as the
  image is displayed.
* A function with randomness takes a typed `key` first and consumes it once; it is a
  thin shell that draws, then calls a deterministic core.
* Options are keyword-only. Sizes and words (`scales`, `grid`, `height`, `border`,
  `kind`, `max_shift`) are Python values, static under `jax.jit`.

Everything works under `jax.jit`, `jax.vmap`, `jax.grad` and `jax.pmap`, and depends
on nothing else of this package but the records of `ssah_jax.types`.
"""

from ssah_jax.transforms.augmentation import (
    centre_crop,
    crop,
    random_crop,
    random_flip,
    random_shift,
    shift,
)
from ssah_jax.transforms.deformation import (
    deform,
    deformation_log_probability,
    draw_deformation,
    straight_through_gumbel,
    window_or_rotation,
)
from ssah_jax.transforms.occlusion import (
    fill_value,
    occlude,
    occlusion_mask,
    window_profiles,
)
from ssah_jax.transforms.rotation import (
    affine_grid,
    bilinear_sample,
    rotate,
    rotate_blocks,
    rotation_matrix,
)

__all__ = [
    "affine_grid",
    "bilinear_sample",
    "centre_crop",
    "crop",
    "deform",
    "deformation_log_probability",
    "draw_deformation",
    "fill_value",
    "occlude",
    "occlusion_mask",
    "random_crop",
    "random_flip",
    "random_shift",
    "rotate",
    "rotate_blocks",
    "rotation_matrix",
    "shift",
    "straight_through_gumbel",
    "window_or_rotation",
    "window_profiles",
]
