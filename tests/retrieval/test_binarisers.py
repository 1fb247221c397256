"""Binarisers against loops, their own optima, and the digits."""

import math

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ssah_jax import retrieval
from ssah_jax.retrieval.binarisers import KINDS, Binariser

FEATURES = np.random.default_rng(0).normal(size=(60, 12)) * np.arange(1, 13)


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def fitted(kind, bits=5, **kwargs):
    bits = FEATURES.shape[1] if kind == "sign" else bits
    return Binariser.fit(FEATURES, kind=kind, bits=bits, **kwargs)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_the_signs_of_an_affine_map(kind):
    binariser = fitted(kind)
    codes = binariser.apply(FEATURES[:7])
    assert codes.dtype == np.int8
    for row, x in enumerate(FEATURES[:7]):
        length = math.sqrt(sum(v * v for v in x))
        for bit in range(binariser.bits):
            value = sum(
                (x[d] / length - binariser.mean[d]) * binariser.projection[d, bit]
                for d in range(12)
            )
            assert codes[row, bit] == (1 if value >= 0 else -1)


@pytest.mark.parametrize("kind", KINDS)
def test_length_of_a_feature_does_not_count(kind):
    binariser = fitted(kind)
    np.testing.assert_array_equal(
        binariser.apply(FEATURES), binariser.apply(3.7 * FEATURES)
    )


def test_pca_takes_the_directions_of_largest_variance():
    x = unit(FEATURES) - unit(FEATURES).mean(axis=0)
    projection = fitted("pca").projection.astype(float)
    np.testing.assert_allclose(projection.T @ projection, np.eye(5), atol=1e-6)
    variances = np.var(x @ projection, axis=0)
    wanted = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))[::-1][:5]
    np.testing.assert_allclose(variances, wanted, rtol=1e-5)


@pytest.mark.parametrize("kind", ["itq", "random-rotation"])
def test_rotations_span_what_pca_spans(kind):
    rotated, plain = fitted(kind).projection, fitted("pca").projection
    np.testing.assert_allclose(rotated.T @ rotated, np.eye(5), atol=1e-5)
    np.testing.assert_allclose(rotated @ rotated.T, plain @ plain.T, atol=1e-5)
    assert not np.allclose(rotated, plain, atol=1e-2)


def test_itq_loses_less_than_pca_and_cannot_be_turned_further():
    def lost(binariser):
        values = binariser.project(FEATURES)
        return np.sum((binariser.apply(FEATURES) - values) ** 2)

    itq = fitted("itq")
    assert lost(itq) < lost(fitted("pca"))
    assert lost(itq) < lost(fitted("random-rotation"))
    values = itq.project(FEATURES).astype(float)
    left, _, right = np.linalg.svd(values.T @ itq.apply(FEATURES))
    best = np.sum((itq.apply(FEATURES) - values @ left @ right) ** 2)
    assert lost(itq) == pytest.approx(best, rel=1e-3)


def test_equal_seeds_are_equal_and_others_are_not():
    for kind in ("itq", "lsh", "random-rotation"):
        assert fitted(kind).fingerprint == fitted(kind).fingerprint
        assert fitted(kind).fingerprint != fitted(kind, seed=1).fingerprint
    assert len({fitted(kind).fingerprint for kind in KINDS}) == len(KINDS)


def test_a_file_keeps_it(tmp_path):
    binariser = fitted("itq")
    binariser.save(tmp_path / "itq.safetensors")
    again = Binariser.load(tmp_path / "itq.safetensors")
    assert (again.kind, again.fingerprint) == ("itq", binariser.fingerprint)
    np.testing.assert_array_equal(again.apply(FEATURES), binariser.apply(FEATURES))
    assert [p.name for p in tmp_path.iterdir()] == ["itq.safetensors"]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    fitted("lsh").save(path)
    whole = path.read_bytes()
    for content in (b"", b"no tensors", whole[:-1], whole.replace(b"lsh", b"hsl")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.safetensors: found"):
            Binariser.load(path)
    with pytest.raises(OSError, match="none"):
        Binariser.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("features", "kind", "bits", "message"),
    [
        (FEATURES, "itqq", 5, "kind: found 'itqq', accepted are sign, pca"),
        (FEATURES, "sign", 5, "bits: found 5, accepted for sign is one for each"),
        (FEATURES, "pca", 13, "bits: found 13, accepted for pca are 1 to 12"),
        (FEATURES[:4], "itq", 5, "bits: found 5, accepted for itq are 1 to 4"),
        (FEATURES, "lsh", 0, "bits: found 0, accepted for lsh are 1 to 12"),
        (FEATURES[:1], "lsh", 3, "features: found 1 rows"),
        (np.where(FEATURES > 20, np.nan, FEATURES), "lsh", 3, "no finite number"),
    ],
)
def test_mistakes_of_fit_are_one_line(features, kind, bits, message):
    with pytest.raises(ValueError, match=message):
        Binariser.fit(features, kind=kind, bits=bits)


def test_features_of_another_width_are_refused():
    with pytest.raises(ValueError, match="found 11 numbers a row, accepted are 12"):
        fitted("lsh").apply(FEATURES[:, :11])


def test_a_feature_of_zeros_has_a_code():
    assert set(fitted("itq").apply(np.zeros((1, 12))).ravel()) <= {-1, 1}


def test_on_digits_what_is_learnt_beats_what_is_drawn():
    digits = load_digits()
    labels = np.eye(10)[digits.target]
    found = {}
    for kind in ("itq", "pca", "lsh"):
        binariser = Binariser.fit(digits.data[200:], kind=kind, bits=32)
        found[kind] = retrieval.mean_average_precision(
            binariser.apply(digits.data[:200]),
            labels[:200],
            binariser.apply(digits.data[200:]),
            labels[200:],
        )
    assert found["itq"] > found["lsh"] + 0.1 > 0.3
    assert found["itq"] > found["pca"]
