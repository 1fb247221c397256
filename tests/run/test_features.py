"""Features computed once and kept in a directory."""

import dataclasses
import functools
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_cases import LITE0, WIDTH, data_set, direct, small, write

from ssah_jax.config import from_config_dict
from ssah_jax.data import (
    DataError,
    SkippedImages,
    eval_batches,
    feature_writer,
    features_source,
    in_memory,
)
from ssah_jax.data.feature_writer import FeatureWriter
from ssah_jax.data.features import read_feature_info
from ssah_jax.networks.pretrained import WeightsError
from ssah_jax.run.extractor import extract, load_extractor
from ssah_jax.run.features import compute_features
from ssah_jax.run.view_recipe import ViewRecipe


def tree_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """Features of 40 images, in batches of 8."""
    path = tmp_path_factory.mktemp("features") / "few"
    assert write(data_set(20), path, batch_size=8) == (40, WIDTH)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_stored_features_are_the_backbones(tmp_path, dtype):
    source, extractor = data_set(21), small(image_size=20)
    # 42 images in batches of 16: the last is not full.
    write(source, tmp_path / "f", extractor, batch_size=16, stored=dtype)
    found = features_source(tmp_path / "f")
    assert found.images.shape == (42, 1, 1, WIDTH)
    assert found.images.dtype == dtype
    wanted = direct(extractor, np.asarray(source.images))
    assert wanted.std() > 0.01
    tolerance = 1e-3 if dtype == "float16" else 1e-5
    np.testing.assert_allclose(
        found.images[:, 0, 0], wanted, rtol=tolerance, atol=tolerance
    )


def test_the_rest_of_the_data_set_comes_back(few):
    source, found = data_set(20), features_source(few)
    np.testing.assert_array_equal(found.labels, source.labels)
    assert found.labels.dtype == np.float32
    assert list(found.names) == list(source.names)
    assert found.parts.keys() == source.parts.keys()
    for part, indices in source.parts.items():
        np.testing.assert_array_equal(found.parts[part], indices)
    assert found.class_names == source.class_names
    assert found.missing == source.missing
    assert found.multi_label is source.multi_label is False
    assert sorted(tree_of(few)) == [
        *("data.json", "features.json", "features.npy", "labels.npy", "names.json"),
        "parts.npz",
    ]


def test_digest_knows_the_features(few, tmp_path):
    extractor = small()
    moved = jax.tree.map(lambda leaf: leaf * 1.01, extractor.variables)
    other = dataclasses.replace(extractor, variables=moved, sha256="1" * 64)
    write(data_set(20), tmp_path / "other", other, batch_size=8)
    digests = {features_source(path).digest for path in (few, tmp_path / "other")}
    shutil.copytree(few, tmp_path / "copy")
    assert len(digests) == 2
    assert features_source(tmp_path / "copy").digest in digests


class Stopped(Exception):
    """In the place of a kill."""


def stop_after(monkeypatch, rows: int) -> None:
    """Make writing raise once so many rows are there."""
    whole = FeatureWriter.write

    def write(self, *arguments):
        if self.rows >= rows:
            raise Stopped
        whole(self, *arguments)

    monkeypatch.setattr(FeatureWriter, "write", write)


@pytest.mark.parametrize("saved", [True, False])
def test_interrupted_writing_ends_with_the_same_files(
    few, tmp_path, monkeypatch, saved
):
    out = tmp_path / "few"
    source = data_set(20)
    with monkeypatch.context() as context:
        stop_after(context, 16)
        if not saved:  # A kill: only what was noted before counts.
            context.setattr(feature_writer, "_ROWS", 16)
            context.setattr(FeatureWriter, "__exit__", lambda w, *_: w._file.close())
        with pytest.raises(Stopped):
            write(source, out, batch_size=8)
    assert not out.exists()
    with pytest.raises(DataError, match="found unfinished features"):
        features_source(out)
    computed = []
    whole = compute_features

    def counted(*arguments, **options):
        for features, readable in whole(*arguments, **options):
            computed.append(len(features))
            yield features, readable

    monkeypatch.setattr("ssah_jax.run.features.compute_features", counted)
    assert write(source, out, batch_size=8) == (24, WIDTH)
    assert sum(computed) == 24
    assert tree_of(out) == tree_of(few)
    assert os.listdir(tmp_path) == ["few"]


def test_a_complete_directory_is_not_computed_again(few, monkeypatch):
    before = tree_of(few)
    monkeypatch.setattr("ssah_jax.run.features.compute_features", None)
    assert write(data_set(20), few) == (0, WIDTH)
    assert tree_of(few) == before


OTHERS = {
    "weights sha256": {"sha256": "1" * 64},
    "image size": {"image_size": 24},
    "crop size": {"crop_size": 12},
    "dtype": {"dtype": "bfloat16"},
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("finished", [True, False])
def test_features_of_something_else_are_refused(
    few, tmp_path, monkeypatch, name, finished
):
    out, advice = few, "choose another --out"
    if not finished:
        out, advice = tmp_path / "half", "delete it to begin again"
        with monkeypatch.context() as context:
            stop_after(context, 8)
            with pytest.raises(Stopped):
                write(data_set(20), out, batch_size=8)
    with pytest.raises(DataError, match=f"features of another {name}: found .*wanted"):
        write(data_set(20), out, small(**OTHERS[name]))
    with pytest.raises(DataError, match=advice):
        write(data_set(20), out, small(**OTHERS[name]))


def test_another_data_set_or_backbone_is_refused(few):
    with pytest.raises(DataError, match="another backbone"):
        origin = read_feature_info(few).origin
        other = dataclasses.replace(origin, backbone="alexnet")
        FeatureWriter(few, data_set(20), other, width=WIDTH)
    source = data_set(20)
    with pytest.raises(DataError, match="another stored: found 'float16'"):
        write(source, few, stored="float32")
    with pytest.raises(DataError, match="another source: found 'synthetic'"):
        write(dataclasses.replace(source, name="digits"), few)
    with pytest.raises(DataError, match="another source digest"):
        write(dataclasses.replace(source, labels=source.labels[::-1].copy()), few)
    images = 255 - np.asarray(source.images)
    with pytest.raises(DataError, match="another source digest"):
        write(dataclasses.replace(source, images=images), few)


def test_a_directory_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(DataError, match="holds other things than features"):
        write(data_set(20), tmp_path)
    assert tree_of(tmp_path) == {"note": b"mine"}
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="holds other things"):
        write(data_set(20), tmp_path / "file")
    # A file where a directory would have to be.
    with pytest.raises(DataError, match="cannot be written"):
        write(data_set(20), tmp_path / "file" / "place")
    write(data_set(20), tmp_path / "no" / "such" / "place")


def test_features_that_no_type_holds_are_refused(tmp_path):
    extractor = small()
    large = jax.tree.map(lambda leaf: leaf * 1e4, extractor.variables["params"])
    extractor.variables["params"] = large
    with pytest.raises(DataError, match=r"accepted for float16 .*--stored=float32"):
        write(data_set(20), tmp_path / "f", extractor)


class Damaged:
    """The images of an array, of which some cannot be read."""

    def __init__(self, images, bad):
        self._images, self._bad = images, bad
        self.shape = images.shape

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        if index in self._bad:
            raise DataError(f"image {index}: found nothing, expected an image")
        return self._images[index]


@pytest.mark.parametrize("interrupted", [True, False])
def test_unreadable_images_stay_so(few, tmp_path, monkeypatch, interrupted):
    bad, source = [0, 13, 39], data_set(20)
    images = Damaged(np.asarray(source.images), bad)
    source = dataclasses.replace(source, images=images)
    with pytest.raises(DataError, match="image 0: found nothing"):
        write(source, tmp_path / "strict", batch_size=8)
    if interrupted:
        with monkeypatch.context() as context:
            stop_after(context, 24)
            with pytest.raises(Stopped):
                write(source, tmp_path / "f", batch_size=8, max_skipped=0.1)
    write(source, tmp_path / "f", batch_size=8, max_skipped=0.1)
    found = features_source(tmp_path / "f")
    assert list(read_feature_info(tmp_path / "f").unreadable) == bad
    skipped = SkippedImages(num_images=40, max_share=1.0)
    options = {"batch_size": 40, "skipped": skipped}
    batch, readable = next(eval_batches(found.images, np.arange(40), **options))
    np.testing.assert_array_equal(np.flatnonzero(~readable), bad)
    assert batch.dtype == np.float16
    whole = np.asarray(features_source(few).images)
    np.testing.assert_array_equal(batch[readable], whole[readable])
    assert not batch[~readable].any()
    assert skipped.reasons[1].startswith("image 13: found nothing")
    held = in_memory(found, threads=2)
    with pytest.raises(DataError, match="image 13"):
        held.images[13]
    np.testing.assert_array_equal(held.images[12], whole[12])
    with pytest.raises(DataError, match=r"data\.max_skipped"):
        write(source, tmp_path / "g", batch_size=8, max_skipped=0.05)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("features.json", b"{"),
        ("features.json", b'{"version": 1}'),
        ("features.json", b'{"version": 2}'),
        ("features.npy", b"\x93NUMPY"),
        ("features.npy", None),
        ("labels.npy", b""),
        ("parts.npz", b"PK"),
        ("names.json", b"["),
    ],
)
def test_damage_is_one_line(few, tmp_path, name, content):
    shutil.copytree(few, tmp_path / "f")
    path = tmp_path / "f" / name
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(DataError, match=f"found a damaged {name}") as caught:
        features_source(tmp_path / "f")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["features.json", "features.npy", "labels.npy", "parts.npz", "names.json"]
)
def test_a_changed_byte_is_noticed(few, tmp_path, name):
    shutil.copytree(few, tmp_path / "f")
    path = tmp_path / "f" / name
    content = path.read_bytes()
    digits = [at for at, byte in enumerate(content) if byte in b"0123456789"]
    for at in (len(content) // 2, digits[-1] if digits else -1):
        changed = bytearray(content)
        changed[at] ^= 1  # another digit, in text
        path.write_bytes(changed)
        with pytest.raises(DataError, match=f"found a damaged {name}"):
            features_source(tmp_path / "f")


def test_no_directory_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"found no features\.json.*`ssah features`"):
        features_source(tmp_path / "none")


@pytest.mark.slow
def test_the_middle_of_images():
    key = jax.random.key(0)
    images = jax.random.randint(key, (2, 22, 26, 1), 0, 256).astype(jnp.uint8)
    extractor = small()
    apply = functools.partial(extract, extractor.variables, backbone="small_conv")
    middle, cropped = apply(images[:, 3:19, 5:21]), apply(images, crop_size=16)
    np.testing.assert_allclose(cropped, middle, rtol=1e-5, atol=1e-5)
    assert np.abs(cropped - apply(images[:, :16, :16])).max() > 0.01


def test_images_that_the_backbone_cannot_take_are_one_line():
    source = data_set(20)
    images = np.asarray(source.images)
    for extractor, shape, match in (
        (small(backbone="resnet18"), (16, 16, 3), "16 x 16 .* at least 32"),
        (small(backbone="vit_s14"), (30, 30, 3), "at least 14, multiples of 14"),
        (small(crop_size=17), (16, 16, 1), "crop_size: found 17, .* 16 pixels"),
        (small(), (16, 16, 2), "found 2 channels, accepted are 1 and 3"),
    ):
        with pytest.raises(ValueError, match=match):
            extractor.check_images(shape)
    small(backbone="vit_s14", image_size=28).check_images((30, 31, 3))
    with pytest.raises(ValueError, match="4 x 4 pixels"):
        next(compute_features(small(image_size=4), images))


def test_weights_that_cannot_be_had_are_one_line(tmp_path):
    with pytest.raises(WeightsError, match="--backbone: found small_conv, accepted"):
        load_extractor("small_conv")
    with pytest.raises(WeightsError, match="missing"):
        load_extractor("resnet18", str(LITE0))
    with pytest.raises(WeightsError, match="no such file"):
        load_extractor("resnet18", str(tmp_path / "none"))


def recipe(views: int = 3, **data) -> ViewRecipe:
    config = {"data": {"max_shift": 1, "flip": True} | data, "anet": {"grid": 3}}
    return ViewRecipe(views, from_config_dict(config))


@pytest.mark.slow
def test_views_are_the_image_itself_and_others_wherever_it_stopped(few, tmp_path):
    source, wanted = data_set(20), features_source(few).images
    write(source, tmp_path / "f", batch_size=8, recipe=recipe())
    found = features_source(tmp_path / "f")
    assert found.images.shape == (40, 3, 1, WIDTH)
    np.testing.assert_allclose(found.images[:, :1], wanted, rtol=1e-2, atol=1e-2)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        apart = np.abs(found.images[:, one] - found.images[:, other]).max(axis=(1, 2))
        assert (apart > 0.05).mean() > 0.7
    # Views hang on an image's index, not on its batch: so they are resumed.
    again = compute_features(
        small(), source.images, np.arange(11, 40), batch_size=16, recipe=recipe()
    )
    rows = np.concatenate([features for features, _ in again])
    np.testing.assert_allclose(
        rows.reshape(29, 3, 1, WIDTH), found.images[11:], rtol=1e-2, atol=1e-2
    )
    with pytest.raises(DataError, match="another view recipe"):
        write(source, tmp_path / "f", recipe=recipe(max_shift=2))
    with pytest.raises(DataError, match="another views: found 3, wanted 1"):
        write(source, tmp_path / "f")


def test_views_without_augmentation_are_refused():
    recipe(2, max_shift=0, flip=False).check()
    with pytest.raises(ValueError, match="--views: found 3 without any weak"):
        recipe(3, max_shift=0, flip=False).check()
