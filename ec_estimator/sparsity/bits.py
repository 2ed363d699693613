"""Masks as bits: what a worker pulls of them is a 32nd of the weights they mask."""
import numpy as np
import tensorflow.compat.v1 as tf

_POWERS = 2 ** np.arange(8, dtype=np.uint8)


def pack(mask):
    """Eight entries a byte.

    Args:
      mask: of a static shape; an entry counts as 1 if it is not 0.

    Returns:
      uint8 `[ceil(size / 8)]`.
    """
    bits = tf.reshape(tf.cast(tf.cast(mask, tf.bool), tf.uint8), [-1])
    bits = tf.pad(bits, [[0, -mask.shape.num_elements() % 8]])
    return tf.reduce_sum(tf.reshape(bits, [-1, 8]) * _POWERS, 1)


def unpack(packed, shape, dtype):
    """The inverse: 1 and 0.

    Args:
      packed: what `pack` gave.
      shape: list, of the mask.
      dtype: of what comes out.

    Returns:
      Tensor of that shape.
    """
    bits = tf.not_equal(tf.bitwise.bitwise_and(packed[:, None], _POWERS), 0)
    flat = tf.reshape(bits, [-1])[: np.prod(shape, dtype=np.int64)]
    return tf.reshape(tf.cast(flat, dtype), shape)
