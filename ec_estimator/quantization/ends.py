"""Where quantized layers end: the first and the last, and what layers put out."""
import tensorflow.compat.v1 as tf

from ec_estimator.graph.op_types import MOVES, SHAPE_OPS
from ec_estimator.graph.walk import ancestors, descendants

_JOINS = ("Add", "AddV2", "AddN", "ConcatV2")
_ACTIVATIONS = ("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Tanh", "Sigmoid")
_AFFINE = (
    *("BiasAdd", "Add", "AddV2", "Sub", "Mul"),
    *("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"),
)


class Ends:
    """The layers of a graph, by what comes before and after them.

    Args:
      graph: the tf.Graph that predicts.
      layers: ops of the layers, in order.
      predicted: the ops that put out what the model predicts.
    """

    def __init__(self, graph, layers, predicted):
        self._graph = graph
        self._layers = list(layers)
        self._predicted = frozenset(predicted)
        # The layers and all that depends on them.
        self._behind = descendants(self._layers)

    def first_and_last(self):
        """The layers that no other layer is before, or behind."""
        ahead = ancestors(t for op in self._layers for t in op.outputs)
        return {
            op
            for op in self._layers
            if not self._come_after_layers(op.inputs)
            or ahead.isdisjoint(r for t in op.outputs for r in t.consumers())
        }

    def outputs(self):
        """Iterates over the tensors that layers end in, after bias, batch norm and
        activation, and those where the outputs of several are joined."""
        for op in self._layers:
            yield self._end_of_layer(op.outputs[0])
        for op in self._graph.get_operations():
            if op.type in _JOINS and op in self._behind and self._joins_layers(op):
                yield _after_activation(op.outputs[0])

    def _come_after_layers(self, tensors):
        """Whether any of the tensors depends on what a layer puts out."""
        return any(tensor.op in self._behind for tensor in tensors)

    def _joins_layers(self, op):
        """Whether an op brings two tensors together that layers put out, and is not an
        addition of a bias."""
        tensors = [t for t in op.inputs if t.dtype == tf.float32]
        computed = [t for t in tensors if t.op in self._behind]
        return len(computed) > 1 and op.outputs[0].dtype == tf.float32

    def _end_of_layer(self, tensor):
        """After the bias, the batch norm and the activation that belong to a layer."""
        while True:
            readers = [r for r in tensor.consumers() if r.type not in SHAPE_OPS]
            if len(readers) != 1 or tensor.op in self._predicted:
                return tensor
            (reader,) = readers
            if reader.type in _ACTIVATIONS:
                return reader.outputs[0]
            if reader.type in MOVES:
                tensor = reader.outputs[0]
                continue
            others = [t for t in reader.inputs if t is not tensor]
            if reader.type not in _AFFINE or self._come_after_layers(others):
                return tensor
            tensor = reader.outputs[0]


def _after_activation(tensor):
    readers = [r for r in tensor.consumers() if r.type not in SHAPE_OPS]
    if len(readers) == 1 and readers[0].type in _ACTIVATIONS:
        return readers[0].outputs[0]
    return tensor
