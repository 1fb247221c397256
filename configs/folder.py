"""Your own images: class folders, or a table of paths and tags.

    python train.py --config configs/folder.py --config.data.path=photos
    python train.py --config configs/folder.py --config.data.path=photos/tags.csv \
        --config.data.multi_label=True
    python train.py --config configs/folder.py:smoke --config.data.path=photos
    python train.py --config configs/folder.py:path=photos,labels=none,unsupervised

`photos/CLASS/*.jpg` is one pool from which queries are drawn; `photos/train/CLASS/` and
`photos/test/CLASS/` are an official split for the protocols `low_label`, `official`
and `unseen`. `photos/unlabelled/` may hold images of any class. A table (.csv, .tsv,
.parquet) has the columns `path`, `labels` (several joined by `|`; none means not
known) and, if you like, `part`. docs/data.md has the details. Without any labels, the
preset `unsupervised` learns from a folder of images; `labels=none` is only needed where
the images lie in folders, which mean nothing then.

Hardware: two CPU cores do: 48-pixel images, a small network.

Measured: not measured; it depends on the images.
"""

from ml_collections import ConfigDict

from ssah_jax import config as config_lib
from ssah_jax.config import presets as presets_lib

SMOKE = {
    "checkpoint_every": 10,
    "labels_per_class": 2,
    "data.image_size": 36,
    "data.crop_size": 32,
    "data.num_queries": 10,
    "data.num_validation": 10,
    "hnet.widths": (16, 32, 64),
    "eval.every": 10,
    "eval.batch": 64,
    "eval.precision_at": (10,),
}
"""What the preset `smoke` changes here, beside `presets.SMOKE`."""


def get_config(presets: str = "") -> ConfigDict:
    """100 queries, 100 validation queries, all labels, 48-pixel images."""
    config = config_lib.default()
    config.data.source = "folder"
    # Decoded once and kept in memory; "disk" for sets that do not fit.
    config.data.store = "memory"
    # An unreadable image is left out and listed in the workdir, up to this share.
    config.data.on_error = "skip"
    config.data.max_skipped = 0.05
    # Short side to 54 pixels, then a square of 48: random in training, else central.
    config.data.image_size = 54
    config.data.crop_size = 48
    config.data.max_shift = 0
    config.data.flip = True
    # ImageNet's channel statistics.
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    # Split: queries are drawn from the pool and everything else is the database. All
    # labels are used, but for those of the validation queries.
    config.data.protocol = "pooled"
    config.data.num_queries = 100
    config.data.num_validation = 100
    config.labels_per_class = 0
    # Network and length of training.
    config.hnet.backbone = "small_conv"
    config.hnet.widths = (32, 64, 128)
    config.batch.labelled = 32
    config.batch.unlabelled = 64
    config.steps = 1000
    return presets_lib.with_presets(config, presets, smoke=SMOKE)
