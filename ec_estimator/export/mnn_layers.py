"""A frozen model's quantized layers as MNN's converter takes them."""
from typing import Any, NamedTuple, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.export.format import ExportError
from ec_estimator.export.frozen_model import Scale
from ec_estimator.export.mnn_fold import Folder, write_fold
from ec_estimator.export.mnn_left import Rounder
from ec_estimator.export.mnn_params import LayerParams, Rounded, Weights, Winograd
from ec_estimator.export.mnn_pools import pool_in_float
from ec_estimator.graph.layers import output_axes
from ec_estimator.graph.op_types import ENTERS, MOVES, SHAPE_OPS, SWITCHES
from ec_estimator.graph.walk import ancestors
from ec_estimator.quantization.lsq import SMALLEST_STEP
from ec_estimator.quantization.operands import source_of

# What MNN has integer layers for, outside of loops and branches.
_TYPES = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
# Rounding before them is rounding after them.
_MONOTONE = (*MOVES, "MaxPool", "Relu", "Relu6", "SpaceToBatchND", "BatchToSpaceND")


class Prepared(NamedTuple):
    """layers: one tuple a layer, of its mnn_params.LayerParams under each name that the
      converter may know it by.
    results: {tensor: what stands for it now}.
    left: names of the ops that were trained quantized and stay in float.
    """

    layers: Tuple[Tuple[LayerParams, ...], ...]
    results: Any
    left: Tuple[str, ...]


def prepare(session, model, outputs, feeds):
    """Folds a graph's quantized layers, and says which integers they compute with.

    Args:
      session: tf.Session; its graph, that of model.graph_def, is changed.
      model: frozen_model.FrozenModel.
      outputs: tensors that are asked for.
      feeds: {tensor: array} that the scales of tensors are observed with that nothing
        else tells.

    Returns:
      Prepared.

    Raises:
      ExportError: MNN has no such integers.
    """
    ops = {op.name: op for op in session.graph.get_operations()}
    quantized = {ops[n]: layer for n, layer in model.layers.items() if n in ops}
    layers = {op: layer for op, layer in quantized.items() if _has_integers(op, layer)}
    left = {op: layer for op, layer in quantized.items() if op not in layers}
    scales = _Tensors(model, quantized, ops)
    folder = Folder(session, set(outputs))
    folds = [
        folder.fold(op, model.scales[layer.weights.quantizer].steps.size)
        for op, layer in layers.items()
    ]
    results = [fold.last.outputs[0] for fold in folds]
    observed = _observe(session, [t for t in results if not scales.of(t)], feeds)
    # Before the graph is changed.
    known = [scales.of(tensor) or observed[tensor] for tensor in results]
    kernels = session.run([op.inputs[la.weights.index] for op, la in layers.items()])
    covered = {scales.rounding(tensor) for tensor in results}
    rounder = Rounder(session, model.scales)
    rounder.operands(left, _rounded_kernel)
    rounder.outputs(scales.uncovered(covered), set(layers))
    params, stand_ins = [], {}
    for fold, layer, scale, kernel in zip(folds, layers.values(), known, kernels):
        described, stand_ins[fold.last.outputs[0]] = _write(
            fold, layer, scale, kernel, model.scales
        )
        params.append(described)
    if layers:
        used = [r for names in params for la in names for r in (la.input, la.output)]
        stand_ins.update(
            pool_in_float(session.graph, any(rounded.zero_point for rounded in used))
        )
    return Prepared(tuple(params), stand_ins, tuple(op.name for op in left))


def _has_integers(op, layer):
    if op.type not in _TYPES or layer.weights is None:
        return False
    sources = ancestors([op.inputs[layer.weights.index]])
    if any(source.type in (*ENTERS, *SWITCHES) for source in sources):
        return False
    if op.type == "DepthwiseConv2dNative":
        # The converter splits one with several outputs a channel.
        return op.inputs[1].shape[3].value == 1
    # One whose examples are columns is no convolution of pixels.
    if op.type == "MatMul":
        return layer.weights.index == 1 and not op.get_attr("transpose_a")
    return True


class _Tensors:
    """Which scale a tensor is rounded with."""

    def __init__(self, model, layers, ops):
        self._rounded, self._outputs = {}, {}
        for op, layer in layers.items():
            for operand in layer.activations:
                tensor = source_of(op.inputs[operand.index])[0]
                self._rounded[tensor] = model.scales[operand.quantizer]
        for name, quantizer in model.outputs.items():
            op, _, index = name.partition(":")
            if op in ops:
                tensor = ops[op].outputs[int(index)]
                self._rounded.setdefault(tensor, model.scales[quantizer])
                self._outputs[tensor] = quantizer

    def of(self, tensor):
        """The scale that the next layer has a tensor rounded with, or None."""
        return self._rounded.get(self.rounding(tensor))

    def uncovered(self, covered):
        """{tensor: quantizer name} of what is rounded when put out, but for some."""
        return {t: name for t, name in self._outputs.items() if t not in covered}

    def rounding(self, tensor):
        """The tensor that the next layer has rounded as this one, or None."""
        while tensor not in self._rounded:
            readers = {op for op in tensor.consumers() if op.type not in SHAPE_OPS}
            if len(readers) != 1:
                return None
            (reader,) = readers
            if reader.type not in _MONOTONE or reader.inputs[0] is not tensor:
                return None
            tensor = reader.outputs[0]
        return tensor


def _observe(session, tensors, feeds):
    """{tensor: Scale of 8 bits that its largest magnitude just fits into}."""
    with session.graph.as_default():
        largest = {tensor: tf.reduce_max(tf.abs(tensor)) for tensor in tensors}
    return {
        tensor: Scale(8, -127, 127, np.float32(value / 127 if value > 0 else 1))
        for tensor, value in session.run(largest, feeds).items()
    }


def _write(fold, layer, out, kernel, scales):
    """Writes a layer's folded form.

    Returns:
      (its LayerParams under each name, the tensor that is its result).
    """
    (activation,), weights = layer.activations, scales[layer.weights.quantizer]
    data = fold.op.inputs[activation.index]
    axes = output_axes(fold.op, layer.weights.index)
    kernel = _folded_kernel(kernel, axes, weights, fold.factors)
    if fold.op.type == "MatMul" and axes == (0,):
        kernel = kernel.T
    names, result = write_fold(fold, data, kernel)
    # A negative factor turns the integers round.
    limit = max(-weights.low, weights.high)
    described = Weights(layer.kernel, _folded(weights.steps, fold.factors), limit)
    winograd = None
    if layer.winograd:
        inputs, steps = (
            scales[f"{layer.kernel}/winograd_{part}"].steps
            for part in ("input", "kernel")
        )
        steps = steps.reshape(-1, fold.factors.size)
        winograd = Winograd(inputs, _folded(steps, fold.factors).reshape(-1))
    read = _integers(data.op.name, scales[activation.quantizer])
    return (
        tuple(
            LayerParams(read, described, _integers(name, out), winograd)
            for name in names
        ),
        result,
    )


def _folded(steps, factors):
    return np.maximum(np.abs(steps * factors), SMALLEST_STEP).astype(np.float32)


def _integers(name, scale):
    """A Scale as MNN has it, whose integers are always of 8 signed bits."""
    if scale.bits == 1 and scale.low < 0:
        raise ExportError(
            f"mnn: {name!r} is rounded to -1 and +1, and MNN's integers have a 0 "
            "between them; train with QuantizerConfig.bits of 2 or more, or with "
            "signed=False"
        )
    zero_point = 0 if scale.low < 0 else -128
    low, high = scale.low + zero_point, scale.high + zero_point
    return Rounded(name, float(scale.steps), zero_point, low, high)


def _rounded_kernel(kernel, axes, scale):
    return _folded_kernel(kernel, axes, scale, np.float32(1))


def _folded_kernel(kernel, axes, scale, factors):
    """A kernel as integers times their steps and the factors of its channels.

    Args:
      kernel: array whose axes `axes` are its output channels.
    """
    rest = tuple(axis for axis in range(kernel.ndim) if axis not in axes)
    order = rest + tuple(axes)
    moved = np.transpose(kernel, order)
    matrix = moved.reshape(-1, scale.steps.size)
    # Halves upwards, as FakeQuant has them.
    integers = np.floor(matrix / scale.steps + np.float32(0.5))
    if scale.bits == 1:
        integers = np.where(matrix >= 0, 1, -1)
    folded = np.clip(integers, scale.low, scale.high) * (scale.steps * factors)
    folded = folded.astype(np.float32).reshape(moved.shape)
    return np.transpose(folded, np.argsort(order))
