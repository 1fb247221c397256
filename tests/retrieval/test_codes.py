"""Codes: the sign convention, the bit order, the round trip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssah_jax import retrieval


def test_zero_is_positive():
    u = jnp.array([[-2.0, -0.0, 0.0, 1e-30, -1e-30]])
    np.testing.assert_array_equal(retrieval.binarise(u), [[-1, 1, 1, 1, -1]])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int8])
def test_binarise_keeps_the_dtype(dtype):
    u = jnp.array([[3, -3]], dtype)
    assert retrieval.binarise(u).dtype == dtype
    np.testing.assert_array_equal(jax.jit(retrieval.binarise)(u), [[1, -1]])


def test_bit_order_by_hand():
    code = -np.ones((1, 12), np.float32)
    code[0, [0, 6, 11]] = 1
    # Bit 0 is the highest of byte 0; bits 12 to 15 are filled with zeros.
    np.testing.assert_array_equal(
        retrieval.pack(code), [[0b10000010, 0b00010000]], strict=False
    )


def test_packed_codes_are_numpys():
    code = np.random.default_rng(0).normal(size=(5, 21))
    np.testing.assert_array_equal(retrieval.pack(code), np.packbits(code >= 0, axis=1))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    bits=st.sampled_from([1, 7, 8, 12, 48, 100]), rows=st.integers(1, 3), data=st.data()
)
def test_round_trip(bits, rows, data):
    flat = data.draw(
        st.lists(st.booleans(), min_size=rows * bits, max_size=rows * bits)
    )
    codes = np.where(np.array(flat).reshape(rows, bits), 1, -1).astype(np.int8)
    packed = retrieval.pack(codes)
    assert packed.shape == (rows, -(-bits // 8)) and packed.dtype == np.uint8
    np.testing.assert_array_equal(retrieval.unpack(packed, bits=bits), codes)


@pytest.mark.parametrize("bits", [0, 8, 17])
def test_unpack_refuses_bits_that_do_not_fit(bits):
    with pytest.raises(ValueError, match=f"found 2 bytes a row for bits={bits}"):
        retrieval.unpack(np.zeros((3, 2), np.uint8), bits=bits)
