"""Images a second from JPEG files to augmented 224-pixel batches, beside two peers.

    pip install torch torchvision tensorflow
    python benchmarks/input_speed.py

The same JPEG files (crops of scikit-learn's two photographs, 500x375 pixels), the same
work: decode, shorter side to 256 pixels, random square of 224, mirror, batch of 64.
Peers: PyTorch's DataLoader with torchvision's transforms on Pillow, and tf.data. Ours
decodes in threads and augments on the device, here the same CPU. Each is given one and
then two workers (threads, or processes for PyTorch); rounds alternate. A peer that is
not installed is left out. Ours augments in threads of XLA's beside the workers.

Then SSAH is trained on the same files, read from disk at every step, by one small
network, and the share of a step that is spent waiting for data is read from its log.
"""

import importlib.metadata
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import jax
import numpy as np
import records
from absl import app, flags
from PIL import Image

from ssah_jax import transforms
from ssah_jax.config import from_config_dict
from ssah_jax.data import eval_batches
from ssah_jax.data.encoded import image_files
from ssah_jax.run import opening, train_lib
from ssah_jax.run.experiment import prepare
from ssah_jax.run.workdir import Workdir

_IMAGES = flags.DEFINE_integer("images", 512, "JPEG files; one round reads each once.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Timed rounds of each kind.")
_OUTPUT = flags.DEFINE_string("output", None, "Where the JSON goes.")

_BATCH = 64
_SIZE, _CROP = 256, 224


def write_photographs(directory: Path, number: int) -> list[Path]:
    """JPEG files of 500 x 375 pixels, cut from two photographs at random."""
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    rng = np.random.default_rng(0)
    paths = []
    for index in range(number):
        photograph = Image.fromarray(photographs[index % len(photographs)])
        width = int(rng.integers(400, 641))
        height = width * 3 // 4
        left = int(rng.integers(0, 641 - width))
        top = int(rng.integers(0, max(1, 428 - height)))
        box = (left, top, left + width, min(427, top + height))
        paths.append(directory / f"{index:05d}.jpg")
        photograph.crop(box).resize((500, 375)).save(paths[-1], quality=90)
    return paths


def ours(paths: list[Path], workers: int) -> Iterator[object]:
    """Batches of this project, augmented on the device."""
    images = image_files(paths[0].parent, [path.name for path in paths], size=_SIZE)
    indices = np.arange(len(paths))
    key = jax.random.key(0)
    batches = eval_batches(images, indices, batch_size=_BATCH, threads=workers)
    for number, (image, _) in enumerate(batches):
        yield _augment(jax.random.fold_in(key, number), image)


@jax.jit
def _augment(key: jax.Array, images: jax.Array) -> jax.Array:
    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        crop, flip = jax.random.split(key)
        image = transforms.random_crop(crop, image / 255.0, size=_CROP)
        return transforms.random_flip(flip, image)

    return jax.vmap(one)(jax.random.split(key, len(images)), images)


def pytorch(paths: list[Path], workers: int) -> Iterator[object]:
    """Batches of PyTorch's DataLoader."""
    import torch
    import torchvision.transforms as T

    transform = T.Compose(
        [
            T.Resize(_SIZE),
            T.RandomCrop(_CROP),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
        ]
    )

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> object:
            with Image.open(paths[index]) as image:
                return transform(image.convert("RGB"))

    yield from torch.utils.data.DataLoader(
        Files(), batch_size=_BATCH, num_workers=workers
    )


def tf_data(paths: list[Path], workers: int) -> Iterator[object]:
    """Batches of tf.data."""
    import tensorflow as tf

    def load(path: object) -> object:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        scaled = tf.cast(tf.round(shape * _SIZE / tf.reduce_min(shape)), tf.int32)
        image = tf.image.resize(image, scaled, antialias=True) / 255.0
        image = tf.image.random_crop(image, (_CROP, _CROP, 3))
        return tf.image.random_flip_left_right(image)

    batches = (
        tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
        .map(load, num_parallel_calls=workers)
        .batch(_BATCH)
        .prefetch(2)
    )
    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    yield from batches.with_options(options)


def waiting(paths: list[Path], workdir: Path, size: int, crop: int) -> dict[str, float]:
    """Train on the photographs; mean share of the time that steps wait for data."""
    photographs = workdir / "photographs"
    for index, path in enumerate(paths):
        folder = photographs / ("temple", "flower")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)
    config = from_config_dict(
        {
            "steps": 40,
            "log_every": 10,
            "batch": {"labelled": 32, "unlabelled": 32},
            "data": {
                "source": "folder",
                "path": str(photographs),
                "image_size": size,
                "crop_size": crop,
                "protocol": "pooled",
                "num_queries": 40,
                "num_validation": 0,
                "mean": (0.485, 0.456, 0.406),
                "std": (0.229, 0.224, 0.225),
            },
            "eval": {"every": 0},
        }
    )
    run_in = Workdir(workdir / "run")
    with opening.open_run(prepare(config), run_in) as run:
        train_lib.train(run)
    # The first interval holds compiling.
    lines = run_in.read_metrics()[1:]
    return {
        name: statistics.mean(line[name] for line in lines)
        for name in ("data_wait", "images_per_second")
    }


def main(_: list[str]) -> None:
    """Time all that is installed and write the record."""
    loaders: dict[str, Callable[..., Iterator[object]]] = {"ssah_jax": ours}
    for package, loader in (("torchvision", pytorch), ("tensorflow", tf_data)):
        if importlib.util.find_spec(package):
            loaders[package] = loader
    with tempfile.TemporaryDirectory() as directory:
        paths = write_photographs(Path(directory), _IMAGES.value)
        runs = {
            (name, workers): partial(loader, paths, workers)
            for name, loader in loaders.items()
            for workers in (1, 2)
        }
        speeds: dict[tuple[str, int], list[float]] = {run: [] for run in runs}
        for timed in (False, *[True] * _ROUNDS.value):
            for run, loader in runs.items():
                start = time.perf_counter()
                for batch in loader():
                    last = batch
                jax.block_until_ready(last if run[0] == "ssah_jax" else 0)
                if timed:
                    seconds = time.perf_counter() - start
                    speeds[run].append(_IMAGES.value / seconds)
        waits = {}
        for size, crop in ((72, 64), (256, 224)):
            workdir = Path(directory) / f"crop{crop}"
            waits[f"crop_{crop}"] = waiting(paths, workdir, size, crop)
    best = {
        name: {f"workers_{n}": statistics.median(speeds[name, n]) for n in (1, 2)}
        for name in loaders
    }
    records.write(
        "input_speed",
        {
            "images": _IMAGES.value,
            "image": "JPEG, 500x375, quality 90",
            "images_per_second": best,
            "ratio_to": {
                name: {
                    key: best["ssah_jax"][key] / best[name][key] for key in best[name]
                }
                for name in best
                if name != "ssah_jax"
            },
            "training": waits,
            "peers": {
                name: importlib.metadata.version(name)
                for name in ("torch", "torchvision", "tensorflow", "pillow")
                if importlib.util.find_spec("PIL" if name == "pillow" else name)
            },
        },
        _OUTPUT.value,
    )


if __name__ == "__main__":
    app.run(main)
