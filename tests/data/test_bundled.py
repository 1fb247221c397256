"""Bundled images: the digits, synthetic ones, and what a source must be."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from image_files import one_line
from label_sources import in_part

from ssah_jax.data.bundled import digits, synthetic_images
from ssah_jax.data.source import Source, consecutive_parts


def test_digits():
    from sklearn.datasets import load_digits

    source = digits()
    assert len(source) == 1797
    parts = [source.parts["train"], source.parts["test"]]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(1797))
    train, test = in_part(source, "train")[1], in_part(source, "test")[1]
    assert source.image_shape == (8, 8, 1)
    raw = load_digits()
    for digit in range(10):
        total = int((raw.target == digit).sum())
        assert test[:, digit].sum() == int(total / 4 + 0.5)
        assert train[:, digit].sum() == total - int(total / 4 + 0.5)
    levels = {round(v * 255 / 16 + 1e-9): v for v in range(17)}
    assert len(levels) == 17
    # Together the two parts are the whole set, each image with its own label.
    found = sorted(
        (tuple(levels[int(v)] for v in image.ravel()), int(label.argmax()))
        for image, label in zip(source.images, source.labels, strict=True)
    )
    expected = sorted(
        (tuple(int(v) for v in image.ravel()), int(label))
        for image, label in zip(raw.images, raw.target, strict=True)
    )
    assert found == expected


def test_synthetic_is_learnable():
    source = synthetic_images(seed=1, num_classes=8, channels=3)
    train, labels = in_part(source, "train")
    means = np.einsum("nc,nhwk->chwk", labels / labels.sum(0), train.astype(float))
    test, labels = in_part(source, "test")
    distance = ((test[:, None].astype(float) - means[None]) ** 2).sum((2, 3, 4))
    accuracy = (distance.argmin(1) == labels.argmax(1)).mean()
    assert accuracy > 0.8


def test_synthetic_sizes_and_seeds():
    options = dict(
        num_classes=3,
        image_size=9,
        channels=2,
        train_per_class=4,
        test_per_class=2,
    )
    source = synthetic_images(seed=0, **options)
    assert source.image_shape == (9, 9, 2)
    train, test = in_part(source, "train"), in_part(source, "test")
    np.testing.assert_array_equal(train[1].sum(0), [4, 4, 4])
    np.testing.assert_array_equal(test[1].sum(0), [2, 2, 2])
    assert source.images.dtype == np.uint8
    again = synthetic_images(seed=0, **options)
    np.testing.assert_array_equal(source.images, again.images)
    other = synthetic_images(seed=1, **options)
    assert (source.images != other.images).any()
    assert (train[0][:6] != test[0]).any()


def test_synthetic_multi_label():
    source = synthetic_images(seed=0, num_classes=6, multi_label=True)
    assert source.multi_label
    for part in ("train", "test"):
        _, labels = in_part(source, part)
        assert set(np.unique(labels)) == {0, 1}
        assert set(labels.sum(1)) == {1, 2, 3}
        assert (labels.sum(0) > 0).all()
    few = synthetic_images(seed=0, num_classes=2, multi_label=True)
    assert set(few.labels.sum(1)) == {1, 2}


def test_synthetic_multi_label_image_is_a_union():
    # With many images an image of classes {a, b} is, on average, the larger of both.
    source = synthetic_images(
        seed=0, num_classes=2, multi_label=True, train_per_class=400
    )
    images, labels = in_part(source, "train")
    groups = {
        tuple(key): images[(labels == key).all(1)].mean(0)
        for key in ([1, 0], [0, 1], [1, 1])
    }
    union = np.maximum(groups[(1, 0)], groups[(0, 1)])
    assert np.abs(groups[(1, 1)] - union).mean() < 6
    assert np.abs(groups[(1, 0)] - union).mean() > 12


@pytest.mark.parametrize(
    ("option", "value"),
    [("num_classes", 0), ("image_size", 3), ("channels", 0), ("test_per_class", 0)],
)
def test_synthetic_rejects(option, value):
    with pytest.raises(ValueError, match=r"found .* = \d, expected at least \d"):
        synthetic_images(seed=0, **{option: value})


def test_source_checks_itself():
    good = dict(
        name="toy",
        images=np.zeros((3, 2, 4, 1), np.uint8),
        labels=np.ones((3, 2), np.float32),
        parts=consecutive_parts(train=2, test=1, unlabelled=0),
        class_names=("a", "b"),
        multi_label=True,
    )
    source = Source(**good)
    assert (len(source), source.num_classes, source.image_shape) == (3, 2, (2, 4, 1))
    assert {name: rows.tolist() for name, rows in source.parts.items()} == {
        "train": [0, 1],
        "test": [2],
    }
    for changed, message in (
        (dict(labels=good["labels"][:2]), "found 3 images and 2 rows of labels"),
        (dict(images=good["images"].astype(float)), "found images of type float64"),
        (dict(images=good["images"][..., 0]), r"shape \(3, 2, 4\), expected uint8"),
        (dict(class_names=("a",)), "found 2 columns of labels and 1 class names"),
        (dict(parts={"train": np.array([1, 0])}), "repeat or are not sorted"),
        (dict(parts={"train": np.array([0, 3])}), "from 0 to 3, expected 0 to 2"),
        (dict(parts={"train": np.array([-1, 2])}), "from -1 to 2, expected 0 to 2"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            Source(**good | changed)
        assert "source 'toy'" in one_line(error)


def test_no_tensorflow(tmp_path):
    # A stand-in that can be imported, so that an import anywhere would be seen.
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import ssah_jax.data; "
        "assert 'tensorflow' not in sys.modules; import tensorflow"
    )
    root = pathlib.Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
