"""Which tensors cannot be negative, whatever a model's weights and inputs are."""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.graph.op_types import CASTS, HANDS_ON, RESHAPES
from ec_estimator.graph.stand_ins import original_of

_NEVER = (
    *("Relu", "Relu6", "Sigmoid", "Softmax", "Softplus", "Exp"),
    *("Square", "Abs", "Sqrt", "Rsqrt", "SquaredDifference", "L2Loss"),
)
# Never negative where what they read is not; the inputs with values are listed.
_IF_INPUT = {
    **dict.fromkeys(
        (
            *(*HANDS_ON, *RESHAPES, "Transpose", "Pad"),
            *("MaxPool", "MaxPoolV2", "AvgPool", "Mean", "Sum", "Max", "Min"),
            *("StridedSlice", "Slice", "Gather", "GatherV2", "ResizeBilinear"),
            *("ResizeNearestNeighbor", "Tile", "SpaceToBatchND", "BatchToSpaceND"),
            *("StopGradient", "Exit", "DepthToSpace", "SpaceToDepth"),
            # Dropout's mask and images of bytes come through them.
            *CASTS,
        ),
        lambda op: op.inputs[:1],
    ),
    **dict.fromkeys(
        ("Add", "AddV2", "AddN", "Mul", "RealDiv", "Merge", "Pack", "Minimum"),
        lambda op: op.inputs,
    ),
    "ConcatV2": lambda op: op.inputs[:-1],
    "Split": lambda op: op.inputs[1:],
    "SplitV": lambda op: op.inputs[:1],
}


def is_never_negative(tensor):
    """Whether a tensor's values are at least 0 by the ops that compute it."""
    seen, stack = set(), [tensor]
    while stack:
        tensor = original_of(stack.pop())
        op = tensor.op
        if op in seen or op.type in _NEVER or _has_no_sign(tensor.dtype.base_dtype):
            continue
        seen.add(op)
        if op.type == "Maximum":
            if not any(_is_constant_at_least_0(t) for t in op.inputs):
                stack.extend(op.inputs)
        elif op.type in _IF_INPUT:
            stack.extend(_IF_INPUT[op.type](op))
        elif not _is_constant_at_least_0(tensor):
            return False
    return True


def _has_no_sign(dtype):
    return dtype.is_bool or dtype.is_unsigned


def _is_constant_at_least_0(tensor):
    value = tf.get_static_value(tensor)
    if value is None and tensor.op.type == "Sub":
        # Dropout divides by 1 - rate.
        parts = [tf.get_static_value(part) for part in tensor.op.inputs]
        if all(part is not None for part in parts):
            value = parts[0] - parts[1]
    return value is not None and bool(np.all(np.asarray(value) >= 0))
