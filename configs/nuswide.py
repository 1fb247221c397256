"""NUS-WIDE: photographs from Flickr with several labels each, 21 or 81 concepts.

    python train.py --config configs/nuswide.py --config.data.path=/data/NUS-WIDE
    python train.py --config configs/nuswide.py:bits=64 --config.data.path=...
    python train.py --config configs/nuswide.py:smoke --config.data.path=...

`data.path` holds the original files: the images, `ImageList/` and `Groundtruth/`;
`ssah prepare nus_wide` says where to get them. The list files of HashNet,
DeepHash-pytorch or CSQ (train.txt, test.txt, database.txt) are read, as they split, by

    python train.py --config configs/nuswide.py:source=list,protocol=listed,\
labels_per_class=0,num_queries=0 --config.data.path=LISTS --config.data.images=IMAGES

Hardware: one GPU or TPU core with 16 GB, and enough CPU cores to decode. The preset
`smoke` is for a laptop: 32-pixel images, a small network, 20 steps.

Measured: not on these images; on mosaics that carry their labels in
docs/results/ssah.md.
"""

from ml_collections import ConfigDict

from ssah_jax import config as config_lib
from ssah_jax.config import presets as presets_lib

SMOKE = {
    "checkpoint_every": 10,
    "labels_per_class": 2,
    "data.image_size": 36,
    "data.crop_size": 32,
    "data.num_queries": 42,
    "data.num_validation": 21,
    "data.threads": 1,
    "hnet.backbone": "small_conv",
    "eval.every": 10,
    "eval.batch": 64,
    "eval.top_k": 100,
    "eval.precision_at": (10, 50),
}
"""What the preset `smoke` changes here, beside `presets.SMOKE`."""


def get_config(presets: str = "") -> ConfigDict:
    """NUS-WIDE-21: 2,100 queries, 10,500 labels, 193,734 database images."""
    config = config_lib.default()
    # Images: original files, those that show at least one of the 21 concepts.
    config.data.source = "nus_wide"
    config.data.concepts = 21
    config.data.multi_label = True
    # Every mirror lacks some images; up to this share is reported, beyond is an error.
    config.data.max_skipped = 0.05
    # Short side to 256 pixels, then a square of 224: random in training, else central.
    config.data.image_size = 256
    config.data.crop_size = 224
    config.data.max_shift = 0
    config.data.flip = True
    # ImageNet's channel statistics, as the field has it.
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    # Split: 100 queries and 500 labelled images a class; the rest, and the labelled
    # images, are the database. Validation queries are drawn from the database.
    config.data.protocol = "nus_wide_21"
    config.data.num_queries = 2100
    config.data.num_validation = 1000
    config.labels_per_class = 500
    # The field's cut-off.
    config.eval.top_k = 5000
    # Network and length of training.
    config.hnet.backbone = "alexnet"
    config.optim.learning_rate = 2e-4
    config.batch.labelled = 64
    config.batch.unlabelled = 128
    config.steps = 20_000
    config.log_every = 50
    config.checkpoint_every = 1000
    config.eval.every = 2000
    return presets_lib.with_presets(config, presets, smoke=SMOKE)
