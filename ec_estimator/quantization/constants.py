"""Constants that the quantizers of a graph share: hundreds need the same few."""
import tensorflow.compat.v1 as tf

from ec_estimator.core.memory import table
from ec_estimator.core.state import SCOPE

_MADE = "quantization_constants"


def constant(value, dtype=tf.float32, shape=()):
    """A constant of the default graph, outside of loops and branches.

    Args:
      value: a number, or a tuple of numbers of the shape given.
    """
    return shared(
        (value, dtype, tuple(shape)), lambda: tf.constant(value, dtype, shape)
    )


def vector(*integers):
    """An int32 vector, such as a shape."""
    return constant(integers, tf.int32, [len(integers)])


def shared(key, make):
    """What `make`, a callable, made for the key in the default graph."""
    made = table(tf.get_default_graph(), _MADE)
    if key not in made:
        # Without dependencies there is no loop nor branch either.
        with tf.control_dependencies(None), tf.name_scope(None):
            with tf.name_scope(f"{SCOPE}/quantization/constants/"):
                made[key] = make()
    return made[key]
