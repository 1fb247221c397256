"""Image sets of TFDS: what is read is what was written; labels, cache, mistakes."""

import concurrent.futures
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tree_tfds
from image_files import encode

from ssah_jax.data import label_cache, records
from ssah_jax.data.images import ImageError
from ssah_jax.data.prepare import prepare
from ssah_jax.data.source import DataError
from ssah_jax.data.tfds import find_builder, open_images, tfds_source


@pytest.fixture(scope="module")
def cifar(tmp_path_factory) -> str:
    """A data directory with small cifar10 and cifar100."""
    root = tmp_path_factory.mktemp("cifar")
    tree_tfds.cifar10(root / "original", num_train=40, num_test=20)
    tree_tfds.cifar100(root / "original", num_train=200, num_test=100)
    for name in ("cifar10", "cifar100"):
        prepare(
            name,
            data_dir=str(root / "data"),
            source=str(root / "original"),
            verify=False,
        )
    return str(root / "data")


def encoded(shape: tuple[int, ...], value: int = 7) -> bytes:
    return encode(np.full(shape, value, np.uint8))


def write(data_dir: Path, features, splits, *, version: str = "1.0.0") -> str:
    """Have TFDS prepare a data set `mine` that it does not know by name."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    with registered.skip_registration():

        class Mine(tfds.core.GeneratorBasedBuilder):
            name = "mine"
            VERSION = tfds.core.Version(version)

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {k: iter(list(enumerate(v))) for k, v in splits.items()}

            def _generate_examples(self):
                raise NotImplementedError

    builder = Mine(data_dir=str(data_dir), file_format="array_record")
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
    return str(data_dir)


def features(**others):
    import tensorflow_datasets as tfds

    return {"image": tfds.features.Image(), **others}


def class_label(names=("a", "b", "c")):
    import tensorflow_datasets as tfds

    return tfds.features.ClassLabel(names=list(names))


def test_images_and_labels_are_those_of_the_archive(cifar):
    source = tfds_source("cifar10", data_dir=cifar)
    assert source.images.shape == (60, 32, 32, 3)
    assert source.image_shape == (32, 32, 3)
    assert not source.multi_label
    assert source.class_names[:2] == ("airplane", "automobile")
    assert {part: len(rows) for part, rows in source.parts.items()} == {
        "train": 40,
        "test": 20,
    }
    for part, count in (("train", 40), ("test", 20)):
        images, classes = tree_tfds.images_of(part, count, num_classes=10, size=32)
        expected = {i.tobytes(): c for i, c in zip(images, classes, strict=True)}
        found = {}
        for index in source.parts[part]:
            (found_class,) = np.flatnonzero(source.labels[index])
            found[source.images[index].tobytes()] = found_class
            assert source.images.names[index].startswith(f"cifar10/{part}/")
        assert found == expected
    assert len(set(source.images.names)) == 60


def test_label_feature_can_be_chosen(cifar):
    fine = tfds_source("cifar100", data_dir=cifar)
    coarse = tfds_source("cifar100", data_dir=cifar, label="coarse_label")
    assert fine.num_classes == 100 and coarse.num_classes == 20
    assert coarse.class_names[3] == "coarse03"
    np.testing.assert_array_equal(
        fine.labels.argmax(1) % 20, coarse.labels.argmax(axis=1)
    )
    np.testing.assert_array_equal(coarse.labels.sum(axis=1), 1)
    with pytest.raises(DataError, match=r"data\.label: found 'colour'.*'coarse_label'"):
        tfds_source("cifar100", data_dir=cifar, label="colour")


def test_multi_label_sequences(tmp_path):
    import tensorflow_datasets as tfds

    tags = [[0, 2], [], [1], [2, 2, 0]]
    data_dir = write(
        tmp_path,
        features(tags=tfds.features.Sequence(class_label())),
        {
            "train": [
                {"image": encoded((4, 4, 3), 10 * i), "tags": tags[i]} for i in range(4)
            ]
        },
    )
    source = tfds_source("mine", data_dir=data_dir, size=4)
    assert source.multi_label
    found = {int(source.images[i][0, 0, 0]) // 10: source.labels[i] for i in range(4)}
    for index, classes in enumerate(tags):
        expected = np.zeros(3, np.float32)
        expected[classes] = 1
        np.testing.assert_array_equal(found[index], expected)


def test_validation_stands_in_for_a_missing_test_split(tmp_path):
    examples = [{"image": encoded((4, 4, 3)), "label": i % 3} for i in range(5)]
    parts = {"validation": examples[:2], "train": examples[:3], "extra": examples}
    data_dir = write(tmp_path / "a", features(label=class_label()), parts)
    source = tfds_source("mine", data_dir=data_dir, size=4)
    assert {part: rows.tolist() for part, rows in source.parts.items()} == {
        "train": [0, 1, 2],
        "validation": [3, 4],
        "test": [3, 4],
        "extra": [5, 6, 7, 8, 9],
    }
    parts["test"] = examples[:1]
    data_dir = write(tmp_path / "b", features(label=class_label()), parts)
    source = tfds_source("mine", data_dir=data_dir, size=4)
    assert source.parts["test"].tolist() == [5]


def test_hidden_labels(tmp_path):
    known = [{"image": encoded((4, 4, 3)), "label": i % 3} for i in range(3)]
    hidden = [{"image": encoded((4, 4, 3)), "label": -1} for _ in range(2)]
    data_dir = write(
        tmp_path / "a",
        features(label=class_label()),
        {"train": known, "unlabelled": hidden},
    )
    source = tfds_source("mine", data_dir=data_dir, size=4)
    assert source.labels[source.parts["unlabelled"]].sum() == 0
    assert source.labels[source.parts["train"]].sum() == 3
    data_dir = write(
        tmp_path / "b", features(label=class_label()), {"train": known, "test": hidden}
    )
    with pytest.raises(DataError, match="found 2 of 2 images of split 'test' without"):
        tfds_source("mine", data_dir=data_dir, size=4)


def test_ambiguous_or_absent_features(tmp_path):
    import tensorflow_datasets as tfds

    example = {"image": encoded((4, 4, 3)), "x": 0, "y": 1}
    both = features(x=class_label(), y=class_label())
    data_dir = write(tmp_path / "a", both, {"train": [example]})
    with pytest.raises(DataError, match="found '', accepted for mine is 'x' or 'y'"):
        tfds_source("mine", data_dir=data_dir, size=4)
    none = features(x=tfds.features.Scalar(np.int64))
    data_dir = write(
        tmp_path / "b", none, {"train": [{"image": encoded((4, 4, 3)), "x": 0}]}
    )
    with pytest.raises(DataError, match="it has no features of class labels"):
        tfds_source("mine", data_dir=data_dir, size=4)
    data_dir = write(
        tmp_path / "c", {"label": class_label()}, {"train": [{"label": 0}]}
    )
    with pytest.raises(DataError, match="found no image features"):
        tfds_source("mine", data_dir=data_dir, size=4)


def test_images_of_many_sizes_need_a_size(tmp_path):
    examples = [{"image": encoded((4 + i, 9, 3)), "label": 0} for i in range(3)]
    data_dir = write(tmp_path, features(label=class_label()), {"train": examples})
    with pytest.raises(
        DataError, match=r"data\.image_size: found 0, but images of mine"
    ):
        tfds_source("mine", data_dir=data_dir)
    source = tfds_source("mine", data_dir=data_dir, size=5, channels=1)
    assert source.images.shape == (3, 5, 5, 1)
    assert source.images[2].shape == (5, 5, 1)


def test_other_features_are_not_decoded(tmp_path):
    import tensorflow_datasets as tfds

    data_dir = write(
        tmp_path,
        features(label=class_label(), mask=tfds.features.Image(shape=(None, None, 1))),
        {"train": [{"image": encoded((4, 4, 3)), "label": 2, "mask": b"no image"}]},
    )
    source = tfds_source("mine", data_dir=data_dir, size=4)
    assert source.images[0].max() == 7
    assert source.labels[0].tolist() == [0, 0, 1]


def test_not_prepared(tmp_path):
    with pytest.raises(DataError) as error:
        tfds_source("cifar10", data_dir=str(tmp_path))
    assert str(error.value) == (
        f"cifar10: found no prepared data in {tmp_path}/cifar10/3.0.2, "
        f"run: ssah prepare cifar10 --data-dir {tmp_path}"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifar11", "cifar10"),
        ("stanford_dog", "stanford_dogs"),
        ("nus_wid/top21", "nus_wide"),
        ("huggingface:mnist", "accepted is one of"),
        ("", "such as cifar10"),
        ("cifar10/large", "BuilderConfig large not found"),
        ("cifar10:9.9.9", "only: 3.0.2"),
    ],
)
def test_unknown_names(tmp_path, name, hint):
    with pytest.raises(DataError) as error:
        find_builder(name, data_dir=str(tmp_path))
    assert hint in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


def test_labels_are_read_once(cifar, monkeypatch):
    first = tfds_source("cifar100", data_dir=cifar)
    (path,) = Path(cifar).glob("cifar100/*/ssah_labels_label.npz")
    assert not list(path.parent.glob(".ssah*"))

    def fail(self):
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(records.Records, "__iter__", fail)
        again = tfds_source("cifar100", data_dir=cifar)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert again.labels.dtype == np.float32


def test_cache_of_other_data_is_ignored(tmp_path):
    def data(labels, version="1.0.0"):
        return write(
            tmp_path,
            features(label=class_label()),
            {"train": [{"image": encoded((4, 4, 3)), "label": n} for n in labels]},
            version=version,
        )

    def labels():
        source = tfds_source("mine", data_dir=str(tmp_path), size=4)
        return sorted(source.labels.argmax(axis=1).tolist())

    data([0, 1, 2])
    assert labels() == [0, 1, 2]
    (path,) = tmp_path.glob("mine/*/ssah_labels_label.npz")
    cache = path.read_bytes()
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    data([2, 2, 1, 1])
    path.write_bytes(cache)
    assert labels() == [1, 1, 2, 2]
    assert path.read_bytes() != cache
    path.write_bytes(cache[: len(cache) // 2])
    assert labels() == [1, 1, 2, 2]
    path.write_bytes(b"")
    assert labels() == [1, 1, 2, 2]


def test_read_only_directory_goes_without_a_cache(cifar, monkeypatch):
    (path,) = Path(cifar).glob("cifar10/*/dataset_info.json")
    cache = path.parent / "ssah_labels_label.npz"
    cache.unlink(missing_ok=True)

    def read_only(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(label_cache.tempfile, "NamedTemporaryFile", read_only)
    source = tfds_source("cifar10", data_dir=cifar)
    assert source.labels.sum() == 60
    assert not cache.exists()


def test_a_full_disk_leaves_no_half_of_a_cache(monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(label_cache.np, "savez_compressed", full)
    label_cache.write(tmp_path / "x.npz", np.ones((2, 3), np.uint8), stamp="a")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_threads_read_what_one_thread_reads(cifar):
    expected = open_images(find_builder("cifar100", data_dir=cifar), name="x")
    expected = [expected[i] for i in range(len(expected))]
    images = tfds_source("cifar100", data_dir=cifar).images  # no reader is open yet
    indices = np.random.default_rng(0).integers(300, size=3000).tolist()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(images.__getitem__, indices))
    for index, image in zip(indices, found, strict=True):
        np.testing.assert_array_equal(image, expected[index])


def test_images_can_be_pickled(cifar):
    images = tfds_source("cifar10", data_dir=cifar).images
    again = pickle.loads(pickle.dumps(images))
    assert len(again) == 60
    for index in (0, 39, 40, 59):
        np.testing.assert_array_equal(again[index], images[index])


def test_damaged_records(tmp_path):
    rng = np.random.default_rng(0)
    examples = []
    for _ in range(20):
        noise = rng.integers(256, size=(64, 64, 3), dtype=np.uint8)
        examples.append({"image": encode(noise), "label": 0})
    data_dir = write(tmp_path, features(label=class_label()), {"train": examples})
    tfds_source("mine", data_dir=data_dir, size=4)
    (path,) = tmp_path.glob("mine/*/*.array_record*")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 5000] = bytes(5000)
    path.write_bytes(content)
    images = tfds_source("mine", data_dir=data_dir, size=4).images
    errors = []
    for index in range(20):
        try:
            images[index]
        except ImageError as error:
            errors.append(str(error))
    assert 0 < len(errors) < 20
    assert all("mine/train/0000" in e and "\n" not in e for e in errors)
    next(path.parent.glob("ssah_labels*")).unlink()
    with pytest.raises(DataError, match="unreadable record"):
        tfds_source("mine", data_dir=data_dir, size=4)


@pytest.mark.slow
def test_neither_tensorflow_nor_noise(cifar):
    """In a process of its own, with all warnings as errors, nothing prepared before."""
    script = f"""
import sys
from ssah_jax.data.tfds import tfds_source
source = tfds_source("cifar10", data_dir={cifar!r})
source.images[0]
try:
    tfds_source("cifar10", data_dir={cifar + "/none"!r})
except ValueError as error:
    print(error)
print([m for m in sys.modules if m.split(".")[0] in ("tensorflow", "cv2")])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found, modules = done.stdout.splitlines()
    assert found.startswith("cifar10: found no prepared data in ")
    assert modules == "[]"
