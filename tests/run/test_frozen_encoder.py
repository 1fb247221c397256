"""Codes of frozen backbones: forms of images, files, fingerprints, mistakes."""

import doctest
import os

import numpy as np
import pytest
from feature_cases import LITE0, direct
from PIL import Image

from ssah_jax import Encoder, Index
from ssah_jax.data import DataError, SkippedImages
from ssah_jax.data.given import GivenImages
from ssah_jax.retrieval import CodeFileError, CodeSet, load_index
from ssah_jax.retrieval import index as index_lib
from ssah_jax.retrieval.binarisers import Binariser
from ssah_jax.run import encoder as encoder_lib
from ssah_jax.run.extractor import load_extractor
from ssah_jax.run.frozen_encoder import sample_of

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (50, 20, 20, 3), np.uint8)


def blocks(images):
    """Features: means of blocks of 4 x 4 pixels, a channel each."""
    b, s, _, c = images.shape
    assert images.dtype == np.uint8
    means = images.reshape(b, s // 4, 4, s // 4, 4, c).mean(axis=(2, 4))
    return means.reshape(b, -1) / 255 - 0.5


def fitted(**options):
    options = dict(image_size=20, bits=9) | options
    return Encoder.from_backbone(blocks, **options).fit(IMAGES)


def test_examples_run():
    for module in (encoder_lib, index_lib):
        found = doctest.testmod(module)
        assert found.attempted >= 5 and found.failed == 0


@pytest.mark.parametrize("kind", ["itq", "sign", "lsh"])
def test_codes_are_the_binarisers(kind):
    bits = None if kind == "sign" else 9
    found = fitted(binarise=kind, bits=bits).transform(IMAGES)
    features = blocks(IMAGES)
    wanted = Binariser.fit(features, kind=kind, bits=bits or 75).apply(features)
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, wanted)


def test_images_in_any_form_have_one_code(tmp_path):
    for number, image in enumerate(IMAGES[:5]):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    encoder, files = fitted(), sorted(tmp_path.iterdir())
    wanted = encoder.transform(IMAGES)[:5]
    for form in (
        tmp_path,
        str(tmp_path),
        files,
        [files[0], IMAGES[1], Image.open(files[2]), str(files[3]), IMAGES[4] / 255],
        IMAGES[:5].astype(np.float32) / 255,
        GivenImages(IMAGES[:5], size=20),
    ):
        np.testing.assert_array_equal(encoder.transform(form), wanted)
    np.testing.assert_array_equal(encoder.transform(files[3]), wanted[3:4])
    assert encoder.transform(IMAGES[:0]).shape == (0, 9)


def test_other_sizes_become_what_files_become(tmp_path):
    wide = RNG.integers(0, 256, (31, 64, 3), np.uint8)
    Image.fromarray(wide).save(tmp_path / "a.png")
    for resize in ("crop", "squash"):
        given = GivenImages([wide, tmp_path / "a.png"], size=20, resize=resize)
        assert given[0].shape == (20, 20, 3)
        np.testing.assert_array_equal(given[0], given[1])
    grey = GivenImages([wide[..., 0], wide[..., :1]], size=20)
    np.testing.assert_array_equal(grey[0], grey[1])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], r"images: found shape \(20, 20, 3\), accepted are an array"),
        (3, "images: found int, accepted are"),
        (Image.fromarray(IMAGES[0]), "images: found one picture"),
        (IMAGES.astype(np.float32), "image 0: found float32 of 0.0 to 255.0"),
        (IMAGES[..., :2], r"image 0: found shape \(20, 20, 2\), accepted"),
        (["none.png"], "none.png: found that it cannot be read"),
    ],
)
def test_no_images_are_one_line(images, message):
    with pytest.raises((ValueError, DataError), match=message):
        fitted().transform(images)


def test_a_file_keeps_it(tmp_path):
    encoder = fitted()
    encoder.save(tmp_path / "a.model")
    again = Encoder.load(tmp_path / "a.model", backbone=blocks)
    assert (again.bits, again.fingerprint) == (9, encoder.fingerprint)
    np.testing.assert_array_equal(again.transform(IMAGES), encoder.transform(IMAGES))
    assert os.listdir(tmp_path) == ["a.model"]
    with pytest.raises(ValueError, match="found a model of the function blocks"):
        Encoder.load(tmp_path / "a.model")
    whole = (tmp_path / "a.model").read_bytes()
    for content in (b"", whole[:-1], whole.replace(b"crop", b"crap"), None):
        (tmp_path / "a.model").write_bytes(whole if content is None else content)
        if content is None:
            Binariser.load(tmp_path / "a.model").save(tmp_path / "a.model")
        with pytest.raises(ValueError, match=r"a\.model: found .* accepted is a model"):
            Encoder.load(tmp_path / "a.model", backbone=blocks)
    with pytest.raises(ValueError, match="found no such file"):
        Encoder.load(tmp_path / "b.model")


def test_the_fingerprint_covers_what_codes_depend_on():
    prints = {
        fitted(**changed).fingerprint
        for changed in (
            {},
            {"bits": 8},
            {"binarise": "pca"},
            {"seed": 1},
            {"resize": "squash"},
            {"name": "other"},
        )
    }
    assert len(prints) == 6
    assert fitted().fingerprint in prints


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"binarise": "it"}, "kind: found 'it', accepted are sign"),
        ({"resize": "pad"}, "resize: found 'pad', accepted are crop and squash"),
        ({"image_size": 0}, "image_size: found 0"),
        ({"bits": 51}, "bits: found 51, accepted for itq are 1 to 50"),
        ({"backbone": "lite0"}, "backbone: found lite0, accepted are"),
        (
            {"backbone": "efficientnet_lite0", "image_size": 8, "weights": LITE0},
            "found images of 8 x 8 pixels",
        ),
    ],
)
def test_mistakes_are_one_line(options, message):
    options = {"backbone": blocks, "image_size": 20} | options
    with pytest.raises(ValueError, match=message):
        Encoder.from_backbone(options.pop("backbone"), **options).fit(IMAGES)


def test_what_was_not_fitted_has_no_code():
    with pytest.raises(ValueError, match="accepted is one after fit"):
        Encoder.from_backbone(blocks, image_size=20).transform(IMAGES)


def test_functions_that_return_no_features():
    for function in (lambda x: x, lambda x: blocks(x)[:3]):
        with pytest.raises(ValueError, match="backbone: found features of shape"):
            Encoder.from_backbone(function, image_size=20).fit(IMAGES)


def test_what_was_seen_is_not_computed_again():
    """And stands where it would, with what cannot be read left out."""
    calls = []

    def counted(images):
        calls.append(len(images))
        return blocks(images)

    class Names(GivenImages):
        def __getitem__(self, index):
            if index == 7:
                raise DataError("image 7: found nothing")
            return super().__getitem__(index)

    encoder = Encoder.from_backbone(counted, image_size=20, bits=4).fit(IMAGES)
    calls.clear()
    images, features = Names(IMAGES, size=20), blocks(IMAGES)
    seen = [0, 1, 6, 8, 30, 48, 49]
    encoder.features.seen = {str(i): features[i].astype(np.float32) for i in seen}
    skipped = SkippedImages(num_images=50, max_share=1.0)
    found = list(encoder.features.compute(images, skipped=skipped, batch_size=16))
    rows = np.concatenate([rows for rows, _ in found])
    np.testing.assert_array_equal(rows, np.delete(np.arange(50), 7))
    np.testing.assert_allclose(
        np.concatenate([f for _, f in found]), features[rows], rtol=1e-6
    )
    assert calls == [16, 16, 16] and len(skipped) == 1


@pytest.mark.slow
def test_a_shipped_backbone(tmp_path):
    """Codes of real weights, stored, and refused with other weights."""
    options = dict(weights=LITE0, image_size=32, bits=8)
    encoder = Encoder.from_backbone("efficientnet_lite0", **options)
    images = RNG.integers(0, 256, (16, 32, 32, 3), np.uint8)
    codes = encoder.fit(images).transform(images)
    extractor = load_extractor("efficientnet_lite0", str(LITE0))
    features = direct(extractor, images)
    wanted = Binariser.fit(features, kind="itq", bits=8).apply(features)
    assert np.mean(codes == wanted) > 0.97
    encoder.save(tmp_path / "m")
    with pytest.raises(ValueError, match="found no such file"):
        Encoder.load(tmp_path / "m", weights="nowhere.pth")
    other = tmp_path / "other.pth"
    other.write_bytes(LITE0.read_bytes() + b"\n")
    with pytest.raises(ValueError, match=r"--weights: found .*other.pth with sha256"):
        Encoder.load(tmp_path / "m", weights=other)


def test_a_sample_is_a_draw():
    np.testing.assert_array_equal(sample_of(5, 5, seed=0), np.arange(5))
    drawn = sample_of(100, 10, seed=0)
    assert len(set(drawn)) == 10 and (np.diff(drawn) > 0).all() and drawn.max() > 50
    assert not np.array_equal(drawn, sample_of(100, 10, seed=1))


def test_an_index_of_images(tmp_path):
    encoder = fitted()
    index = Index.build(encoder, IMAGES)
    codes = encoder.transform(IMAGES)
    wanted = (codes[:4, None] != codes[None]).sum(axis=2)
    distances, rows = index.search(IMAGES[:4], k=50)
    for row in range(4):
        np.testing.assert_array_equal(distances[row], np.sort(wanted[row]))
        np.testing.assert_array_equal(wanted[row][rows[row]], distances[row])
    np.testing.assert_array_equal(index.search(codes[:4], k=50)[1], rows)
    assert index.search(IMAGES[:4])[1].shape == (4, 10)
    assert index.ids[:2] == ("0", "1") and index.fingerprint == encoder.fingerprint
    index.save(tmp_path / "i")
    again = load_index(tmp_path / "i")
    with pytest.raises(ValueError, match="codes: found"):
        again.search(IMAGES[:4])
    np.testing.assert_array_equal(
        again.with_encoder(encoder).search(IMAGES[:4], k=50)[1], rows
    )
    with pytest.raises(CodeFileError, match="found queries of model"):
        again.with_encoder(fitted(bits=8))
    # Of codes alone, and of a file's.
    plain = Index.build(codes, labels=[["a"]] * 50, ids=[f"{i}.png" for i in range(50)])
    np.testing.assert_array_equal(plain.search(codes[:4], k=50)[1], rows)
    assert plain.ids[3] == "3.png" and plain.labels[3] == ("a",)
    found = CodeSet(index.ids, index.packed, 9, "f")
    assert Index.build(found, kind="hnsw").kind == "hnsw"
    for arguments, options in (
        ((found, IMAGES), {}),
        ((encoder,), {}),
        ((codes, IMAGES), {}),
        ((codes,), {"ids": ["a"] * 50}),
        ((codes,), {"ids": ["a"]}),
        ((IMAGES,), {}),
    ):
        with pytest.raises(ValueError, match="found"):
            Index.build(*arguments, **options)
