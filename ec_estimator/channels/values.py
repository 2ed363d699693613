"""What can be said of integer tensors without running the graph: sizes, mostly.

User code and tensordot compute the operand of a Reshape from Shape ops. Each element of
such a tensor is followed with its value, where it is known, and with the labels of the
axis it measures.
"""
from typing import NamedTuple, Optional

import numpy as np
import tensorflow.compat.v1 as tf


class Element(NamedTuple):
    """value: int, or None if unknown; labels: of the axis whose size it is, or None."""

    value: Optional[int]
    labels: Optional[np.ndarray] = None


UNKNOWN = Element(None)
# Shapes are short; a longer constant is data.
_LONGEST = 64


class Values:
    """Elements of integer tensors, computed on demand and kept.

    Args:
      labels_of: callable(tensor) -> a label vector or None for each axis.
    """

    def __init__(self, labels_of):
        self.labels_of = labels_of
        self._known = {}

    def of(self, tensor):
        """The elements of a scalar or vector in a list, or None if nothing is known."""
        if not tensor.dtype.is_integer or tensor.shape.rank not in (0, 1):
            return None
        key = tensor.op.name, tensor.value_index
        if key not in self._known:
            self._known[key] = None  # Ends the recursion in loops.
            self._known[key] = self._compute(tensor)
        return self._known[key]

    def _compute(self, tensor):
        op = tensor.op
        rule = _RULES.get(op.type)
        return rule(self, op) if rule else None

    def const(self, tensor):
        """A constant operand as a flat list of ints, or None."""
        elements = self.of(tensor)
        if elements is None or any(e.value is None for e in elements):
            return None
        return [element.value for element in elements]

    def sizes_in(self, tensor):
        """The label vectors of the axes whose sizes a tensor holds."""
        return [e.labels for e in self.of(tensor) or () if e.labels is not None]

    def follow(self, op, index):
        """Whether the elements of input `index` are found again in the output."""
        if op.type not in _RULES or self.of(op.outputs[0]) is None:
            return False
        return index == 0 or op.type in ("Mul", "Pack", "ConcatV2")


def _const(values, op):
    array = tf.make_ndarray(op.get_attr("value"))
    if array.size > _LONGEST:
        return None
    return [Element(int(value)) for value in array.reshape(-1)]


def _shape(values, op):
    source = op.inputs[0]
    if source.shape.rank is None:
        return None
    axes = values.labels_of(source) or [None] * source.shape.rank
    sizes = source.shape.as_list()
    return [
        Element(len(a) if n is None and a is not None else n, a)
        for n, a in zip(sizes, axes)
    ]


def _size(values, op):
    elements = _shape(values, op)
    return None if elements is None else [_multiply(elements)]


def _same(values, op):
    return values.of(op.inputs[0])


def _gather(values, op):
    source, indices = values.of(op.inputs[0]), values.const(op.inputs[1])
    if source is None or indices is None:
        return None
    return [source[index] for index in indices]


def _product(values, op):
    elements = values.of(op.inputs[0])
    if elements is None:
        return None
    return [_multiply(elements)]


def _multiply(elements):
    labels = [e.labels for e in elements if e.labels is not None]
    joined = np.concatenate(labels) if labels else None
    if any(e.value is None for e in elements):
        return Element(None, joined)
    return Element(int(np.prod([e.value for e in elements], dtype=np.int64)), joined)


def _binary_product(values, op):
    a, b = values.of(op.inputs[0]), values.of(op.inputs[1])
    if a is None or b is None:
        return None
    length = max(len(a), len(b))
    a, b = (side * length if len(side) == 1 else side for side in (a, b))
    return [_multiply(pair) for pair in zip(a, b)]


def _pack(values, op):
    parts = [values.of(tensor) for tensor in op.inputs]
    return [part[0] if part else UNKNOWN for part in parts]


def _concat(values, op):
    joined = []
    for tensor in list(op.inputs)[:-1]:
        part = values.of(tensor)
        if part is None:
            if tensor.shape.rank != 1 or tensor.shape.as_list() == [None]:
                return None
            part = [UNKNOWN] * tensor.shape.as_list()[0]
        joined.extend(part)
    return joined


def _strided_slice(values, op):
    source = values.of(op.inputs[0])
    begin, end, stride = (values.const(tensor) for tensor in op.inputs[1:4])
    if source is None or None in (begin, end, stride) or len(begin) != 1:
        return None
    if op.get_attr("ellipsis_mask") or op.get_attr("new_axis_mask"):
        return None
    if op.get_attr("shrink_axis_mask") & 1:
        return [source[begin[0]]]
    start = None if op.get_attr("begin_mask") & 1 else begin[0]
    stop = None if op.get_attr("end_mask") & 1 else end[0]
    return source[slice(start, stop, stride[0])]


_RULES = {
    "Const": _const,
    "Shape": _shape,
    "Size": _size,
    "Identity": _same,
    "Cast": _same,
    "Switch": _same,
    "GatherV2": _gather,
    "Prod": _product,
    "Mul": _binary_product,
    "Pack": _pack,
    "ConcatV2": _concat,
    "StridedSlice": _strided_slice,
    "Reshape": _same,
    "Squeeze": _same,
    "ExpandDims": _same,
}
