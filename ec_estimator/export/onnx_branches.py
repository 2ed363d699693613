"""Which of the tensors that post_quant quantizes TensorRT does not want rounded."""
import tensorflow.compat.v1 as tf

from ec_estimator.graph.op_types import LAYER_OPS, SHAPE_OPS
from ec_estimator.graph.walk import ancestors
from ec_estimator.quantization.operands import source_of

_SUMS = ("Add", "AddV2")


def without_branches(model):
    """The outputs of FrozenModel but those that end the branch of a residual block:
    rounded, they could not be fused into the convolution they come from. The shortcut
    stays, which of the two inputs of the addition is the one behind fewer layers.

    Returns:
      {tensor name: key of scales}.
    """
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(model.graph_def, name="")
    rounded = {
        source_of(graph.get_operation_by_name(op).inputs[operand.index])[0].name
        for op, layer in model.layers.items()
        for operand in layer.activations
    }
    rounded.update(model.outputs)
    return {
        name: quantizer
        for name, quantizer in model.outputs.items()
        if not _ends_branch(graph.get_tensor_by_name(name), rounded)
    }


def _ends_branch(tensor, rounded):
    readers = [op for op in tensor.consumers() if op.type not in SHAPE_OPS]
    if len(readers) != 1 or readers[0].type not in _SUMS:
        return False
    first, second = readers[0].inputs
    other = second if tensor is first else first
    if other.name not in rounded:
        return False
    # Of two that are equally long, the first.
    return (_layers_before(tensor), tensor is first) > (_layers_before(other), False)


def _layers_before(tensor):
    return sum(op.type in LAYER_OPS for op in ancestors([tensor]))
