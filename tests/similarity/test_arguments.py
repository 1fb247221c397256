"""Inputs of other forms: every public function understands them or refuses them."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from argument_cases import (
    CALLS,
    DEFORMATION,
    ELSEWHERE,
    FUNCTIONS,
    HOST,
    IMAGE,
    KEY,
    LABELS,
    LOGITS,
    NUMBERS,
    OTHER_NUMBERS,
    SIMILAR,
    B,
    C,
    U,
    V,
    call,
    each,
    kind_of,
    of_kinds,
    refuses,
    same,
    traced,
)

from ssah_jax import losses, pacing, retrieval, similarity, transforms


class Foreign:
    """As arrays of other libraries are."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


# The table is whole.


def test_every_public_function_is_in_the_table():
    listed = set(CALLS) | set(HOST)
    for module in (losses, pacing, retrieval, similarity, transforms):
        names = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__
            and not name.startswith("_")
        ]
        for name in names:
            value = getattr(module, name)
            if inspect.isfunction(value) and name not in ELSEWHERE:
                assert value in listed, name


@each((f,) for f in FUNCTIONS.values())
def test_every_argument_has_a_kind(function):
    told = set(function.takes) | {"axis", "axis_name"}
    assert set(inspect.signature(function).parameters) <= told
    assert set(CALLS[function]) <= told


# Forms that are understood.


@pytest.mark.slow
@each((f,) for f in FUNCTIONS.values())
def test_lists_numpy_doubles_and_foreign_arrays_are_understood(function):
    forms = itertools.cycle(
        (lambda a: a.astype(np.float64), lambda a: a.tolist(), Foreign)
    )
    changed = {
        key: next(forms)(value)
        for key, value in CALLS[function].items()
        if isinstance(value, np.ndarray) and value.dtype == np.float32
    }
    same(call(function, **changed), call(function))


@pytest.mark.slow
@each(itertools.product(FUNCTIONS.values(), (jnp.float32, jnp.float64, jnp.bfloat16)))
def test_strict_promotion_and_doubles(function, dtype):
    with jax.numpy_dtype_promotion("strict"), jax.enable_x64(True):
        changed = {
            key: jnp.asarray(value, dtype)
            for key, value in CALLS[function].items()
            if isinstance(value, np.ndarray) and value.dtype == np.float32
        }
        assert jax.tree.leaves(traced(function, **changed))


@pytest.mark.slow
@each(of_kinds("codes", "signs", "_codes"))
def test_booleans_are_bits(function, name):
    bits = np.asarray(CALLS[function][name]) > 0
    wanted = call(function, **{name: np.where(bits, 1, -1).astype(np.float32)})
    same(call(function, **{name: bits}), wanted)
    traced(function, **{name: bits})
    same(call(function, **{name: np.where(bits, 1, -1).astype(np.int8)}), wanted)


@each(of_kinds("labels"))
def test_class_numbers_and_booleans_are_labels(function, name):
    labels = CALLS[function][name]
    wanted = call(function)
    same(call(function, **{name: labels > 0}), wanted)
    same(call(function, **{name: labels.astype(np.uint8)}), wanted)
    changed = {name: labels.argmax(axis=1)}
    if function is similarity.labels_overlap:
        changed = dict(labels=NUMBERS, others=OTHER_NUMBERS.astype(np.uint8))
    same(call(function, **changed), wanted)
    traced(function, **changed)


def test_overlap_of_many_shared_labels():
    ones = np.ones((2, 256), np.uint8)
    assert similarity.labels_overlap(ones, ones).all()


# Forms that are refused.


@each(of_kinds("codes", "signs", "_codes"))
def test_codes_that_are_none(function, name):
    codes = np.asarray(CALLS[function][name])
    refuses(function, name, (codes > 0).astype(np.uint8))
    refuses(function, name, (codes > 0).astype(np.uint8), jitted=True)
    refuses(function, name, np.full(codes.shape, "1"))
    refuses(function, name, codes.astype(np.complex64))
    if kind_of(function.takes[name]) == "_codes":
        refuses(function, name, np.full(codes.shape, np.nan))
        refuses(function, name, np.abs(codes))
    else:
        refuses(function, name, codes[0])
        refuses(function, name, codes[0], jitted=True)
    bits_too = inspect.getclosurevars(
        inspect.unwrap(function.takes[name])
    ).nonlocals.get("bits_too")
    for kind in () if bits_too else (np.float32, np.int32):
        refuses(function, name, (codes > 0).astype(kind))


@each(of_kinds("signs"))
def test_signs_that_are_none(function, name):
    refuses(function, name, 0.5 * CALLS[function][name])
    refuses(function, name, np.full(CALLS[function][name].shape, np.nan))


@pytest.mark.parametrize("wrong", [lambda a: a.T, lambda a: a[:, :-1]])
def test_arguments_that_do_not_fit_each_other(wrong):
    for function, given in CALLS.items():
        if "u" in given and "v" in given:
            with pytest.raises(ValueError, match=r"^v: found shape .* with K = 12"):
                call(function, v=wrong(V))
    with pytest.raises(ValueError, match=r"v: .* as in u; v\.T is"):
        losses.dpsh_loss(U, V.T, SIMILAR)
    with pytest.raises(ValueError, match=r"similar: .* M = 7 as in v; similar\.T is"):
        losses.dpsh_loss(U, V, SIMILAR.T)


@each(of_kinds("labels"))
def test_labels_that_are_none(function, name):
    labels = CALLS[function][name]
    numbers = labels.argmax(axis=1)
    refuses(function, name, numbers[:, None])
    refuses(function, name, numbers[:, None], jitted=True)
    refuses(function, name, numbers.astype(np.float32))
    refuses(function, name, numbers.astype(np.float32), jitted=True)
    refuses(function, name, numbers.astype(str))
    refuses(function, name, numbers - 1)
    refuses(function, name, numbers.astype(np.int64) + 2**40)
    refuses(function, name, 2 * labels - 1)
    refuses(function, name, 0.5 * labels)
    refuses(function, name, labels * np.nan)
    if function is not similarity.labels_overlap:
        refuses(function, name, numbers + C)
    elif name == "others":
        refuses(function, name, numbers)
    if name != "labels" or function is not similarity.labels_overlap:
        refuses(function, name, labels[:, :-1])


@pytest.mark.slow
@each(of_kinds("flags", "probability"))
def test_masks_and_similarities_that_are_none(function, name):
    flags = np.asarray(CALLS[function][name]) > 0.3
    refuses(function, name, flags.astype(np.int32))
    refuses(function, name, flags.astype(np.uint8), jitted=True)
    refuses(function, name, 2.0 * flags - 1)
    refuses(function, name, flags * np.nan)
    if len(CALLS[function]) > 3:
        refuses(function, name, flags[..., None])
    if kind_of(function.takes[name]) == "flags":
        refuses(function, name, flags.astype(np.float32), jitted=True)


@each(of_kinds("image"))
def test_images_that_are_none(function, name):
    moved = inspect.getclosurevars(inspect.unwrap(function.takes[name])).nonlocals[
        "moved"
    ]
    refuses(function, name, (255 * IMAGE).astype(np.uint8))
    refuses(function, name, (255 * IMAGE).astype(np.uint8), jitted=True)
    refuses(function, name, np.moveaxis(IMAGE, -1, 0))
    refuses(function, name, np.moveaxis(IMAGE, -1, 0), jitted=True)
    refuses(function, name, IMAGE[..., 0])
    refuses(function, name, IMAGE[None])
    if not moved:
        refuses(function, name, 255 * IMAGE)
        refuses(function, name, np.nan * IMAGE)


@each(of_kinds("angle"))
def test_degrees(function, name):
    refuses(function, name, np.full(np.shape(CALLS[function][name]), 30.0))


@each(of_kinds("number"))
def test_numbers_out_of_range(function, name):
    for wrong in (-7, np.nan, np.ones(2), "1"):
        refuses(function, name, wrong)


@each(of_kinds("whole", "step"))
def test_whole_numbers(function, name):
    for wrong in (2.5, np.ones(2)):
        refuses(function, name, wrong)
    if kind_of(function.takes[name]) == "whole":
        refuses(function, name, True)
    if function is not retrieval.unpack:
        refuses(function, name, -1)


def test_words_records_keys_and_the_rest():
    refuses(transforms.rotate, "border", "wrap")
    refuses(transforms.fill_value, "kind", "grey")
    refuses(transforms.deform, "scales", (0.5, 1.5))
    refuses(transforms.deform, "scales", (10, 20))
    refuses(transforms.deform, "scales", 0.5)
    refuses(transforms.deform, "fill", 128)
    refuses(transforms.occlude, "fill", 255 * IMAGE)
    refuses(transforms.occlude, "fill", IMAGE[0, 0, :2])
    refuses(transforms.deform, "deformation", LOGITS)
    refuses(
        transforms.deform, "deformation", DEFORMATION.replace(angle=np.float32([45]))
    )
    refuses(transforms.draw_deformation, "max_angle", 45)
    refuses(losses.update_bank, "bank", (U, LABELS))
    refuses(losses.update_bank, "rows", np.arange(B) / 1.0)
    refuses(losses.graph_pairs, "far", (0.9, 0.5))
    refuses(similarity.confident, "multi_label", 1)
    refuses(pacing.follow_hardness, "pace", DEFORMATION)
    refuses(pacing.follow_hardness, "occluded", U)
    refuses(losses.categorical_entropy, "logits", "a")
    for function in (losses.init_ties, transforms.random_flip):
        refuses(function, "key", 0)
        refuses(function, "key", jax.random.split(KEY))
        same(call(function, key=jax.random.PRNGKey(0)), call(function))
