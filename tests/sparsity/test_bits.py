"""Masks as bits."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.sparsity import bits


@pytest.mark.parametrize("shape", [[1], [8], [3, 3], [5, 7, 2], [64, 16]])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float16])
def test_what_was_packed_comes_back(shape, dtype):
    mask = np.random.RandomState(len(shape)).randint(0, 2, shape)
    with tf.Graph().as_default(), tf.Session() as session:
        packed = bits.pack(tf.constant(mask, dtype))
        unpacked = bits.unpack(packed, shape, dtype)
        bytes_, back = session.run([packed, unpacked])
    assert bytes_.dtype == np.uint8
    assert bytes_.size == -(-mask.size // 8)
    np.testing.assert_array_equal(bytes_, np.packbits(mask.ravel(), bitorder="little"))
    assert back.dtype == dtype.as_numpy_dtype
    np.testing.assert_array_equal(back, mask)
