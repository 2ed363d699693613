"""Which of the tensors that post_quant quantizes TensorRT wants rounded."""
from ec_estimator.graph.op_types import LAYER_OPS, SHAPE_OPS

_SUMS = ("Add", "AddV2")
_POOLS = ("AvgPool", "Mean")


def shortcuts(graph, model):
    """Of FrozenModel.outputs, the inputs of average pools, and of an addition that
    ends a residual block the shortcut; the branch is fused with its convolution.

    Args:
      graph: tf.Graph of model.graph_def.
      model: frozen_model.FrozenModel.

    Returns:
      {tensor name: key of scales}.
    """
    order = {op: position for position, op in enumerate(graph.get_operations())}
    kept = {}
    for name, quantizer in model.outputs.items():
        tensor = graph.get_tensor_by_name(name)
        readers = [op for op in tensor.consumers() if op.type not in SHAPE_OPS]
        if readers and all(
            op.type in _POOLS
            or op.type in _SUMS
            and _is_shortcut(op, tensor, model.outputs, order)
            for op in readers
        ):
            kept[name] = quantizer
    return kept


def _is_shortcut(op, tensor, outputs, order):
    """Whether the addition's other input is the branch: of two that are quantized
    only because they are added, the longer one."""
    [other] = [t for t in op.inputs if t is not tensor] or [tensor]
    if other.name not in outputs:
        return False
    return (_length(tensor), order[tensor.op]) < (_length(other), order[other.op])


def _length(tensor):
    """How many layers come before a tensor."""
    seen, stack = set(), [tensor.op]
    while stack:
        op = stack.pop()
        if op not in seen:
            seen.add(op)
            stack.extend(t.op for t in op.inputs)
    return sum(op.type in LAYER_OPS for op in seen)
