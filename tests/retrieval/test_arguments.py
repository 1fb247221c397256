"""Inputs of other forms, asked of the functions and records of NumPy arrays."""

import functools
import inspect

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from argument_cases import (
    HOST,
    LABELS,
    NUMBERS,
    OTHER_NUMBERS,
    OTHERS,
    K,
    M,
    U,
    V,
    call,
    each,
    refuses,
)

from ssah_jax import retrieval
from ssah_jax.retrieval import CodeSet, build_index


@each((f,) for f in HOST)
def test_retrieval_of_other_forms(function):
    given = HOST[function]
    wanted = call(function)
    if "query_labels" in given:
        labels = dict(query_labels=NUMBERS)
        if "database_labels" in given:
            labels["database_labels"] = OTHER_NUMBERS
            refuses(function, "database_labels", OTHER_NUMBERS)
            refuses(function, "database_labels", OTHERS[:, :-1])
        if (
            function is not retrieval.evaluate
            and function is not retrieval.mean_per_class
        ):
            np.testing.assert_array_equal(call(function, **labels), wanted)
        for wrong in (
            NUMBERS[:, None],
            NUMBERS / 1.0,
            NUMBERS.astype(str),
            NUMBERS - 1,
            2 * LABELS - 1,
            0.5 * LABELS,
            LABELS.T,
            LABELS * np.nan,
            LABELS[:-1],
        ):
            refuses(function, "query_labels", wrong)
    for name in given.keys() & {"query_codes", "database_codes", "codes"}:
        codes = given[name]
        for form in (
            codes >= 0,
            jnp.asarray(codes, jnp.bfloat16),
            np.where(codes >= 0, 1, -1),
        ):
            found = call(function, **{name: form})
            assert str(found) == str(wanted)
        for wrong in (
            (codes >= 0).astype(np.int64),
            (codes >= 0).astype(np.float32),
            (codes >= 0).astype(np.uint8),
            np.packbits(codes >= 0, axis=1),
            1 / (1 + np.exp(-codes)),
            np.where(codes > 1, np.nan, codes),
            codes[0],
            codes.astype(str),
            np.zeros((0, K)),
        ):
            refuses(function, name, wrong)
    if "database_codes" in given:
        refuses(function, "database_codes", V.T)
    for name in given.keys() & {"count", "relevant", "graded"}:
        histogram = given[name]
        refuses(function, name, histogram / 2)
        refuses(function, name, -histogram)
        refuses(function, name, histogram[0])
        if name == "relevant":
            refuses(function, name, 3 * histogram)
    if "top_k" in inspect.signature(function).parameters:
        for wrong in (-1, 0, 2.5, True, "all"):
            refuses(function, "top_k", wrong)
        if "count" not in given and "graded" not in given:
            assert str(call(function, top_k=M + 1)) == str(call(function, top_k=M))


def test_a_constant_code_is_a_code():
    ones = np.ones((M, K))
    wanted = retrieval.mean_average_precision(U, LABELS, ones, OTHERS)
    found = retrieval.mean_average_precision(U, LABELS, ones > 0, OTHERS)
    assert found == wanted > 0
    assert retrieval.code_statistics(ones)["num_distinct"] == 1


def test_codes_of_an_index():
    packed = np.asarray(retrieval.pack(V))
    index = build_index(CodeSet(tuple("abcdefg"), packed, K, "f"))
    wanted = index.search(U, 3)
    for form in (U >= 0, np.where(U >= 0, 1, -1)):
        np.testing.assert_array_equal(index.search(form, 3), wanted)
    for wrong in ((U >= 0) * 1, (U >= 0) * 1.0, np.abs(U), np.packbits(U >= 0, axis=1)):
        with pytest.raises(ValueError, match=r"^codes: found .* accepted|expected"):
            index.search(wrong, 3)
    for wrong in (0, True):
        with pytest.raises(ValueError, match=r"^k: found"):
            index.search(U, wrong)


def test_features_of_a_binariser():
    wanted = retrieval.Binariser.fit(V, kind="itq", bits=3)
    codes = wanted.apply(U)
    for form in (np.float64, jnp.asarray):
        found = retrieval.Binariser.fit(form(V), kind="itq", bits=3)
        np.testing.assert_allclose(found.projection, wanted.projection, atol=1e-5)
        np.testing.assert_array_equal(wanted.apply(form(U)), codes)
    assert wanted.apply(jnp.asarray(U, jnp.bfloat16)).shape == codes.shape
    assert wanted.apply(np.int8(9 * U)).dtype == np.int8
    for wrong in (
        U[0],
        U.astype(str),
        U + 1j,
        np.where(U > 1, np.nan, U),
        [[1], [1, 2]],
    ):
        fit = functools.partial(retrieval.Binariser.fit, kind="lsh", bits=3)
        for use in (wanted.apply, fit):
            with pytest.raises(
                (ValueError, jaxtyping.TypeCheckError), match=r"features"
            ):
                use(wrong)
    for name, wrong in (
        *(("bits", x) for x in (0, 13, 2.5, True, "3")),
        *(("seed", x) for x in (-1, 0.5, True)),
        *(("kind", x) for x in ("ITQ", None, 3)),
    ):
        with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=name):
            retrieval.Binariser.fit(V, **{"kind": "itq", "bits": 3} | {name: wrong})
