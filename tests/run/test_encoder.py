"""Codes of images from a run alone: no training data, any devices, any process."""

import dataclasses
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ROOT, environment
from PIL import Image

from ssah_jax.config import Config, from_config_dict
from ssah_jax.data import DataError, SkippedImages
from ssah_jax.data.encoded import image_files
from ssah_jax.method import steps
from ssah_jax.run import evaluators, opening, parallel
from ssah_jax.run import run_encoder as encoder_lib
from ssah_jax.run.checkpointing import open_checkpoints
from ssah_jax.run.experiment import Experiment, prepare
from ssah_jax.run.run_encoder import RunEncoder, load_encoder
from ssah_jax.run.workdir import Workdir
from ssah_jax.types import TrainState


def config(path: Path) -> Config:
    return from_config_dict(
        {
            "bits": 12,
            "steps": 2,
            "labels_per_class": 3,
            "log_every": 2,
            "checkpoint_every": 2,
            "batch": {"labelled": 8, "unlabelled": 8},
            "hnet": {"widths": (4, 8)},
            "anet": {"width": 4, "grid": 3},
            "data": {
                "source": "folder",
                "path": str(path),
                "image_size": 12,
                "crop_size": 10,
                "channels": 1,
                "protocol": "pooled",
                "num_queries": 5,
                "num_validation": 5,
            },
            "eval": {"every": 2, "batch": 24},
        }
    )


def as_if_trained(state: TrainState) -> TrainState:
    """`state` with a teacher, and statistics of it, unlike those of H-Net."""
    key = jax.random.key(1)

    def moved(leaf):
        moves = jax.random.normal(jax.random.fold_in(key, leaf.size), leaf.shape)
        return leaf + 0.1 * jax.device_put(moves, leaf.sharding)

    return state.replace(
        teacher=jax.tree.map(moved, state.teacher),
        teacher_stats=jax.tree.map(
            lambda leaf: leaf + 0.1 * (leaf + 1), state.teacher_stats
        ),
    )


@dataclasses.dataclass(frozen=True)
class Trained:
    workdir: Workdir
    experiment: Experiment
    photos: Path
    names: list[str]
    codes: np.ndarray


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    """A run, with the evaluator's codes, whose training images are then removed."""
    root = tmp_path_factory.mktemp("encoder")
    generator = np.random.default_rng(0)
    for index in range(60):
        path = root / "data" / f"class {index % 3}" / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (14, 16), np.uint8)
        Image.fromarray(pixels).save(path)
    shutil.copytree(root / "data", root / "photos")
    experiment = prepare(config(root / "data"))
    workdir = Workdir(root / "run")
    with opening.open_run(experiment, workdir) as run:
        state = as_if_trained(run.state)
        run.checkpoints.save(2, state, iterators={}, metric=None)
        everything = np.arange(len(experiment.source))
        codes, _ = evaluators.Evaluator(experiment).codes(state, everything)
    names = list(experiment.source.images.names)
    shutil.rmtree(root / "data")
    return Trained(workdir, experiment, root / "photos", names, codes)


def photos(trained: Trained, names: list[str] | None = None):
    return image_files(
        trained.photos, trained.names if names is None else names, size=12, channels=1
    )


def gather(encoder: RunEncoder, images, **options) -> tuple[np.ndarray, np.ndarray]:
    batches = list(encoder.encode(images, **options))
    indices, codes = zip(*batches, strict=True)
    return np.concatenate(indices), np.concatenate(codes)


@pytest.mark.slow
def test_codes_are_the_evaluators_without_the_training_data(trained):
    encoder = load_encoder(trained.workdir)
    assert encoder.bits == 12
    indices, codes = gather(encoder, photos(trained))
    np.testing.assert_array_equal(indices, np.arange(60))
    np.testing.assert_array_equal(codes, trained.codes)
    # Codes of different images differ, or equality would say little.
    assert len(np.unique(codes >= 0, axis=0)) > 10


def test_codes_are_the_teachers(trained):
    """Not those of H-Net as it was trained last."""
    encoder = load_encoder(trained.workdir)
    images = np.stack([photos(trained)[index] for index in range(60)])
    on_device = jnp.asarray(images)
    encode = jax.jit(partial(steps.encode_step, config=encoder.config))
    wanted, other = (
        encode(params, stats, on_device)
        for params, stats in (
            (encoder.state.teacher, encoder.state.teacher_stats),
            (encoder.state.hnet, encoder.state.batch_stats),
        )
    )
    _, codes = gather(encoder, images)
    np.testing.assert_allclose(codes, wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(codes - other).max() > 1e-3


def test_unreadable_images_are_left_out(trained):
    bad = [0, 7, 23, 24, 59]
    names = list(trained.names)
    for index in bad:
        names[index] = f"missing {index}.png"
    skipped = SkippedImages(num_images=60, max_share=1.0)
    encoder = load_encoder(trained.workdir)
    indices, codes = gather(encoder, photos(trained, names), skipped=skipped)
    good = np.setdiff1d(np.arange(60), bad)
    np.testing.assert_array_equal(indices, good)
    np.testing.assert_array_equal(codes, trained.codes[good])
    assert [reason.split(".png")[0] for reason in skipped.reasons] == [
        f"missing {index}" for index in bad
    ]
    with pytest.raises(DataError, match=r"missing \d+\.png: found that it cannot"):
        gather(encoder, photos(trained, names))


def test_no_readable_image_gives_no_code(trained):
    skipped = SkippedImages(num_images=3, max_share=1.0)
    images = photos(trained, ["a.png", "b.png", "c.png"])
    indices, codes = gather(load_encoder(trained.workdir), images, skipped=skipped)
    assert indices.shape == (0,) and codes.shape == (0, 12)
    assert len(skipped) == 3


def test_no_images_give_no_batch(trained):
    assert list(load_encoder(trained.workdir).encode(photos(trained, []))) == []


def test_images_of_another_shape_are_refused(trained):
    encoder = load_encoder(trained.workdir)
    with pytest.raises(ValueError, match=r"found shape \(12, 12, 3\), accepted is"):
        gather(encoder, np.zeros((2, 12, 12, 3), np.uint8))


def test_no_run_and_no_checkpoint(trained, tmp_path):
    with pytest.raises(ValueError, match=r"no config\.json"):
        load_encoder(Workdir(tmp_path))
    with pytest.raises(ValueError, match="step 7"):
        load_encoder(trained.workdir, "7")


def change(tree):
    """The same pytree with one number of one leaf changed a little."""
    leaves, structure = jax.tree.flatten(tree)
    leaves[-1] = leaves[-1].at[(0,) * leaves[-1].ndim].add(1e-3)
    return jax.tree.unflatten(structure, leaves)


def copy_of_run(trained: Trained, path: Path) -> Workdir:
    shutil.copytree(trained.workdir.path, path)
    return Workdir(path)


def rewrite(workdir: Workdir, name: str, old: str, new: str) -> None:
    path = workdir.path / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_fingerprint_of_a_copy_is_the_same(trained, tmp_path):
    copy = copy_of_run(trained, tmp_path / "copy")
    rewrite(copy, "config.json", '"threads": 0', '"threads": 2')
    rewrite(copy, "config.json", str(trained.photos.parent), "/elsewhere")
    found = load_encoder(copy).fingerprint
    assert found == load_encoder(trained.workdir).fingerprint
    assert len(found) == 16 and int(found, 16)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("config.json", '"resize": "crop"', '"resize": "squash"'),
        ("config.json", '"crop_size": 10', '"crop_size": 11'),
        ("config.json", '"mean": [\n      0.5\n    ]', '"mean": [\n      0.4\n    ]'),
        ("config.json", '"std": [\n      0.25\n    ]', '"std": [\n      0.2\n    ]'),
        # As when the images of a run without data.image_size are of another size.
        ("model.json", "12,\n    12,\n    1\n", "14,\n    14,\n    1\n"),
    ],
)
def test_fingerprint_changes_with_the_preprocessing(trained, tmp_path, name, old, new):
    copy = copy_of_run(trained, tmp_path / "copy")
    rewrite(copy, name, old, new)
    found = load_encoder(copy).fingerprint
    assert found != load_encoder(trained.workdir).fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("field", ["teacher", "teacher_stats"])
def test_fingerprint_changes_with_the_parameters(trained, monkeypatch, field):
    whole = load_encoder(trained.workdir)
    restore = encoder_lib.checkpointing.Checkpoints.restore

    def changed(self, *args, **kwargs):
        state = restore(self, *args, **kwargs)
        return state.replace(**{field: change(getattr(state, field))})

    with monkeypatch.context() as patch:
        patch.setattr(encoder_lib.checkpointing.Checkpoints, "restore", changed)
        assert load_encoder(trained.workdir).fingerprint != whole.fingerprint
    assert load_encoder(trained.workdir).fingerprint == whole.fingerprint


@pytest.mark.parametrize("field", ["hnet", "anet", "step"])
def test_fingerprint_is_of_what_encodes_alone(trained, monkeypatch, field):
    """Codes do not depend on what only training reads."""
    restore = encoder_lib.checkpointing.Checkpoints.restore
    whole = load_encoder(trained.workdir).fingerprint

    def changed(self, *args, **kwargs):
        state = restore(self, *args, **kwargs)
        value = getattr(state, field)
        return state.replace(**{field: value + 1 if field == "step" else change(value)})

    monkeypatch.setattr(encoder_lib.checkpointing.Checkpoints, "restore", changed)
    assert load_encoder(trained.workdir).fingerprint == whole


def test_checkpoints_are_told_apart(trained):
    """That of step 2 is the only one, the last, and the best."""
    with open_checkpoints(trained.workdir.checkpoints, read_only=True) as saved:
        assert saved.all_steps() == [2]
    prints = {load_encoder(trained.workdir, w).fingerprint for w in ("last", "2")}
    assert len(prints) == 1


@pytest.mark.slow
def test_another_process_with_other_devices_gives_the_same(trained, tmp_path):
    script = (
        "import sys, pathlib, numpy as np\n"
        "from ssah_jax.data.finding import find_images\n"
        "from ssah_jax.data.encoded import image_files\n"
        "from ssah_jax.run.run_encoder import load_encoder\n"
        "from ssah_jax.run.workdir import Workdir\n"
        "root = pathlib.Path(sys.argv[2])\n"
        "encoder = load_encoder(Workdir(sys.argv[1]))\n"
        "images = image_files(root, find_images(root), size=12, channels=1)\n"
        "codes = np.concatenate([codes for _, codes in encoder.encode(images)])\n"
        "np.save(sys.argv[3], codes)\n"
        "print(encoder.fingerprint)\n"
    )
    encoder = load_encoder(trained.workdir)
    assert len(jax.tree.leaves(encoder.state)[0].sharding.device_set) == 8
    for devices in (1, 3):
        out = tmp_path / f"{devices}.npy"
        done = subprocess.run(
            [
                *(sys.executable, "-c", script, trained.workdir.path),
                *(trained.photos, out),
            ],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment(devices),
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == encoder.fingerprint
        codes = np.load(out)
        np.testing.assert_allclose(codes, trained.codes, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(codes >= 0, trained.codes >= 0)


def test_state_lies_on_all_devices(trained):
    encoder = load_encoder(trained.workdir)
    wanted = parallel.replicate(np.zeros(1)).sharding
    for leaf in jax.tree.leaves(encoder.state):
        assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim)
