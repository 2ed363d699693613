"""Quantized layers in the one form that MNN's converter is sure to see as a layer:

    convolution > bias > ReLU or ReLU6, if there is one > reshapes

All that scales and shifts a layer's channels (bias, batch norm, fused or not) is folded
into kernel and bias. A matrix product becomes a convolution of single pixels: of a
MatMul the converter makes one, too, but with a name that depends on what follows, and
leaves it in float without a word where that is not the name that it is told.
"""
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.graph.op_types import RESHAPES
from ec_estimator.graph.walk import ancestors

_BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_RELUS = ("Relu", "Relu6")
# They put channels as they are at other places of the batch and the image.
_MOVED = ("Identity", "BatchToSpaceND", *RESHAPES)


class Fold(NamedTuple):
    """What is folded into a layer.

    op: the layer's tf.Operation; factors, bias: float32 `[channels]`, the layer's
      output times factors plus bias is what comes out, but for `relu`, an op or None.
    moves: ops that reshape it on the way.
    last: the last op of all.
    """

    op: Any
    factors: Any
    bias: Any
    relu: Optional[Any]
    moves: tuple
    last: Any


class Folder:
    """Finds what can be folded.

    Args:
      session: tf.Session of a graph that predicts.
      kept: tensors that nothing is folded into layers after.
    """

    def __init__(self, session, kept):
        self._session, self._kept = session, kept

    def fold(self, op, channels):
        """The Fold of a layer with so many output channels."""
        fold = Fold(op, np.ones(channels), np.zeros(channels), None, (), op)
        tensor, moves = op.outputs[0], ()
        while fold.relu is None:
            reader = self._only_reader(tensor)
            if reader is None:
                break
            if reader.type in _MOVED and _channels(reader) == channels:
                moves += (reader,)
            elif reader.type in _RELUS:
                fold = fold._replace(relu=reader, moves=moves, last=reader)
            else:
                affine = self._affine(reader, tensor, channels)
                if affine is None:
                    break
                factors, offset = affine
                fold = fold._replace(
                    factors=fold.factors * factors,
                    bias=fold.bias * factors + offset,
                    moves=moves,
                    last=reader,
                )
            tensor = reader.outputs[0]
        return fold

    def _only_reader(self, tensor):
        readers = set(tensor.consumers())
        if len(readers) != 1 or tensor in self._kept:
            return None
        return readers.pop()

    def _affine(self, op, tensor, channels):
        """(factors, offset) that an op multiplies and shifts channels by, or None."""
        if op.type in _BATCH_NORMS:
            return self._batch_norm(op)
        others = [other for other in op.inputs if other is not tensor]
        if len(others) != 1 or op.outputs[0].shape.rank != tensor.shape.rank:
            return None
        value = self._constant(others[0])
        if value is None or value.size != 1 and value.shape[-1:] != (channels,):
            return None
        if value.size not in (1, channels):
            return None
        value = value.reshape(-1).astype(np.float64)
        if op.type in ("BiasAdd", "Add", "AddV2"):
            return 1, value
        if op.type == "Sub":
            return (1, -value) if op.inputs[0] is tensor else (-1, value)
        return (value, 0) if op.type == "Mul" else None

    def _batch_norm(self, op):
        values = [self._constant(tensor) for tensor in list(op.inputs)[1:]]
        if op.get_attr("is_training") or any(value is None for value in values):
            return None
        gamma, beta, mean, variance = (value.astype(np.float64) for value in values)
        factors = gamma / np.sqrt(variance + op.get_attr("epsilon"))
        return factors, beta - mean * factors

    def _constant(self, tensor):
        sources = ancestors([tensor])
        if any(source.type.startswith("Placeholder") for source in sources):
            return None
        return self._session.run(tensor)


def _channels(op):
    shape = op.outputs[0].shape
    return shape[-1].value if shape.rank else None


def write_fold(fold, data, kernel):
    """Has the readers of a layer's result read it from the folded form.

    Args:
      fold: Fold.
      data: the tensor that the layer reads.
      kernel: float32, with the factors in it; of a MatMul `[in, out]`.

    Returns:
      (names of the ops whose output can be that of MNN's layer, the result).
    """
    op, is_product = fold.op, fold.op.type == "MatMul"
    with op.graph.as_default(), tf.name_scope(f"{op.name}/folded/"):
        if is_product:
            pixels = tf.reshape(data, [-1, 1, 1, kernel.shape[0]])
            tensor = tf.nn.conv2d(pixels, kernel[None, None], 1, "VALID")
        else:
            tensor = _like(op, data, tf.constant(kernel))
        # The converter drops a bias of zeros.
        names = [tensor.op.name]
        tensor = tf.nn.bias_add(tensor, fold.bias.astype(np.float32))
        names.append(tensor.op.name)
        if fold.relu is not None:
            tensor = _like(fold.relu, tensor)
            names.append(tensor.op.name)
        if is_product:
            tensor = tf.reshape(tensor, [-1, kernel.shape[1]])
        for move in fold.moves:
            tensor = _like(move, tensor, *list(move.inputs)[1:])
    old = fold.last.outputs[0]
    tensor.set_shape(old.shape)
    for reader in old.consumers():
        for index, read in enumerate(reader.inputs):
            if read is old:
                tf_private.replace_input(reader, index, tensor)
    return names, tensor


def _like(op, *inputs):
    """An op with other inputs."""
    attributes = {key: op.node_def.attr[key] for key in op.node_def.attr}
    types = [output.dtype for output in op.outputs]
    return op.graph.create_op(op.type, list(inputs), types, attrs=attributes).outputs[0]
