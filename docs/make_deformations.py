"""The picture of A-Net's family in docs/method.md: windows and angles of its config.

python docs/make_deformations.py
"""

import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ssah_jax import transforms
from ssah_jax.config import Config
from ssah_jax.data.bundled import idx_directory

OUT = Path(__file__).with_name("deformations.png")
_FASHION = "/usr/share/datasets/fashion-mnist"


def draw(image: np.ndarray) -> Figure:
    """Two rows of one image `[H, W, ch]` in [0, 1]: hidden, and turned."""
    anet = Config().anet
    scales, grid = anet.scales, anet.grid
    hidden = {"as it is": jnp.asarray(image)}
    for which, scale in enumerate(scales):
        for place in (1, grid // 2, grid - 2):
            mask = transforms.occlusion_mask(
                jnp.eye(len(scales))[which],
                jnp.zeros((len(scales), grid, grid)).at[which, place, place].set(1.0),
                scales=scales,
                height=image.shape[0],
                width=image.shape[1],
            )
            title = f"{scale:g} of the side"
            hidden[f"{title}{' ' * place}"] = transforms.occlude(image, mask, fill=0.0)
    bound = anet.max_degrees
    turned = {
        f"{degrees:+.0f} degrees": transforms.rotate(image, math.radians(degrees))
        for degrees in np.linspace(-bound, bound, len(hidden))
    }
    figure = Figure(figsize=(11, 2.7), layout="constrained")
    rows = figure.subplots(2, len(hidden))
    for places, pictures in zip(rows, (hidden, turned), strict=True):
        for axes, (title, picture) in zip(places, pictures.items(), strict=True):
            axes.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=1)
            axes.set_title(title.strip(), fontsize=8)
            axes.axis("off")
    return figure


if __name__ == "__main__":
    source = idx_directory(Path(_FASHION))
    draw(np.asarray(source.images[1], np.float32) / 255).savefig(OUT, dpi=110)
