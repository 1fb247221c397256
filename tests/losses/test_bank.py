"""The memory bank against a loop that writes one code after the other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_oracles import normal
from several_devices import first_devices

from ssah_jax.losses.bank import CodeBank, _targets, init_bank, update_bank
from ssah_jax.losses.distance import dsh_loss
from ssah_jax.losses.pairwise import dpsh_loss
from ssah_jax.losses.reduce import all_rows, masked_mean
from ssah_jax.similarity import labels_overlap


def bank_loop(bank, codes, labels, rows=None, where=None):
    stored, kept, valid, cursor = (np.array(x) for x in bank)
    size = len(valid)
    for i in range(len(codes)):
        if where is not None and not where[i]:
            continue
        row = cursor if rows is None else rows[i]
        if not 0 <= row < size:
            continue
        stored[row], kept[row], valid[row] = codes[i], labels[i], True
        if rows is None:
            cursor = (cursor + 1) % size
    return CodeBank(stored, kept, valid, cursor)


def assert_banks_equal(found, wanted):
    for name, a, b in zip(CodeBank._fields, found, wanted, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert a.dtype == b.dtype, name


def batch(seed, rows, classes=3):
    labels = np.random.default_rng(seed).integers(0, 2, (rows, classes))
    return normal(seed, rows, 4), labels.astype(np.float32)


UPDATE = jax.jit(update_bank)
TARGETS = jax.jit(_targets)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**16),
    st.sampled_from([(1, 3), (4, 3), (7, 7), (4, 16)]),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_batches_are_written_as_if_one_after_the_other(seed, sizes, ring, written):
    # 16 rows: more than the bank holds; with slots, many of them the same.
    size, rows = sizes
    rng = np.random.default_rng(seed)
    bank = init_bank(size=size, bits=4, num_classes=3)
    wanted = jax.tree.map(np.asarray, bank)
    for number in range(3):
        codes, labels = batch(seed + number, rows)
        options = {"where": rng.random(rows) < written}
        if not ring:
            options["rows"] = rng.integers(-2, size + 2, rows)
        options = jax.tree.map(jnp.asarray, options)
        before = bank
        bank = UPDATE(bank, *map(jnp.asarray, (codes, labels)), **options)
        # A CPU writes equal rows in their order, other devices in any.
        written_to, _ = TARGETS(before, options["where"], options.get("rows"))
        written_to = written_to[written_to < size]
        assert len(set(written_to.tolist())) == len(written_to)
        wanted = bank_loop(wanted, codes, labels, **options)
        assert_banks_equal(bank, wanted)


def test_an_empty_bank():
    bank = init_bank(size=5, bits=4, num_classes=3)
    assert [x.shape for x in bank] == [(5, 4), (5, 3), (5,), ()]
    assert not any(np.any(x) for x in bank)
    assert bank.cursor.dtype == jnp.int32
    codes, labels = map(jnp.asarray, batch(0, 6))
    assert_banks_equal(
        UPDATE(bank, codes, labels, where=jnp.zeros(6, bool)), jax.device_get(bank)
    )


@pytest.mark.slow
def test_zero_bank_rows_do_not_count_as_dissimilar():
    # In DeepHash-pytorch zero labels are similar to nothing, and a zero code is at
    # |u|^2 from all: DSH pushes codes outward until the bank is full.
    u, labels = map(jnp.asarray, batch(0, 6))
    bank = update_bank(
        init_bank(size=20, bits=4, num_classes=3),
        *map(jnp.asarray, batch(1, 5)),
        rows=jnp.asarray([3, 17, 4, 0, 11]),
    )

    def mean(u, bank, loss, masked=True):
        similar = labels_overlap(labels, bank.labels)
        where = jnp.broadcast_to(bank.valid, similar.shape) if masked else None
        return masked_mean(loss(u, bank.codes, similar, where=where), where)

    held = bank._replace(
        codes=bank.codes[bank.valid],
        labels=bank.labels[bank.valid],
        valid=bank.valid[bank.valid],
    )
    for loss in (dsh_loss, dpsh_loss):
        both = jax.jit(jax.value_and_grad(partial(mean, loss=loss)))
        value, gradient = both(u, bank)
        wanted, of_held = both(u, held)
        np.testing.assert_allclose(value, wanted, rtol=1e-6)
        np.testing.assert_allclose(gradient, of_held, rtol=1e-5, atol=1e-7)
        # The defect would show.
        assert abs(mean(u, bank, loss, masked=False) - value) > 1e-3


def test_a_bank_is_a_constant_of_the_gradient():
    codes, labels = map(jnp.asarray, batch(0, 6))

    def loss(codes, labels):
        bank = init_bank(size=8, bits=4, num_classes=3)
        bank = update_bank(bank, codes, labels)
        return jnp.sum(bank.codes) + jnp.sum(bank.labels)

    for gradient in jax.grad(loss, (0, 1))(codes, labels):
        assert not np.any(gradient)


def test_codes_are_kept_in_float32():
    codes, labels = batch(0, 3)
    narrow = jnp.asarray(codes, jnp.bfloat16)
    bank = init_bank(size=3, bits=4, num_classes=3)
    bank = update_bank(bank, narrow, jnp.asarray(labels))
    assert bank.codes.dtype == jnp.float32
    np.testing.assert_array_equal(bank.codes, narrow.astype(jnp.float32))


def test_a_bank_in_scan_is_that_of_a_loop():
    empty = init_bank(size=7, bits=4, num_classes=3)
    batches = [batch(n, 3) for n in range(5)]
    stacked = [jnp.asarray(np.stack(x)) for x in zip(*batches, strict=True)]
    scanned, _ = jax.lax.scan(
        lambda bank, x: (update_bank(bank, *x), None), empty, stacked
    )
    wanted = jax.device_get(empty)
    for codes, labels in batches:
        wanted = bank_loop(wanted, codes, labels)
    assert_banks_equal(scanned, wanted)


def test_a_bank_can_be_donated():
    codes, labels = map(jnp.asarray, batch(0, 3))
    bank = init_bank(size=7, bits=4, num_classes=3)
    wanted = update_bank(bank, codes, labels)
    found = jax.jit(update_bank, donate_argnums=0)(bank, codes, labels)
    assert_banks_equal(found, jax.device_get(wanted))
    assert bank.codes.is_deleted()


@pytest.mark.parametrize("slots", [False, True])
def test_all_devices_hold_the_bank_of_all_codes(slots):
    codes, labels = batch(0, 8)
    rows = np.array([0, 3, 3, 9, 1, 0, 7, 3], np.int32)
    options = {"rows": rows} if slots else {}

    def update(bank, codes, labels, rows):
        codes, labels, rows = (all_rows(x, "d") for x in (codes, labels, rows))
        return update_bank(bank, codes, labels, rows=rows if slots else None)

    split = [jnp.asarray(x).reshape(4, 2, *x.shape[1:]) for x in (codes, labels, rows)]
    bank = init_bank(size=10, bits=4, num_classes=3)
    mapped = jax.pmap(update, "d", in_axes=(None, 0, 0, 0), devices=first_devices(4))
    found = jax.device_get(mapped(bank, *split))
    wanted = bank_loop(jax.device_get(bank), codes, labels, **options)
    for device in range(4):
        assert_banks_equal(jax.tree.map(lambda x, d=device: x[d], found), wanted)
