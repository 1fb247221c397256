"""A small configuration with every term switched on, its states and batches."""

from functools import cache, partial

import jax
import numpy as np
import pytest
from several_devices import first_devices

from ssah_jax.config import Config, from_config_dict
from ssah_jax.method import steps
from ssah_jax.run import parallel
from ssah_jax.types import Batch, TrainState

CLASSES = 5


def slow(*values):
    """A parameter whose case is marked slow."""
    return pytest.param(*values, marks=pytest.mark.slow)


def small_config(**groups) -> Config:
    """A configuration that compiles in seconds, with every term switched on."""
    values = {
        "bits": 16,
        "steps": 20,
        "data": {"max_shift": 1, "flip": True},
        "batch": {"labelled": 16, "unlabelled": 24},
        "hnet": {"widths": (4, 8)},
        "anet": {"width": 4, "grid": 3, "angle_bins": 5, "blocks": 4},
        "loss": {"name": "ssah", "gate": 0.5, "ramp": 0.0},
    }
    for name, fields in groups.items():
        values[name] = (
            {**values.get(name, {}), **fields} if isinstance(fields, dict) else fields
        )
    return from_config_dict(values)


def compile_state(config: Config):
    """The first state as one program: operation by operation it compiles hundreds."""

    def make() -> TrainState:
        state = steps.init_state(
            jax.random.key(0), config=config, image_shape=(8, 8, 1), num_classes=CLASSES
        )
        # A-Net's last layers start at zero, where most of its gradients vanish.
        leaves, tree = jax.tree.flatten(state.anet)
        keys = jax.random.split(jax.random.key(1), len(leaves))
        moved = [
            leaf + 0.1 * jax.random.normal(key, leaf.shape)
            for leaf, key in zip(leaves, keys, strict=True)
        ]
        return state.replace(anet=jax.tree.unflatten(tree, moved))

    return jax.jit(make)


compiled_state = cache(compile_state)


def make_state(config: Config) -> TrainState:
    return compiled_state(config)()


def make_batch(config: Config, seed: int = 0, multi_label: bool = False) -> Batch:
    rng = np.random.default_rng(seed)
    labelled, unlabelled = config.batch.labelled, config.batch.unlabelled
    label = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, labelled)]
    if multi_label:
        label = np.maximum(label, label[::-1])
    return Batch(
        image=rng.integers(0, 256, (labelled, 8, 8, 1)).astype(np.uint8),
        label=label,
        unlabelled=rng.integers(0, 256, (unlabelled, 8, 8, 1)).astype(np.uint8),
        spread=rng.dirichlet(np.ones(CLASSES) / 2, unlabelled).astype(np.float32),
    )


def relative_error(found, wanted) -> float:
    """Largest difference of two trees over the largest entry of each leaf pair."""

    def one(a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        return np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-6) if a.size else 0.0

    return max(jax.tree.leaves(jax.tree.map(one, found, wanted)), default=0.0)


def compile_gradients(config: Config, devices: int):
    """A new program, for tests that change what it is made of."""
    if devices == 1:
        return jax.jit(partial(steps.gradients, config=config))
    return jax.pmap(
        partial(steps.gradients, config=config, axis_name=parallel.AXIS),
        parallel.AXIS,
        in_axes=(None, 0),
    )


compiled_gradients = cache(compile_gradients)


@cache
def train_step(config: Config):
    """The step on one device, compiled once for all tests that take it."""
    return jax.jit(partial(steps.train_step, config=config))


def gradients_of(
    config: Config,
    state: TrainState,
    batch: Batch,
    devices: int,
    compiled=compiled_gradients,
):
    """Gradients on one device, or on each of eight (leading axis)."""
    if devices > 1:
        first_devices(devices)
        state, batch = parallel.replicate(state), parallel.shard(batch)
    return compiled(config, devices)(state, batch)
