"""What layers cost: at how many positions each one uses its kernel."""
from typing import NamedTuple, Tuple

import numpy as np

from ec_estimator.graph.views import column_axes


class LayerUse(NamedTuple):
    """How a layer uses its kernel.

    op, op_type: of the layer; kernel: the variable's name; parts: the variables that it
      is stored in.
    output_axes: the axes of the kernel that hold the layer's output channels; none if
      they were not found.
    positions: of one example; at each of them every entry of the kernel is multiplied
      and added once.
    decision: what the compressor does to the layer, or why nothing.
    """

    op: str
    op_type: str
    kernel: str
    parts: Tuple[str, ...]
    output_axes: Tuple[int, ...]
    positions: int
    decision: str


def layer_use(graph, layer, channels, decision):
    """The LayerUse of a graph.layers.Layer that has a kernel.

    Args:
      channels: channels.groups.Channels of the graph.
      decision: for the LayerUse.
    """
    return LayerUse(
        layer.op,
        layer.op_type,
        layer.kernel.name,
        layer.kernel.parts,
        _output_axes(layer, channels.producers.get(layer.kernel.parts[0], ())),
        positions(graph.get_operation_by_name(layer.op), layer.kernel),
        decision,
    )


def positions(op, kernel):
    """At how many positions of one example a layer uses its kernel.

    These are the pixels that a convolution puts out, those that a transposed one reads,
    and the rows of a matrix product. A size that is not known counts once, as does each
    pass through a loop.

    Args:
      op: the layer's op.
      kernel: its graph.layers.Kernel.
    """
    sizes = _sizes(op, kernel)
    return int(np.prod([size or 1 for size in sizes], dtype=np.int64))


def has_unknown_positions(op, kernel):
    """Whether `positions` counts a size once that is not known."""
    return None in _sizes(op, kernel)


def _sizes(op, kernel):
    if op.type in ("MatMul", "SparseMatMul"):
        return _rows(op, kernel)
    is_transposed = op.type == "Conv2DBackpropInput"
    sizes = (op.inputs[2] if is_transposed else op.outputs[0]).shape.as_list()[1:]
    channels_first = "data_format" in op.node_def.attr and op.get_attr(
        "data_format"
    ).startswith(b"NC")
    del sizes[0 if channels_first else -1]
    return sizes


def _rows(op, kernel):
    """Sizes whose product is an example's rows: none for a single row, or those that a
    Reshape from [batch, ..., taps] laid below each other, as tf.layers.dense does."""
    taps = kernel.matrix_shape[0]
    for operand in op.inputs:
        if operand.op.type == "Reshape":
            before = operand.op.inputs[0].shape
            if (before.rank or 0) > 2 and before.as_list()[-1] == taps:
                return before.as_list()[1:-1]
    return []


def _output_axes(layer, produced):
    """Of the kernel's variable; none where its channels were not followed."""
    if produced or layer.op_type == "DepthwiseConv2dNative":
        return column_axes(layer.kernel)
    return ()
