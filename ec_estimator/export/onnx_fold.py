"""Batch norms and other factors a channel go into the steps of quantized kernels.

With y = conv(x, s * q) and, behind it, a * y + b for each output channel,

    a * y + b = conv(x, (s * |a|) * (sign(a) * q)) + b

so the integers stay those that were trained, up to their sign: exact, where folding
into a kernel that is rounded afterwards is not. A batch norm has
a = gamma / sqrt(variance + epsilon) and b = beta - a * mean.
"""
from typing import Any, NamedTuple

import numpy as np

from ec_estimator.export.onnx_graph import OnnxGraph, attribute
from ec_estimator.export.onnx_kernels import kernel_axis, store
from ec_estimator.export.onnx_marks import Kernel


class Affine(NamedTuple):
    """a * y + b, [channels] each."""

    a: Any
    b: Any

    def then(self, other):
        return Affine(self.a * other.a, self.b * other.a + other.b)


class Layer(NamedTuple):
    """node: of a layer; channels: how many it puts out; behind: how many axes of what
    it puts out come after that of the channels."""

    node: Any
    channels: int
    behind: int


def fold(model):
    """Folds what can be proven to be the same, in place; what cannot stays.

    Args:
      model: onnx.ModelProto whose quantized kernels are DequantizeLinear nodes of
        initializers.
    """
    graph = OnnxGraph(model)
    producers = graph.producers()
    for node in list(graph.nodes):
        if _is_plain(node):
            kernel = producers.get(node.input[1])
            if kernel is not None and kernel.op_type == "DequantizeLinear":
                if kernel.input[0] in graph.constants:
                    _fold_layer(graph, node, kernel)
    graph.save()


def _is_plain(node):
    """A layer whose kernel has its channels on one axis."""
    if node.op_type == "ConvTranspose":
        return attribute(node, "group", 1) == 1
    if node.op_type == "Gemm":
        return attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
    return node.op_type in ("Conv", "MatMul")


def _fold_layer(graph, node, kernel):
    integers, steps, _ = (graph.constants[name] for name in kernel.input)
    behind = integers.ndim - 2 if node.op_type.startswith("Conv") else 0
    layer = Layer(node, len(steps), behind)
    start = _bias(graph, layer)
    if start is None:
        return
    affine, last = _follow(graph, layer, start)
    if last is None:
        return
    axis = kernel_axis(node, 1, integers.ndim)
    shape = [layer.channels if a == axis else 1 for a in range(integers.ndim)]
    a, steps = affine.a.reshape(shape), steps.reshape(shape)
    # A step is above 0; where all is multiplied by 0 the integers are 0.
    is_zero = steps * np.abs(a) < np.finfo(np.float32).tiny
    folded = Kernel(
        kernel.input[0],
        integers * np.where(is_zero, 0, np.sign(a)).astype(np.int8),
        np.where(is_zero, steps, steps * np.abs(a)).astype(np.float32),
    )
    tensor = f"{kernel.output[0]}/{node.output[0]}"
    if len(graph.readers()[kernel.output[0]]) == 1:
        graph.nodes.remove(kernel)
        tensor = kernel.output[0]
        for name in kernel.input[:2]:
            del graph.constants[name]
    node.input[1] = tensor
    store(graph, tensor, folded, axis)
    _put_out(graph, node, last, affine.b.astype(np.float32))


def _bias(graph, layer):
    """The Affine of a layer's own bias, or None if that is not a constant."""
    if len(layer.node.input) < 3:
        return Affine(np.ones(layer.channels), np.zeros(layer.channels))
    bias = graph.constants.get(layer.node.input[2])
    if bias is None or bias.shape != (layer.channels,):
        return None
    return Affine(np.ones(layer.channels), bias.astype(np.float64))


def _follow(graph, layer, affine):
    """Goes on as long as nothing else reads a layer's output.

    Returns:
      (Affine of all that was found, the last tensor), or None for the tensor if that is
      nothing, or but the bias of a MatMul, which cannot hold one itself.
    """
    readers = graph.readers()
    tensor, has_factor = layer.node.output[0], False
    while tensor not in graph.ends and len(readers.get(tensor, ())) == 1:
        [(reader, index)] = readers[tensor]
        step = _affine(graph, layer, reader, index)
        if step is None:
            break
        affine, tensor = affine.then(step), reader.output[0]
        has_factor = has_factor or reader.op_type != "Add"
    is_worth_it = has_factor or layer.node.op_type != "MatMul"
    return affine, tensor if is_worth_it and tensor != layer.node.output[0] else None


def _affine(graph, layer, reader, index):
    """What a node does to a layer's channels, or None if it is something else."""
    others = [graph.constants.get(n) for i, n in enumerate(reader.input) if i != index]
    if index is None or any(other is None for other in others):
        return None
    ones, zeros = np.ones(layer.channels), np.zeros(layer.channels)
    if reader.op_type == "BatchNormalization":
        gamma, beta, mean, variance = (other.astype(np.float64) for other in others)
        a = gamma / np.sqrt(variance + attribute(reader, "epsilon", 1e-5))
        return Affine(a, beta - a * mean) if layer.behind else None
    if reader.op_type not in ("Mul", "Add"):
        return None
    value = _per_channel(others[0].astype(np.float64), layer)
    if value is None:
        return None
    return Affine(value, zeros) if reader.op_type == "Mul" else Affine(ones, value)


def _per_channel(value, layer):
    """A constant as [channels] if it has one value, or one a channel, else None."""
    if value.ndim == 0:
        return np.full(layer.channels, value)
    position = value.ndim - 1 - layer.behind
    # With a batch axis of its own it could add one to what it is multiplied with.
    if position not in (0, 1 if layer.behind else 0):
        return None
    if value.size != layer.channels or value.shape[position] != layer.channels:
        return None
    return value.reshape(-1)


def _put_out(graph, node, last, bias):
    """Has a layer put out a tensor that was put out behind it."""
    from onnx import helper

    name = graph.add_constant(f"{last}/bias", bias)
    [end] = [other for other in graph.nodes if last in other.output]
    # Nothing reads it any more, so that it is not saved.
    end.output[0] = f"{last}/unfolded"
    if node.op_type == "MatMul":
        node.output[0] = f"{last}/product"
        graph.nodes.append(helper.make_node("Add", [node.output[0], name], [last]))
        return
    del node.input[2:]
    node.input.append(name)
    node.output[0] = last
