"""`ssah prepare`: data sets without TensorFlow, interruption, two at once."""

import fcntl
import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tree_tfds
from PIL import Image
from tree_tfds import left_over

from ssah_jax import cli as commands
from ssah_jax.data.prepare import prepare
from ssah_jax.data.source import DataError
from ssah_jax.data.tensorflow_free import MissingPackage, tensorflow_free
from ssah_jax.data.tfds import find_builder, tfds_source

# Data sets.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write", "sizes", "classes"),
    [
        ("cifar10", tree_tfds.cifar10, {"train": 100, "test": 50}, 10),
        ("cifar100", tree_tfds.cifar100, {"train": 200, "test": 100}, 100),
        ("caltech_birds2011", tree_tfds.cub200, {"train": 400, "test": 200}, 200),
        ("stanford_dogs", tree_tfds.stanford_dogs, {"train": 240, "test": 120}, 120),
    ],
)
def test_data_sets(tmp_path, capfd, name, write, sizes, classes):
    write(tmp_path / "original")
    options = {"data_dir": str(tmp_path / "data"), "verify": False}
    summary = prepare(name, source=str(tmp_path / "original"), **options)
    assert capfd.readouterr() == ("", "")
    assert summary.splits == sizes
    assert not summary.was_prepared and summary.seconds > 0
    assert (summary.directory / "dataset_info.json").exists()
    source = tfds_source(name, data_dir=str(tmp_path / "data"), size=16)
    assert source.num_classes == classes
    assert {part: len(rows) for part, rows in source.parts.items()} == sizes
    for rows in source.parts.values():
        counts = source.labels[rows].sum(axis=0)
        assert counts.min() == counts.max() == len(rows) / classes
    # Classes can be told apart: the nearest training image is of the same class.
    train, test = (
        np.stack([source.images[i] for i in source.parts[part]]).astype(np.float32)
        for part in ("train", "test")
    )
    distances = ((train[None] - test[:, None]) ** 2).sum(axis=(2, 3, 4))
    nearest = source.parts["train"][distances.argmin(axis=1)]
    same = source.labels[nearest].argmax(1) == source.labels[
        source.parts["test"]
    ].argmax(1)
    assert same.mean() > 0.7
    assert "tensorflow" not in sys.modules
    again = prepare(name, **options)
    assert again.was_prepared and again.splits == sizes
    assert left_over(tmp_path / "data" / "downloads") == []


@pytest.mark.slow
def test_birds_masks_survive(tmp_path):
    """They are written as PNG, of the size of their image."""
    import tensorflow_datasets as tfds

    tree_tfds.cub200(tmp_path, train_per_class=1, test_per_class=1)
    summary = prepare(
        "caltech_birds2011",
        data_dir=str(tmp_path / "data"),
        source=str(tmp_path),
        verify=False,
    )
    builder = tfds.builder_from_directory(str(summary.directory))
    skip = tfds.decode.SkipDecoding()
    decoders = {"image": skip, "segmentation_mask": skip}
    for example in list(builder.as_data_source("train", decoders=decoders))[:5]:
        mask = Image.open(io.BytesIO(example["segmentation_mask"]))
        image = Image.open(io.BytesIO(example["image"]))
        assert mask.format == "PNG" and mask.mode == "L"
        assert mask.size == image.size
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
        assert 0 < example["bbox"][2] <= 1


def test_more_than_fits_into_memory(tmp_path, monkeypatch):
    from tensorflow_datasets.core import shuffle

    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 5000)
    tree_tfds.cifar10(tmp_path)
    prepare(
        "cifar10", data_dir=str(tmp_path / "data"), source=str(tmp_path), verify=False
    )
    source = tfds_source("cifar10", data_dir=str(tmp_path / "data"))
    assert source.labels.sum(axis=0).tolist() == [15] * 10
    assert len({source.images[i].tobytes() for i in range(150)}) == 150


def test_nothing_is_replaced_afterwards():
    from tensorflow_datasets.core import lazy_imports_lib, shuffle
    from tensorflow_datasets.core.features import image_feature

    def state():
        return (
            shuffle.tf,
            image_feature._ImageEncoder._encode_image,
            vars(lazy_imports_lib.LazyImporter)["cv2"],
        )

    before = state()
    with pytest.raises(RuntimeError), tensorflow_free(find_builder("cifar10")):
        assert all(a is not b for a, b in zip(before, state(), strict=True))
        raise RuntimeError
    assert all(a is b for a, b in zip(before, state(), strict=True))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_arrays_become_png(channels):
    import tensorflow_datasets as tfds

    array = np.random.default_rng(0).integers(
        256, size=(5, 6, channels), dtype=np.uint8
    )
    feature = tfds.features.Image(shape=(5, 6, channels))
    with tensorflow_free(find_builder("cifar10")):
        encoded = feature.encode_example(array)
    found = np.asarray(Image.open(io.BytesIO(encoded))).reshape(array.shape)
    np.testing.assert_array_equal(found, array)


def test_what_takes_tensorflow_says_so(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds
    from tensorflow_datasets.image_classification import cifar

    with tensorflow_free(find_builder("cifar10")):
        feature = tfds.features.Image(shape=(2, 2, 3), encoding_format="jpeg")
        with pytest.raises(MissingPackage, match="encode_jpeg"):
            feature.encode_example(np.zeros((2, 2, 3), np.uint8))
    monkeypatch.setattr(cifar, "_load_data", lambda *_: cifar.tf.image.decode_png("x"))
    tree_tfds.cifar10(tmp_path)
    with pytest.raises(DataError) as error:
        prepare(
            "cifar10",
            data_dir=str(tmp_path / "data"),
            source=str(tmp_path),
            verify=False,
        )
    assert "takes tf.image of tensorflow" in str(error.value)
    assert "pip install tensorflow" in str(error.value)


def test_nus_wide_is_got_by_hand(tmp_path):
    with pytest.raises(DataError, match=r"--from: found none.*by hand.*ImageList"):
        prepare("nus_wide/top21", data_dir=str(tmp_path))


# Interruptions.


def test_interrupted_preparation_can_be_repeated(tmp_path, monkeypatch, capsys):
    from tensorflow_datasets.image_classification import cifar

    tree_tfds.cifar10(tmp_path)
    arguments = ["prepare", "cifar10", "--from", str(tmp_path), "--no-verify"]
    arguments += ["--data-dir", str(tmp_path / "data")]
    load_data = cifar._load_data

    def interrupted(path, *_):
        yield from list(load_data(path))[:5]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cifar, "_load_data", interrupted)
        assert commands.main(arguments) == 130
    assert left_over(tmp_path / "data") == []
    assert capsys.readouterr().out == ""
    with pytest.raises(DataError, match="found no prepared data"):
        tfds_source("cifar10", data_dir=str(tmp_path / "data"))
    assert commands.main(arguments) == 0
    assert "prepared cifar10 3.0.2 (train 100, test 50)" in capsys.readouterr().out
    assert commands.main(arguments) == 0
    assert capsys.readouterr().out == (
        f"already prepared: {tmp_path}/data/cifar10/3.0.2\n"
    )


def test_leftovers_of_a_killed_process_are_cleared(tmp_path):
    tree_tfds.cifar10(tmp_path)
    data = tmp_path / "data"
    for left in ("downloads/cifar10/extracted.abc", "cifar10/incomplete.AB_3.0.2"):
        (data / left).mkdir(parents=True)
        (data / left / "file").write_text("x")
    prepare("cifar10", data_dir=str(data), source=str(tmp_path), verify=False)
    assert [p.name for p in (data / "cifar10").iterdir()] == ["3.0.2"]
    assert [p.name for p in (data / "downloads/cifar10").iterdir()] == [".lock"]


def test_two_at_once(tmp_path):
    lock = tmp_path / "data" / "downloads" / "cifar10" / ".lock"
    lock.parent.mkdir(parents=True)
    tree_tfds.cifar10(tmp_path)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)  # keeps out only those who want it alone
        with pytest.raises(DataError, match="found another process preparing cifar10"):
            prepare("cifar10", data_dir=str(tmp_path / "data"), source=str(tmp_path))


def test_directory_that_is_no_data_set(tmp_path):
    tree_tfds.cifar10(tmp_path)
    (tmp_path / "data" / "cifar10" / "3.0.2").mkdir(parents=True)
    with pytest.raises(DataError, match=r"without dataset_info\.json"):
        prepare("cifar10", data_dir=str(tmp_path / "data"), source=str(tmp_path))


def test_an_interrupt_that_is_swallowed_comes_again(monkeypatch):
    swallowed = []

    def busy(arguments):
        # As in a callback of the garbage collector.
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            swallowed.append(True)
        for _ in range(500):
            time.sleep(0.01)
        return 0

    monkeypatch.setattr(commands, "_run", busy)
    monkeypatch.setattr(commands, "_INSISTENCE", 0.05)
    before = signal.getsignal(signal.SIGINT)
    assert commands.main([]) == 130
    assert swallowed == [True]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_within_jaxs_callback_comes_after_it(monkeypatch):
    heard = []

    def _xla_gc_callback():
        os.kill(os.getpid(), signal.SIGINT)
        heard.append("callback")

    def busy(arguments):
        _xla_gc_callback()
        for _ in range(500):
            time.sleep(0.01)
        return 0

    monkeypatch.setattr(commands, "_run", busy)
    assert commands.main([]) == 130
    assert heard == ["callback"]


@pytest.mark.slow
def test_killed_processes(tmp_path):
    """fashion_mnist, as TFDS fixes its 70,000 images, so that there is time to kill."""
    tree_tfds.fashion_mnist(tmp_path)
    data = tmp_path / "data"
    script = "import sys; from ssah_jax.cli import main; sys.exit(main())"
    arguments = ["prepare", "fashion_mnist", "--from", str(tmp_path), "--no-verify"]
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    command += ["--data-dir", str(data)]
    for number, status in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            while not list(data.glob("fashion_mnist/incomplete.*")):
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(0.5)
            process.send_signal(number)
            out, err = process.communicate()
        assert process.returncode == status
        assert out == ""
        if number == signal.SIGINT:
            assert err == "interrupted\n"
            assert left_over(data) == []
    assert list(data.glob("fashion_mnist/incomplete.*"))
    summary = prepare(
        "fashion_mnist", data_dir=str(data), source=str(tmp_path), verify=False
    )
    assert summary.splits == {"train": 60_000, "test": 10_000}
    assert not list(data.glob("fashion_mnist/incomplete.*"))
    source = tfds_source("fashion_mnist", data_dir=str(data), channels=1)
    assert source.images.shape == (70_000, 28, 28, 1)
    assert source.class_names[9] == "Ankle boot"
    assert source.labels.sum(axis=0).tolist() == [7000] * 10
