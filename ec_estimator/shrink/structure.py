"""A fingerprint of how layers are connected, whatever their sizes and their ops' names.

Two builds of one network have the same fingerprints even if their inputs come another
way or their ops are numbered otherwise; a build that has an activation more, or another
shortcut, has not.
"""
import collections
import zlib

import tensorflow.compat.v1 as tf

from ec_estimator.channels.groups import in_order
from ec_estimator.graph.op_types import HANDS_ON, LAYER_OPS, READS, VARIABLE_OPS

_INPUT = "input"


def layer_structures(ops):
    """Fingerprints of layers.

    Args:
      ops: of a forward pass, with all that they are computed from.

    Returns:
      {name of a kernel variable: Counter of a fingerprint for each layer that reads it:
      text that depends on the types and connections of the ops between the layer and
      those that it reads from}.
    """
    marks, found = {}, collections.defaultdict(collections.Counter)
    for op in in_order(set(ops)):
        inputs = [marks[t.op] for t in op.inputs if t.op in marks and _is_data(t)]
        if op.type in VARIABLE_OPS:
            marks[op] = f"variable {op.name}"
        elif op.type in (*HANDS_ON, *READS) and inputs:
            marks[op] = inputs[0]
        elif all(mark == _INPUT for mark in inputs):
            # Made from no variable: data on its way in, or a constant.
            marks[op] = _INPUT
        else:
            marks[op] = _checksum([op.type, *inputs])
        kernels = [m for m in inputs if m.startswith("variable ")]
        if op.type in LAYER_OPS and kernels:
            name = kernels[0].split(" ", 1)[1]
            found[name][marks[op]] += 1
            marks[op] = f"layer {name}"
    return dict(found)


def _is_data(tensor):
    """Not a shape or an index, whose way to an op depends on what is known of sizes."""
    return tensor.dtype.is_floating or tensor.dtype == tf.resource


def _checksum(parts):
    return format(zlib.crc32(" ".join(parts).encode()), "08x")
