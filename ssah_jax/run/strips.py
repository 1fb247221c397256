"""Pictures of what A-Net makes of a few images as training goes on."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import jax
import jax.numpy as jnp

from ssah_jax.config import Config
from ssah_jax.data.reading import Reader
from ssah_jax.method.views import generate, make_views
from ssah_jax.retrieval.files import write_atomically
from ssah_jax.run.experiment import Experiment
from ssah_jax.run.report import pictures
from ssah_jax.types import Batch, PaceState, Params, TrainState

_IMAGES = 12


def strip_drawer(experiment: Experiment, folder: Path) -> Callable[[TrainState], bytes]:
    """A function that saves what A-Net makes of the same images, with the same key.

    It returns the PNG, and writes it to the folder under the step's number; nothing
    where there is no A-Net.
    """
    config, source = experiment.config, experiment.source
    if config.anet.kind in ("none", "stored"):
        return lambda state: b""
    labelled = experiment.split.labelled
    chosen = labelled[:: len(labelled) // _IMAGES or 1][:_IMAGES]
    images, readable = Reader(source.images, skipped=experiment.skipped)(chosen)
    batch = Batch(
        image=jnp.asarray(images[readable]),
        label=jnp.asarray(source.labels[chosen][readable]),
        unlabelled=jnp.zeros((0, *source.image_shape), jnp.uint8),
    )
    key, draw = jax.random.key(config.seed), _program(config)

    def save(state: TrainState) -> bytes:
        images, generated = jax.device_get(draw(key, batch, state.anet, state.pace))
        folder.mkdir(exist_ok=True)
        strip = pictures.draw_strip(images, generated)
        write_atomically(folder / f"step_{int(state.step):06d}.png", strip)
        return strip

    return save


@lru_cache(maxsize=1)
def _program(config: Config) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """From key, batch, A-Net and pace to views and hard samples."""

    def draw(
        key: jax.Array, batch: Batch, anet: Params, pace: PaceState
    ) -> tuple[jax.Array, jax.Array]:
        views = make_views(key, batch, config=config)
        return views.labelled, generate(anet, views, pace, config=config).images

    return jax.jit(draw)
