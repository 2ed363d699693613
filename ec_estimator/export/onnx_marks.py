"""Marks in a frozen graph where tensors are rounded, for a converter to take along.

An activation's mark is an op that hands its input on: a Print whose message names the
quantizer. What converts it puts ONNX's own ops there, so that no tensor has to be found
again under another name or in another layout. A kernel becomes an input of the graph,
which nothing folds into others.
"""
from typing import Any, Dict, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.state import SCOPE
from ec_estimator.export.format import ExportError
from ec_estimator.graph.layers import output_axes
from ec_estimator.graph.op_types import ENTERS, SHAPE_OPS
from ec_estimator.graph.walk import descendants
from ec_estimator.quantization.lsq import SMALLEST_STEP
from ec_estimator.quantization.operands import source_of

_ROUNDED, _KERNEL = f"{SCOPE}/rounded", f"{SCOPE}/kernel"


class Kernel(NamedTuple):
    """name: of the variable; integers: int8, as the layer's op reads it; steps: float32
    that broadcast to the same shape."""

    name: str
    integers: Any
    steps: Any


class Marked(NamedTuple):
    """graph_def: what a signature needs, with marks; kernels: {name of a placeholder's
    tensor: Kernel}."""

    graph_def: Any
    kernels: Dict[str, Kernel]


def mark(model, signature, outputs):
    """Marks what a model quantizes, and names what it puts out.

    Args:
      model: frozen_model.FrozenModel.
      signature: frozen_model.Signature; its outputs become ops named as
        `output_op` says.
      outputs: those of model.outputs to mark.

    Returns:
      Marked.

    Raises:
      ExportError: a layer is a Winograd convolution.
    """
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(model.graph_def, name="")
        kernels = _mark_kernels(graph, model)
        for source, (name, readers) in _activations(graph, model, outputs).items():
            rounded = tf.raw_ops.Print(
                input=source, data=[], message=name, name=_ROUNDED
            )
            _replace(readers, rounded)
        for key, port in signature.outputs.items():
            tensor = graph.get_tensor_by_name(port.tensor)
            tf.identity(tensor, name=output_op(signature, key))
        made = graph.as_graph_def()
    ends = [output_op(signature, key) for key in signature.outputs]
    ends += [port.tensor.split(":")[0] for port in signature.inputs.values()]
    needed = tf.graph_util.extract_sub_graph(made, ends)
    kept = {f"{node.name}:0" for node in needed.node}
    return Marked(needed, {k: v for k, v in kernels.items() if k in kept})


def output_op(signature, key):
    """The op that `mark` puts behind an output."""
    return f"{SCOPE}/output_{sorted(signature.outputs).index(key)}"


def marked(op_type, name):
    """Whether an op is the mark of an activation."""
    return op_type == "Print" and _ROUNDED in name


def _activations(graph, model, outputs):
    """{tensor: (quantizer, [(op, index)] that read it rounded)}."""
    computed = descendants(map(graph.get_operation_by_name, model.variables))
    found = {}
    for name, layer in model.layers.items():
        op = graph.get_operation_by_name(name)
        for operand in layer.activations:
            tensor, reader = source_of(op.inputs[operand.index])
            # As in training: of what the model does not compute, what is no layer
            # reads the float tensor.
            only = None if tensor.op in computed else reader or (op, operand.index)
            readers = [only] if only else _readers(tensor)
            known = found.setdefault(tensor, (operand.quantizer, []))[1]
            known.extend(r for r in readers if r not in known)
    for name, quantizer in outputs.items():
        tensor = graph.get_tensor_by_name(name)
        found.setdefault(tensor, (quantizer, _readers(tensor)))
    return found


def _readers(tensor):
    return [
        (op, index)
        for op in dict.fromkeys(tensor.consumers())
        if op.type not in SHAPE_OPS
        for index, read in enumerate(op.inputs)
        if read is tensor
    ]


def _mark_kernels(graph, model):
    readers, made, kernels = {}, {}, {}
    with tf.Session(graph=graph) as session:
        for name, layer in model.layers.items():
            if layer.winograd:
                raise ExportError(
                    f"ONNX has no Winograd convolution, which {name!r} was trained as; "
                    "train with QuantizerConfig.int8_winograd=False, or export for MNN"
                )
            if layer.weights is None:
                continue
            op = graph.get_operation_by_name(name)
            index = layer.weights.index
            reader, tensor = (op, index), op.inputs[index]
            while tensor.op.type in ENTERS:
                reader, tensor = (tensor.op, 0), tensor.op.inputs[0]
            key = tensor, layer.weights.quantizer
            readers.setdefault(key, []).append(reader)
            if key not in made:
                scale = model.scales[layer.weights.quantizer]
                steps = _steps(op, index, scale)
                integers = integers_of(session.run(tensor), steps, scale)
                made[key] = Kernel(layer.kernel, integers, steps)
    for key, ends in readers.items():
        kernel = tf.placeholder(tf.float32, made[key].integers.shape, _KERNEL)
        kernels[kernel.name] = made[key]
        _replace(dict.fromkeys(ends), kernel)
    return kernels


def _steps(op, index, scale):
    """Step sizes that broadcast to the kernel at an op's input."""
    shape = op.inputs[index].shape.as_list()
    axes = output_axes(op, index)
    steps = np.maximum(np.float32(scale.steps), np.float32(SMALLEST_STEP))
    return steps.reshape([n if axis in axes else 1 for axis, n in enumerate(shape)])


def integers_of(value, steps, scale):
    """What training rounds a tensor to: halves upwards, as lsq.fake_quantize does.

    Args:
      value: float32 array.
      steps: float32 array that broadcasts to it.
      scale: frozen_model.Scale.

    Returns:
      int8 array of value's shape.
    """
    ratio = value / steps
    if scale.bits == 1 and scale.low < 0:
        return np.where(ratio >= 0, 1, -1).astype(np.int8)
    # The kernels of FakeQuant count from the lowest integer upwards.
    rounded = np.floor(np.clip(ratio, scale.low, scale.high) - scale.low + 0.5)
    return (rounded + scale.low).astype(np.int8)


def _replace(readers, tensor):
    for op, index in readers:
        tf_private.replace_input(op, index, tensor)
