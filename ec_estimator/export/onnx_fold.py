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


def fold(model):
    """Folds what can be proven to be the same, in place; what cannot stays.

    Args:
      model: onnx.ModelProto whose quantized kernels are DequantizeLinear nodes of
        initializers.
    """
    graph = OnnxGraph(model)
    producers = graph.producers()
    for node in [n for n in graph.nodes if n.op_type in _CHANNEL_AXES]:
        kernel = producers.get(node.input[1])
        if _is_kernel(graph, kernel) and _is_plain(node):
            _fold_layer(graph, node, kernel)
    graph.save()


# Layers, and the axis of what they put out that has the channels.
_CHANNEL_AXES = {"Conv": 1, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1}


def _is_kernel(graph, node):
    return (
        node is not None
        and node.op_type == "DequantizeLinear"
        and node.input[0] in graph.constants
    )


def _is_plain(node):
    """Not so the kernel of a transposed convolution in groups: its channels are not on
    one axis."""
    if node.op_type == "ConvTranspose":
        return attribute(node, "group", 1) == 1
    if node.op_type == "Gemm":
        return attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
    return True


def _fold_layer(graph, node, kernel):
    integers, steps, _ = (graph.constants[name] for name in kernel.input)
    channels = len(steps)
    behind, last, is_new = _behind(graph, node, channels)
    if not is_new:
        return
    axis = kernel_axis(node, 1, integers.ndim)
    shape = [channels if a == axis else 1 for a in range(integers.ndim)]
    a = behind.a.reshape(shape)
    scaled = steps.reshape(shape) * np.abs(a)
    # A step is above 0; where all is multiplied by 0 the integers are 0.
    is_zero = scaled < np.finfo(np.float32).tiny
    folded = Kernel(
        integers * np.where(is_zero, 0, np.sign(a)).astype(np.int8),
        np.where(is_zero, steps.reshape(shape), scaled).astype(np.float32),
    )
    name = f"{node.name}/folded"
    store(graph, name, folded, axis)
    node.input[1] = name
    _put_out(graph, node, last, behind.b)


def _behind(graph, node, channels):
    """What comes behind a layer and is read by nothing else.

    Returns:
      (Affine of all of it, the last tensor, whether that is more than a bias).
    """
    readers = graph.readers()
    affine = Affine(np.ones(channels), np.zeros(channels))
    tensor, last, factors = node.output[0], node.output[0], False
    found = affine
    if len(node.input) > 2:
        bias = graph.constants.get(node.input[2])
        if bias is None or bias.size not in (1, channels):
            return affine, last, False
        affine = found = Affine(affine.a, affine.b + bias.reshape(-1))
    while tensor not in graph.ends and len(readers.get(tensor, ())) == 1:
        [(reader, index)] = readers[tensor]
        step = _affine(graph, node, reader, index, channels)
        if step is None:
            break
        affine = Affine(affine.a * step.a, affine.b * step.a + step.b)
        tensor = reader.output[0]
        factors = factors or reader.op_type not in ("Add", "Sub")
        if factors or node.op_type != "MatMul":
            found, last = affine, tensor
    return found, last, factors


def _affine(graph, layer, reader, index, channels):
    """What a node does to a layer's channels, or None if it is something else."""
    if index is None:
        return None
    others = [graph.constants.get(n) for i, n in enumerate(reader.input) if i != index]
    if any(other is None for other in others):
        return None
    others = [other.astype(np.float64) for other in others]
    if reader.op_type == "BatchNormalization" and layer.op_type.startswith("Conv"):
        gamma, beta, mean, variance = others
        a = gamma / np.sqrt(variance + attribute(reader, "epsilon", 1e-5))
        return Affine(a, beta - a * mean)
    if len(others) != 1 or reader.op_type not in ("Mul", "Div", "Add", "Sub"):
        return None
    [other] = others
    value = _per_channel(other, layer, channels)
    if value is None or (index == 1 and reader.op_type in ("Div", "Sub")):
        return None
    ones, zeros = np.ones(channels), np.zeros(channels)
    return {
        "Mul": Affine(value, zeros),
        "Div": Affine(1 / np.where(value == 0, np.nan, value), zeros),
        "Add": Affine(ones, value),
        "Sub": Affine(ones, -value),
    }[reader.op_type]


def _per_channel(value, layer, channels):
    """A constant as [channels] if it has one value a channel, else None."""
    if value.size == 1 and value.ndim <= 1:
        return np.full(channels, value.reshape(()))
    behind = 0
    if layer.op_type.startswith("Conv"):
        # Of [batch, channels, height, width], all that is behind the channels.
        behind = _spatial(layer, value)
    position = value.ndim - 1 - behind
    if position < 0 or value.size != channels or value.shape[position] != channels:
        return None
    return value.reshape(-1)


def _spatial(layer, value):
    return len(attribute(layer, "kernel_shape", (0, 0)))


def _put_out(graph, node, last, bias):
    """Has a layer with a bias put out a tensor."""
    from onnx import helper

    bias = bias.astype(np.float32)
    for other in graph.nodes:
        if last in other.output and other is not node:
            # Nothing reads it, so that it is not saved.
            other.output[0] = f"{last}/unfolded"
    if node.op_type == "MatMul":
        name = graph.add_constant(f"{node.name}/bias", bias)
        node.output[0] = f"{node.name}/product"
        graph.nodes.append(helper.make_node("Add", [node.output[0], name], [last]))
        return
    del node.input[2:]
    node.input.append(graph.add_constant(f"{node.name}/bias", bias))
    node.output[0] = last
