"""CUB-200-2011: 11,788 photographs of 200 species of birds, official split.

    ssah prepare caltech_birds2011   # once: downloads 1.2 GB, or --from DIR
    python train.py --config configs/cub200.py
    python train.py --config configs/cub200.py:labels_per_class=0    # all labels
    python train.py --config configs/cub200.py:protocol=unseen
    python train.py --config configs/cub200.py:smoke

Hardware: one GPU or TPU core with 16 GB; decoded images take 2.3 GB of host memory.

Measured: not measured.
"""

from ml_collections import ConfigDict

from ssah_jax import config as config_lib
from ssah_jax.config import presets as presets_lib

SMOKE = {
    "checkpoint_every": 10,
    "labels_per_class": 1,
    "data.image_size": 36,
    "data.crop_size": 32,
    "data.num_validation": 30,
    "data.threads": 1,
    "hnet.backbone": "small_conv",
    "eval.every": 10,
    "eval.batch": 64,
    "eval.precision_at": (10, 50),
}
"""What the preset `smoke` changes here, beside `presets.SMOKE`."""


def get_config(presets: str = "") -> ConfigDict:
    """5,794 test images query the 5,994 training images, of which 2,000 have labels."""
    config = config_lib.default()
    # Images: prepared by TFDS, decoded once and kept in memory.
    config.data.source = "tfds"
    config.data.name = "caltech_birds2011"
    config.data.store = "memory"
    # Short side to 256 pixels, then a square of 224: random in training, else central.
    config.data.image_size = 256
    config.data.crop_size = 224
    config.data.max_shift = 0
    config.data.flip = True
    # ImageNet's channel statistics, as the field has it.
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    # Split: the official one; validation queries come from training images whose
    # labels are not used.
    config.data.protocol = "official"
    config.data.num_queries = 0
    config.data.num_validation = 600
    config.labels_per_class = 10
    # Network and length of training.
    config.hnet.backbone = "alexnet"
    config.optim.learning_rate = 2e-4
    config.batch.labelled = 64
    config.batch.unlabelled = 128
    config.steps = 10_000
    config.log_every = 50
    config.checkpoint_every = 1000
    config.eval.every = 1000
    return presets_lib.with_presets(config, presets, smoke=SMOKE)
