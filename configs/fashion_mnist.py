"""Fashion-MNIST: 28x28 grey images of clothes, 10 classes, few labels.

    apt-get install dataset-fashion-mnist   # 70,000 images, no further download
    python train.py --config configs/fashion_mnist.py
    python train.py --config configs/fashion_mnist.py --config.labels_per_class=10

Elsewhere, point `--config.data.path` at a directory with the four IDX files.

Measured on seed 0 alone, one of 2 busy CPU cores: map 0.738 at 50 labels a class in
12 minutes; 0.693 at 10 in 12, with adversaries, a hash loss and a learning rate before
these. Half the channels and 1,000 steps are measured in docs/results/ssah.md.
"""

from ml_collections import ConfigDict

from ssah_jax import config as config_lib
from ssah_jax.config import presets as presets_lib

SMOKE = {
    "eval.every": 0,
    "hnet.widths": (8, 16),
}
"""What the preset `smoke` changes here, beside `presets.SMOKE`."""


def get_config(presets: str = "") -> ConfigDict:
    """50 labels a class, 32 bits; the database is all other training images."""
    config = config_lib.default()
    config.steps = 2000
    config.data.source = "idx"
    config.data.path = "/usr/share/datasets/fashion-mnist"
    config.data.mean = (0.286,)
    config.data.std = (0.353,)
    config.data.flip = True
    # Images are aligned, so that pixels tell which ones are alike.
    config.loss.consistent_spread = 0.5
    return presets_lib.with_presets(config, presets, smoke=SMOKE)
