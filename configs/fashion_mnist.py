"""Fashion-MNIST: 28x28 grey images of clothes, 10 classes, few labels.

    apt-get install dataset-fashion-mnist   # 70,000 images, no further download
    python train.py --config configs/fashion_mnist.py
    python train.py --config configs/fashion_mnist.py --config.labels_per_class=10

Elsewhere, point `--config.data.path` at a directory with the four IDX files.
"""

from ml_collections import ConfigDict

from ssah_jax import config as config_lib


def get_config() -> ConfigDict:
    """50 labels a class, 32 bits; the database is all other training images."""
    config = config_lib.default()
    config.steps = 4000
    config.data.source = "idx"
    config.data.path = "/usr/share/datasets/fashion-mnist"
    config.data.mean = (0.286,)
    config.data.std = (0.353,)
    config.data.flip = True
    return config
