"""Marked kernels of an ONNX model become int8 initializers with a DequantizeLinear."""
import numpy as np

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
        _move(graph, name, kernel.integers, steps)
    graph.save()
    for port in [port for port in model.graph.input if port.name in kernels]:
        model.graph.input.remove(port)


def _move(graph, name, integers, steps):
    """Stores a tensor that is `integers * steps`, for all its readers."""
    readers = graph.readers().get(name, [])
    for reader, index in readers:
        move = _mover(graph, reader) if index == 0 else None
        if move is not None:
            _move(graph, reader.output[0], move(integers), move(steps))
            graph.nodes.remove(reader)
    kept = [(r, i) for r, i in readers if i != 0 or _mover(graph, r) is None]
    if kept:
        store(graph, name, Kernel(integers, steps), kernel_axis(*kept[0], steps.ndim))


def store(graph, name, kernel, axis):
    """Adds a DequantizeLinear that puts out a tensor.

    Args:
      graph: onnx_graph.OnnxGraph.
      name: of the tensor; nothing puts it out.
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
            f"kernel {name!r} of shape {shape} has step sizes that differ along its "
            f"axes {differ}, and ONNX has them along axis {axis} of this op; add its "
            "layer to QuantizerConfig.fp32_layers"
        )
    others = tuple(a for a in range(len(shape)) if a != axis)
    inputs = [
        graph.add_constant(f"{name}/integers", kernel.integers),
        graph.add_constant(f"{name}/steps", np.max(steps, axis=others)),
        graph.add_constant(f"{name}/zero_points", np.zeros(shape[axis], np.int8)),
    ]
    graph.nodes.append(
        helper.make_node("DequantizeLinear", inputs, [name], name=name, axis=axis)
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
