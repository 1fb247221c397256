"""A small run as if trained, its images as files, and `ssah` in this process."""

import dataclasses
import hashlib
import os
import shutil
from pathlib import Path

import jax
import numpy as np
from feature_cases import small
from PIL import Image

from ssah_jax import cli as commands
from ssah_jax.cli.found import Hit, QueryResult
from ssah_jax.config import from_config_dict
from ssah_jax.networks.weight_tables import WeightsError
from ssah_jax.run import encoder, frozen_encoder
from ssah_jax.run.extractor import Extractor, load_extractor
from ssah_jax.run.run_encoder import RunEncoder, load_encoder
from ssah_jax.run.workdir import Workdir
from ssah_jax.types import TrainState

NUMBER = 70

SMALL_CODES = ("--backbone", "small_conv", "--image-size", 16, "--bits", 16)
"""Codes of a backbone that compiles fast, where `small_weights` is in place."""


UPLOAD_LIMIT = 50_000
"""Bytes of an image that the app of these tests takes."""


def small_weights(backbone: str, weights: str = "default") -> Extractor:
    """In the place of `load_extractor`: has weights of "small_conv" too.

    They are others by another name.
    """
    if backbone != "small_conv":
        return load_extractor(backbone, weights)
    if weights == "nowhere":
        raise WeightsError("'nowhere': found no such file, accepted is one")
    sha256 = hashlib.sha256(weights.encode()).hexdigest()
    return small(channels=3, weights=weights, sha256=sha256)


def without_weights(patch, loader=small_weights) -> None:
    """Let encoders of frozen backbones take `loader` for their weights."""
    for module in (encoder, frozen_encoder):
        patch.setattr(module, "load_extractor", loader)


def config(**data):
    return from_config_dict(
        {
            "bits": 20,
            "steps": 2,
            "labels_per_class": 5,
            "batch": {"labelled": 8, "unlabelled": 8},
            "hnet": {"widths": (8, 16)},
            "anet": {"width": 4, "grid": 3},
            "data": {"num_queries": 50, "num_validation": 50} | data,
            "eval": {"batch": 24},
        }
    )


def as_if_trained(state: TrainState) -> TrainState:
    """`state` with another teacher, whose codes tell most images apart."""
    key = jax.random.key(1)

    def moved(leaf):
        moves = jax.random.normal(jax.random.fold_in(key, leaf.size), leaf.shape)
        return leaf + 0.3 * jax.device_put(moves, leaf.sharding)

    return state.replace(teacher=jax.tree.map(moved, state.teacher))


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, the images it was evaluated on as files, and their codes."""

    workdir: Path
    photos: Path
    names: list[str]
    codes: np.ndarray

    @property
    def encoder(self) -> RunEncoder:
        return load_encoder(Workdir(self.workdir))


def old_photos(run, number: int) -> Path:
    """Some of a run's photos below the working directory, last changed long ago."""
    for index, name in enumerate(run.names[:number]):
        path = Path("photos", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.photos / name, path)
        os.utime(path, ns=(0, 10**18 + index))
    return Path("photos")


def call(*arguments) -> int:
    """The exit status of `ssah`, in this process."""
    return commands.main([str(argument) for argument in arguments])


def mistake(capsys, *arguments) -> str:
    """The one line that `ssah` says, without its `error: `."""
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and err[:-1].isprintable()
    return err.removeprefix("error: ")


def distances(run: Run, row: int) -> np.ndarray:
    """Hamming distances of one photo to all, bit by bit."""
    ones = run.codes >= 0
    return np.array(
        [sum(a != b for a, b in zip(ones[row], o, strict=True)) for o in ones]
    )


def image_file(path: Path, size=(8, 8), mode="RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, "red").save(path, **options)
    return path


RESULTS = [
    QueryResult(
        "q,\n<b>&\"'.jpg",
        (
            Hit(1, 0, "a.png", ("cat", "black & <i>white")),
            Hit(2, 11, "日本.png", ()),
            Hit(10, 12, "x\udcff\n</section>.png", ("dog",)),
        ),
    ),
    QueryResult("none.jpg", ()),
]
