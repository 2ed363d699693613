"""Marked kernels of an ONNX model become int8 initializers with a DequantizeLinear."""
import numpy as np

from ec_estimator.core.state import SCOPE
from ec_estimator.export.format import ExportError
from ec_estimator.export.onnx_graph import OnnxGraph, attribute
from ec_estimator.export.onnx_marks import Kernel


def write_kernels(model, kernels):
    """Replaces inputs that are kernels, in place.

    A converter moves a kernel to ONNX's layout by ops behind the input. They are done
    here, on integers and steps alike, so that both are in the layout that is stored.

    Args:
      model: onnx.ModelProto.
      kernels: {name of an input: onnx_marks.Kernel}.

    Raises:
      ExportError: after such a move, steps differ along several axes.
    """
    graph = OnnxGraph(model)
    for name, kernel in kernels.items():
        steps = np.broadcast_to(kernel.steps, kernel.integers.shape)
        _move(graph, name, kernel._replace(steps=steps))
    graph.save()
    for port in [port for port in model.graph.input if port.name in kernels]:
        model.graph.input.remove(port)


def _move(graph, tensor, kernel):
    """Stores a kernel as a tensor, for all its readers."""
    readers = graph.readers().get(tensor, [])
    kept = []
    for reader, index in readers:
        move = _mover(graph, reader) if index == 0 else None
        if move is None:
            kept.append((reader, index))
            continue
        moved = Kernel(kernel.name, move(kernel.integers), move(kernel.steps))
        _move(graph, reader.output[0], moved)
        graph.nodes.remove(reader)
    if kept:
        store(graph, tensor, kernel, kernel_axis(*kept[0], kernel.steps.ndim))


def store(graph, tensor, kernel, axis):
    """Adds a DequantizeLinear that puts out a tensor.

    Args:
      graph: onnx_graph.OnnxGraph.
      tensor: its name; nothing puts it out.
      kernel: onnx_marks.Kernel with steps that differ along one axis at most.
      axis: the one along which they may differ, or None to find it.

    Raises:
      ExportError: they differ along another.
    """
    from onnx import helper

    steps, shape = kernel.steps, kernel.integers.shape
    differ = [a for a in range(len(shape)) if np.ptp(steps, axis=a).any()]
    if axis is None:
        axis = differ[0] if differ else len(shape) - 1
    if set(differ) - {axis}:
        raise ExportError(
            f"kernel {kernel.name!r} of shape {shape} has step sizes that differ along "
            f"axes {differ}, and ONNX has them along axis {axis} of this op; add its "
            "layer to QuantizerConfig.fp32_layers"
        )
    others = tuple(a for a in range(len(shape)) if a != axis)
    # All of a size share their zero points.
    zeros = f"{SCOPE}/zero_points_{shape[axis]}"
    graph.constants.setdefault(zeros, np.zeros(shape[axis], np.int8))
    inputs = [
        graph.add_constant(kernel.name, kernel.integers),
        graph.add_constant(f"{kernel.name}/steps", np.max(steps, axis=others)),
        zeros,
    ]
    graph.nodes.append(
        helper.make_node("DequantizeLinear", inputs, [tensor], axis=axis)
    )


def kernel_axis(node, index, rank):
    """Which axis of a kernel, a node's input, are the output channels; None if the node
    is no layer."""
    if index is None:
        return None
    if node.op_type == "MatMul":
        return rank - 1 if index == 1 else rank - 2
    if node.op_type == "Gemm":
        swapped = attribute(node, "transA" if index == 0 else "transB", 0)
        return int(bool(swapped) == (index == 0))
    return {"Conv": 0, "ConvTranspose": 1}.get(node.op_type)


def _mover(graph, node):
    """What a node does to an array, or None if it is no move."""
    if node.op_type == "Identity":
        return lambda array: array
    if node.op_type == "Transpose":
        return lambda array: np.transpose(array, attribute(node, "perm"))
    sizes = graph.constants.get(node.input[1]) if len(node.input) > 1 else None
    if sizes is None:
        return None
    if node.op_type == "Reshape":
        return lambda array: np.reshape(
            array, [array.shape[i] if s == 0 else s for i, s in enumerate(sizes)]
        )
    if node.op_type == "Unsqueeze":
        return lambda array: np.expand_dims(array, tuple(sizes))
    if node.op_type == "Squeeze":
        return lambda array: np.squeeze(array, tuple(sizes))
    return None
