"""A fingerprint of how layers are connected, whatever their sizes and their ops' names.

Two builds of one network have the same fingerprints even if their inputs come another
way or their ops are numbered otherwise; a build that has an activation more, or another
shortcut, has not.
"""
import collections
import zlib

import tensorflow.compat.v1 as tf

from ec_estimator.channels.groups import in_order
from ec_estimator.core.replicas import variable_name
from ec_estimator.graph.op_types import HANDS_ON, LAYER_OPS, READS, VARIABLE_OPS
from ec_estimator.graph.walk import origin

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
            marks[op] = f"variable {variable_name(op)}"
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


def channel_inputs(graph, readings):
    """Which tensors layers read channels from.

    Args:
      graph: tf.Graph.
      readings: [channels.groups.Reading] in it.

    Returns:
      {name of a kernel variable: [[name of the tensor, its axis that has the channels,
      the kernel's axis that reads them]]}, without what is moved on the way.
    """
    found = collections.defaultdict(list)
    for reading in readings:
        op = graph.get_operation_by_name(reading.op)
        kernel, data = op.inputs[reading.index], _data_of(op, reading.index)
        channels_first = op.node_def.attr["data_format"].s.startswith(b"NC")
        axis, variable = 1 if channels_first else -1, origin(kernel)
        if variable.type not in VARIABLE_OPS or not data.shape.rank:
            continue
        if data.shape.as_list()[axis] == kernel.shape.as_list()[reading.axis]:
            found[variable_name(variable)].append([data.name, axis, reading.axis])
    return dict(found)


def _data_of(op, kernel_index):
    """What a layer's op multiplies with the kernel."""
    is_transposed = op.type == "Conv2DBackpropInput"
    return op.inputs[2 if is_transposed else 1 - kernel_index]


def _is_data(tensor):
    """Not a shape or an index, whose way to an op depends on what is known of sizes."""
    return tensor.dtype.is_floating or tensor.dtype == tf.resource


def _checksum(parts):
    return format(zlib.crc32(" ".join(parts).encode()), "08x")
