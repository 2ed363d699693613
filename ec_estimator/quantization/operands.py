"""The tensors that a layer multiplies, and where they come from."""
import tensorflow.compat.v1 as tf

from ec_estimator.graph.op_types import MOVES


def operands(op):
    """The tensors that a layer's op multiplies."""
    inputs = list(op.inputs)
    return inputs[1:] if op.type == "Conv2DBackpropInput" else inputs


def data_index(op, kernel_index):
    """Which input of a layer's op holds the activations, given where its kernel is."""
    if op.type == "Conv2DBackpropInput":
        return 2
    return 1 - kernel_index


def source_of(tensor):
    """The tensor that reaches an operand by moves alone, and its reader on the way: a
    quantizer before moves serves all that comes after.

    Returns:
      (tensor, (op, index)) where the op's input `index` is the tensor, or None for the
      operand itself.
    """
    reader = None
    while tensor.op.type in MOVES and _keeps_values(tensor.op):
        reader, tensor = (tensor.op, 0), tensor.op.inputs[0]
    return tensor, reader


def _keeps_values(op):
    if op.type == "PadV2":
        return tf.get_static_value(op.inputs[2]) == 0
    return op.inputs[0].dtype == op.outputs[0].dtype
