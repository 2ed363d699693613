"""Finds the layers of a graph: matrix products and convolutions, and their kernels."""
import dataclasses
import re
from typing import Optional, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.replicas import variable_name
from ec_estimator.graph.op_types import (
    CASTS,
    FAKE_QUANTIZES,
    FEEDS,
    HANDS_ON,
    LAYER_OPS,
    OUTPUT_AXES,
    READS,
    RESHAPES,
    SWITCHES,
    VARIABLE_OPS,
)
from ec_estimator.graph.stand_ins import original_of
from ec_estimator.graph.views import simplify
from ec_estimator.graph.walk import ancestors, descendants

# Ops that hand a kernel on as it is.
_PASS_THROUGH = (*HANDS_ON, *READS, *CASTS, *FAKE_QUANTIZES)

# Why a product without a kernel is left alone.
COMPUTED = "its kernel is computed by"
TWO_ACTIVATIONS = "multiplies two activations"


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A variable (or its partitions) that a layer multiplies with.

    name: the variable's name, without partition suffix.
    parts: the names of the variables it is stored in, in order.
    part_shapes: their shapes.
    axis: the axis that the parts are joined on; 0 for a single part.
    view: steps from the joined variable to the matrix [rows, columns] whose columns
      are the layer's output channels and whose rows are the taps of one of them:
      ("reshape", shape) or ("transpose", permutation).
    matrix_shape: (rows, columns).
    """

    name: str
    parts: Tuple[str, ...]
    part_shapes: Tuple[Tuple[int, ...], ...]
    axis: int
    view: Tuple[Tuple[str, Tuple[int, ...]], ...]
    matrix_shape: Tuple[int, int]

    @property
    def shape(self):
        shape = list(self.part_shapes[0])
        shape[self.axis] = sum(part[self.axis] for part in self.part_shapes)
        return tuple(shape)

    @property
    def size(self):
        return int(np.prod(self.shape, dtype=np.int64))


@dataclasses.dataclass(frozen=True)
class Layer:
    """One op of LAYER_OPS. Without a kernel, `reason` says why there is none.

    index: which of the op's inputs the kernel is.
    """

    op: str
    op_type: str
    kernel: Optional[Kernel]
    reason: str = ""
    index: Optional[int] = None


class _Untraceable(Exception):
    """The operand does not come from a variable; the message is the reason."""

    @property
    def reason(self):
        return self.args[0]


class _Computed(_Untraceable):
    """An op that is no move computes it."""

    @property
    def reason(self):
        reason, op = self.args
        # Ops that draw random numbers have a seed.
        if any("seed2" in source.node_def.attr for source in ancestors(op.inputs)):
            return (
                f"its kernel is changed by dropout or noise, {op.type} {op.name!r}, "
                "before the layer reads it"
            )
        return reason


def find_layers(graph, skip=frozenset()):
    """Every layer op of a graph, in the order of creation.

    Args:
      graph: a tf.Graph.
      skip: ops to leave out (the backward pass of a finished training graph).
    """
    fed = fed_ops(graph)
    layers = []
    for op in graph.get_operations():
        if op in skip:
            continue
        if op.type in LAYER_OPS:
            layers.append(_layer(op, fed))
    return layers + _function_layers(graph)


def _layer(op, fed):
    reasons = []
    for index in LAYER_OPS[op.type]:
        try:
            kernel = _trace_kernel(op, index)
        except _Untraceable as error:
            reasons.append((op.inputs[index].op, error))
        else:
            return Layer(op.name, op.type, kernel, index=index)
    if all(source in fed for source, _ in reasons) and len(reasons) > 1:
        return Layer(op.name, op.type, None, TWO_ACTIVATIONS)
    # The operand that no input reaches is the one that would be the kernel.
    error = next((e for source, e in reasons if source not in fed), reasons[0][1])
    return Layer(op.name, op.type, None, error.reason)


def fed_ops(graph):
    """Ops that depend on the data that the model works on."""
    ops = graph.get_operations()
    stack = [op for op in ops if op.type.startswith(FEEDS)]
    # Scalars are switches and rates.
    if all(tensor.shape.rank == 0 for op in stack for tensor in op.outputs):
        stack.extend(_constant_data(ops))
    seen = set()
    while stack:
        op = stack.pop()
        if op not in seen:
            seen.add(op)
            for tensor in op.outputs:
                stack.extend(
                    reader
                    for reader in tensor.consumers()
                    # What a conditional decides by is not in what it hands on: a
                    # kernel inside stays a kernel.
                    if reader.type not in SWITCHES or tensor is reader.inputs[0]
                )
    return seen


def _constant_data(ops):
    """What layers read that depends on no variable, in a graph that holds its data."""
    learned = descendants(op for op in ops if op.type in VARIABLE_OPS)
    return {
        tensor.op
        for op in ops
        if op.type in LAYER_OPS
        for tensor in op.inputs
        if tensor.dtype.is_floating and tensor.op not in learned
    }


def _function_layers(graph):
    """Layers inside function bodies: nothing reaches them, so they are only listed."""
    layers = []
    for function in graph.as_graph_def().library.function:
        for node in function.node_def:
            if node.op in LAYER_OPS:
                layers.append(
                    Layer(
                        f"{function.signature.name}/{node.name}",
                        node.op,
                        None,
                        "is inside a function body (tf.function, Defun or control flow "
                        "v2); build it in the graph itself",
                    )
                )
    return layers


def _trace_kernel(op, index):
    sources, axis, steps = _trace(op.inputs[index])
    names, shapes = zip(*sources)
    shape = list(shapes[0])
    shape[axis] = sum(part[axis] for part in shapes)
    steps = steps + _matrix_steps(op, index, op.inputs[index].shape.as_list())
    view, final = simplify(tuple(shape), steps)
    # A partitioner that decides for a single part names it so, too.
    name = re.sub(r"/part_\d+$", "", names[0])
    return Kernel(name, names, shapes, axis, view, final)


def _trace(tensor):
    """From an op's operand back to its variable.

    Returns:
      ([(variable name, shape)], axis that joins them, steps on the way forward).
    """
    tensor = original_of(tensor)
    op = tensor.op
    if op.type in VARIABLE_OPS:
        return [(variable_name(op), _variable_shape(op))], 0, ()
    if op.type in _PASS_THROUGH:
        return _trace(op.inputs[0])
    if op.type in RESHAPES:
        sources, axis, steps = _trace(op.inputs[0])
        return sources, axis, steps + (("reshape", _static_shape(tensor)),)
    if op.type == "Transpose":
        sources, axis, steps = _trace(op.inputs[0])
        permutation = _constant(op.inputs[1])
        return sources, axis, steps + (("transpose", permutation),)
    if op.type == "ConcatV2":
        return _trace_partitions(op)
    raise _Computed(f"{COMPUTED} {op.type} {op.name!r}", op)


def _trace_partitions(op):
    """A partitioned variable is read as the concatenation of its parts."""
    (axis,) = _constant(op.inputs[-1])
    sources = []
    for part in list(op.inputs)[:-1]:
        found, _, steps = _trace(part)
        if steps or len(found) > 1 or "/part_" not in found[0][0]:
            raise _Untraceable(f"its kernel is joined by ConcatV2 {op.name!r}")
        sources.extend(found)
    return sources, axis % len(sources[0][1]), ()


def _variable_shape(op):
    shape = tf.TensorShape(op.get_attr("shape"))
    if not shape.is_fully_defined():
        raise _Untraceable(f"its kernel {op.name!r} has an unknown shape {shape}")
    dtype = tf.as_dtype(op.get_attr("dtype"))
    if not dtype.is_floating:
        raise _Untraceable(f"its kernel {op.name!r} holds {dtype.name}, not floats")
    return tuple(shape.as_list())


def _static_shape(tensor):
    if not tensor.shape.is_fully_defined():
        raise _Untraceable(f"its kernel is reshaped to unknown size by {tensor.name!r}")
    return tuple(tensor.shape.as_list())


def _constant(tensor):
    value = tf.get_static_value(tensor)
    if value is None:
        raise _Untraceable(f"its kernel is moved by {tensor.name!r}, not a constant")
    return tuple(int(v) for v in np.reshape(value, -1))


def output_axes(op, index):
    """Which axes of a layer's kernel, its op's input `index`, are its output channels.

    y = x W has the matrix as [in, out]; in y = W x it is the other way round.
    """
    if op.type in OUTPUT_AXES:
        return OUTPUT_AXES[op.type]
    batched = op.type.startswith("BatchMatMul")
    flags = ("adj_x", "adj_y") if batched else ("transpose_a", "transpose_b")
    swapped = op.get_attr(flags[index]) != (index == 0)
    return (op.inputs[index].shape.rank - (2 if swapped else 1),)


def matrix_view(op, index):
    """Steps from a layer's kernel, its op's input `index`, to [taps, channels]."""
    shape = op.inputs[index].shape.as_list()
    return simplify(tuple(shape), _matrix_steps(op, index, shape))[0]


def _matrix_steps(op, index, shape):
    """Steps from the operand to the matrix [taps, output channels]."""
    last = output_axes(op, index)
    order = tuple(axis for axis in range(len(shape)) if axis not in last) + last
    columns = int(np.prod([shape[axis] for axis in last]))
    return (("transpose", order), ("reshape", (-1, columns)))
