"""Keeps MNN's integers out of pooling where it would pool them wrongly.

MNN 3.6.0 pools integers if what comes before or after is in integers. On x86 its
maximum of negative integers is 0, and its average of integers is cut off instead of
rounded when the next layer reads it.
"""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.quantization.signs import is_never_negative

# Nothing is smaller, so that the maximum changes nothing; and it has no integers.
_LOWEST = np.finfo(np.float32).min


def pool_in_float(graph, has_unsigned):
    """Puts ops that MNN computes in float around pooling that needs it.

    Args:
      graph: tf.Graph, is changed.
      has_unsigned: whether there are integers whose zero is their lowest, -128.

    Returns:
      {tensor: what stands for it now}.
    """
    stand_ins = {}
    for op in graph.get_operations():
        is_safe = op.type == "MaxPool" and not has_unsigned
        if op.type not in ("MaxPool", "AvgPool"):
            continue
        if is_safe and is_never_negative(op.inputs[0]):
            continue
        result = op.outputs[0]
        readers = [
            (reader, index)
            for reader in dict.fromkeys(result.consumers())
            for index, read in enumerate(reader.inputs)
            if read is result
        ]
        with graph.as_default(), tf.name_scope(f"{op.name}/in_float/"):
            tf_private.replace_input(op, 0, tf.maximum(op.inputs[0], _LOWEST))
            stand_ins[result] = tf.maximum(result, _LOWEST)
        for reader, index in readers:
            tf_private.replace_input(reader, index, stand_ins[result])
    return stand_ins
