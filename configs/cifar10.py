"""CIFAR-10: 60,000 colour images of 32x32 pixels, 10 classes.

    ssah prepare cifar10     # once: downloads 162 MB, or --from DIR with the archive
    python train.py --config configs/cifar10.py
    python train.py --config configs/cifar10.py:protocol=59k,bits=48
    python train.py --config configs/cifar10.py:protocol=full,num_queries=0,\
labels_per_class=0
    python train.py --config configs/cifar10.py:smoke

`data.path` names the directory given to `ssah prepare --data-dir`, if any.

Hardware: one GPU or TPU core, which also holds the images (184 MB): 92 seconds on an
H100 with one draw (`anet.draws=1`), and more with four.

Measured, with one draw: map 0.639, on a JPEG copy of the images (random deformations
0.607, supervised 0.576; docs/results/gpu.md). Four draws were measured with a smaller
network, after 3,000 and 10,000 steps (docs/results/ssah.md).
"""

from ml_collections import ConfigDict

from ssah_jax import config as config_lib
from ssah_jax.config import presets as presets_lib

SMOKE = {
    "checkpoint_every": 10,
    "labels_per_class": 5,
    "data.num_queries": 30,
    "data.num_validation": 30,
    "hnet.widths": (16, 32, 64),
    "eval.every": 10,
    "eval.batch": 64,
    "eval.precision_at": (10, 50),
}
"""What the preset `smoke` changes here, beside `presets.SMOKE`."""


def get_config(presets: str = "") -> ConfigDict:
    """1,000 queries, 500 labels a class, a database of the other 54,000 images."""
    config = config_lib.default()
    # Images: prepared by TFDS, decoded once, kept on the device.
    config.data.source = "tfds"
    config.data.name = "cifar10"
    config.data.store = "device"
    # Shift by up to 4 pixels and mirror.
    config.data.max_shift = 4
    config.data.flip = True
    # Channel statistics of the training images.
    config.data.mean = (0.491, 0.482, 0.447)
    config.data.std = (0.247, 0.243, 0.262)
    # Split: 54k, 59k (labelled images stay in the database) or full (10,000 queries).
    config.data.protocol = "54k"
    config.data.num_queries = 1000
    config.data.num_validation = 1000
    config.labels_per_class = 500
    # Training is long enough for hard samples that are looked for.
    config.anet.draws = 4
    # Network and length of training.
    config.hnet.backbone = "small_conv"
    config.hnet.widths = (64, 128, 256)
    config.batch.labelled = 128
    config.batch.unlabelled = 256
    config.steps = 10_000
    config.log_every = 50
    config.checkpoint_every = 1000
    config.eval.every = 2000
    return presets_lib.with_presets(config, presets, smoke=SMOKE)
