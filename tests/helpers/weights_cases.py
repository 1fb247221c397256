"""A run with a ResNet-18 of two channels, and weights for it."""

import functools

import backbone_cases as cases
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ssah_jax.config import Config, from_config_dict
from ssah_jax.method import steps
from ssah_jax.run import opening
from ssah_jax.run.experiment import prepare
from ssah_jax.run.warm_start import load_backbone
from ssah_jax.run.workdir import Workdir
from ssah_jax.types import Batch

SHAPE = (16, 16, 1)


WIDTH = 4


SMALL = {"backbone": "small_conv", "image_size": 0, "widths": (4, 8)}


def original_tensors() -> dict[str, np.ndarray]:
    """What PyTorch's state of such a network holds."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (WIDTH, 3, 7, 7)}
    norms = {"bn1": WIDTH}
    before = WIDTH
    for stage in range(1, 5):
        width, block = WIDTH * 2 ** (stage - 1), f"layer{stage}.0"
        shapes[f"{block}.conv1.weight"] = (width, before, 3, 3)
        shapes[f"{block}.conv2.weight"] = (width, width, 3, 3)
        norms |= {f"{block}.bn1": width, f"{block}.bn2": width}
        if stage > 1:
            shapes[f"{block}.downsample.0.weight"] = (width, before, 1, 1)
            norms[f"{block}.downsample.1"] = width
        before = width
    for name, width in norms.items():
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()
    shapes |= {"fc.weight": (10, before), "fc.bias": (10,)}
    return cases.random_tensors(shapes)


def make_config(weights="", **groups) -> Config:
    values = {
        "bits": 8,
        "steps": 4,
        "labels_per_class": 5,
        "log_every": 2,
        "checkpoint_every": 2,
        "data": {"source": "synthetic", "num_queries": 50, "num_validation": 50},
        "batch": {"labelled": 8, "unlabelled": 8},
        "hnet": {"backbone": "resnet18", "image_size": 32, "weights": str(weights)},
        "anet": {"kind": "random", "grid": 3, "width": 4},
        "loss": {"consistent": 0.0},
        "optim": {"warmup": 0.0, "weight_decay": 0.1},
        "eval": {"every": 0, "batch": 64},
    }
    for name, fields in groups.items():
        values[name] = (
            {**values.get(name, {}), **fields} if isinstance(fields, dict) else fields
        )
    return from_config_dict(values)


def make_state(config: Config):
    backbone = None
    if config.hnet.weights:
        backbone = load_backbone(config, SHAPE).variables
    # One program: operation by operation it compiles hundreds.
    init = functools.partial(
        steps.init_state, config=config, image_shape=SHAPE, num_classes=4
    )
    return jax.jit(init)(jax.random.key(0), backbone=backbone)


def make_batch(number=8) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        image=rng.integers(0, 256, (number, *SHAPE)).astype(np.uint8),
        label=np.eye(4, dtype=np.float32)[np.arange(number) % 4],
        unlabelled=rng.integers(0, 256, (number, *SHAPE)).astype(np.uint8),
    )


def leaves(tree) -> dict[str, np.ndarray]:
    return {k: np.asarray(v) for k, v in flatten_dict(tree, sep="/").items()}


def refusal(config: Config, path) -> str:
    """The one line with which a run of `config` does not begin."""
    experiment = prepare(config)
    with (
        pytest.raises(ValueError) as caught,
        opening.open_run(experiment, Workdir(path)),
    ):
        pass
    assert not path.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)
