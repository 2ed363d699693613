"""Channel groups: what has to be removed together, found in a tf.Graph.

Every axis of every tensor carries a vector of labels or None. Labels are born on the
axes of variables, so a kernel's output channels are the positions of its output axis;
the rules in channel_rules move them through the graph. A group is a set of united
labels: the positions of variable axes that go together.

Example, two dense layers [4, 8] and [8, 3]: the eight positions of the first kernel's
axis 1, of its bias, and of the second kernel's axis 0 form eight groups of three. The
four input positions and the three predictions are frozen.
"""
import bisect
import dataclasses
from typing import Dict, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.graph.channel_rules import RULES
from ec_estimator.graph.labels import Labels
from ec_estimator.graph.layers import VARIABLE_OPS, fed_ops
from ec_estimator.graph.values import Values
from ec_estimator.graph.walk import ancestors

# Constants of one value, and what is drawn entry by entry, fit any channels.
_FITS_ANYTHING = ("Fill", "RandomUniform", "RandomStandardNormal", "TruncatedNormal")
_LOOKUPS = ("Gather", "GatherV2", "ResourceGather")


@dataclasses.dataclass(frozen=True)
class Channels:
    """The groups of a graph.

    axes: {variable name: for each axis a vector with the group of each position, or
      None for an axis without labels}. Groups are numbered from 0.
    producers: {variable name: axes that hold its layers' output channels}.
    readers: {variable name: axes that hold its layers' input channels}; two for a
      kernel that is used both ways round, as in a tied autoencoder.
    frozen: {group: why it can't be removed}.
    """

    axes: Dict[str, Tuple]
    producers: Dict[str, Tuple[int, ...]]
    readers: Dict[str, Tuple[int, ...]]
    frozen: Dict[int, str]

    def of(self, variable, axis):
        """The groups of an axis's positions."""
        return self.axes[variable][axis]

    def prunable(self):
        """Sorted groups that have a producer and a reader and are not frozen."""
        made = self._groups(self.producers)
        read = self._groups(self.readers)
        groups = np.intersect1d(made, read)
        return groups[~np.isin(groups, list(self.frozen))]

    def _groups(self, role):
        vectors = [self.axes[name][a] for name, axes in role.items() for a in axes]
        return np.unique(np.concatenate(vectors)) if vectors else np.array([], int)


def find_channels(graph, outputs):
    """Groups the channels of what the outputs are computed from.

    Args:
      graph: a tf.Graph.
      outputs: the tensors that the model predicts; their channels are frozen.

    Returns:
      Channels.
    """
    flow = _Flow(graph)
    for op in _in_order(ancestors(outputs)):
        flow.visit(op)
    for tensor in outputs:
        for vector in flow.axes(tensor):
            if vector is not None:
                flow.labels.freeze(vector, "the model predicts it")
    return flow.channels()


class _Flow:
    """Labels on their way through a graph; what the rules work with."""

    def __init__(self, graph):
        self.labels = Labels()
        self.values = Values(self._axes_or_none)
        self._fed = fed_ops(graph)
        self._axes = {}
        self._born = {}
        # Where the labels of each variable's axis start; labels are given in order.
        self._starts, self._births = [], []
        self._producers = {}
        self._readers = {}

    def visit(self, op):
        if op.type in VARIABLE_OPS:
            self._give_birth(op)
        elif op.type in ("Enter", "RefEnter", "NextIteration"):
            # What goes round in a loop is named by its shape there.
            self.freeze_all(op)
        elif op.type in RULES and all(t.shape.rank is not None for t in self._data(op)):
            RULES[op.type](self, op)
        else:
            self.freeze_all(op)

    def _data(self, op):
        return [t for t in op.inputs if t.dtype.is_floating]

    def _give_birth(self, op):
        shape = tf.TensorShape(op.get_attr("shape"))
        dtype = tf.as_dtype(op.get_attr("dtype"))
        if not dtype.is_floating or not shape.is_fully_defined():
            return
        table = any(r.type in _LOOKUPS for r in _value_readers(op))
        axes = []
        for axis, size in enumerate(shape.as_list()):
            # A vocabulary has no channels, and may be huge.
            vector = None if table and axis == 0 else self.labels.new(size)
            if vector is not None and size:
                self._starts.append(vector[0])
                self._births.append((op.name, axis))
            axes.append(vector)
        self._born[op.name] = axes
        self._axes[op.outputs[0].name] = axes

    def axes(self, tensor):
        """A label vector or None for each axis of a tensor; a list of your own."""
        return list(self._axes_or_none(tensor) or [None] * (tensor.shape.rank or 0))

    def _axes_or_none(self, tensor):
        return self._axes.get(tensor.name)

    def put(self, tensor, axes):
        """Gives an op's output its labels."""
        if any(vector is not None for vector in axes):
            self._axes[tensor.name] = list(axes)

    def freeze(self, vector, op):
        if vector is not None:
            self.labels.freeze(vector, f"{op.type} {op.name!r}")

    def freeze_all(self, op):
        for tensor in op.inputs:
            for vector in self.axes(tensor):
                self.freeze(vector, op)

    def channel_axis(self, op):
        """The axis of a layer's channels: last, or second where the op says NC..."""
        if op.get_attr("data_format").startswith(b"NC"):
            return 1
        return -1

    def unite(self, a, b, op, b_tensor=None):
        """Unites two vectors and returns what stands for both.

        A vector that meets an unlabelled axis is frozen, unless that is a constant that
        fits anything.
        """
        if a is None and b is None:
            return None
        if a is None or b is None:
            vector = b if a is None else a
            if not (b is None and b_tensor is not None and _fits_anything(b_tensor)):
                self.freeze(vector, op)
            return vector
        if len(a) != len(b):
            self.freeze(a, op)
            self.freeze(b, op)
            return a
        self.labels.unite(a, b)
        return a

    def contract(self, op, a, b):
        """Sums over an axis of two inputs, one of which has to be a kernel.

        Args:
          a, b: (labels of the axis, index of the input).
        """
        vectors = [a[0], b[0]]
        weights = [op.inputs[i].op not in self._fed for _, i in (a, b)]
        if weights[0] == weights[1]:
            # Two activations: there is no kernel that could stop reading a channel.
            for vector in vectors:
                self.freeze(vector, op)
            return
        kernel = vectors[weights.index(True)]
        self.unite(*vectors, op)
        self._note(self._readers, kernel)

    def produce(self, vector, tensor):
        """The output channels of a layer are an axis of its kernel `tensor`."""
        if tensor.op not in self._fed:
            self._note(self._producers, vector)

    def _note(self, role, vector):
        if vector is not None and len(vector):
            name, axis = self._births[bisect.bisect(self._starts, vector[0]) - 1]
            role[name] = tuple(sorted({*role.get(name, ()), axis}))

    def broadcast(self, op, tensors):
        """Unites inputs of one shape, or broadcast to one; returns the axes of that."""
        rank = max(tensor.shape.rank for tensor in tensors)
        joined, sizes = [None] * rank, [1] * rank
        for position, tensor in enumerate(tensors):
            axes, shape = self.axes(tensor), tensor.shape.as_list()
            for back in range(1, len(shape) + 1):
                size, vector = shape[-back], axes[-back]
                if size == 1 and sizes[-back] == 1:
                    joined[-back] = self.unite(joined[-back], vector, op)
                elif size == 1:
                    # One value for all channels, as in spatial attention.
                    self.freeze(vector, op)
                elif sizes[-back] == 1:
                    self.freeze(joined[-back], op)
                    joined[-back], sizes[-back] = vector, size
                else:
                    joined[-back] = self._meet(
                        op, joined[-back], vector, tensor, tensors[:position]
                    )
        return joined

    def _meet(self, op, joined, vector, tensor, earlier):
        """Two inputs with the same size on an axis."""
        if joined is None and all(map(_fits_anything, earlier)):
            return vector
        return self.unite(joined, vector, op, tensor)

    def join(self, parts, op):
        """[(vector or None, size)] in a row; a part without labels is frozen."""
        if all(vector is None for vector, _ in parts):
            return None
        vectors = []
        for vector, size in parts:
            if vector is None:
                vector = self.labels.new(size)
                self.freeze(vector, op)
            vectors.append(vector)
        return np.concatenate(vectors)

    def merge(self, parts, op):
        """[(vector or None, size)] of neighbouring axes that become one axis."""
        labelled = [
            index for index, (vector, _) in enumerate(parts) if vector is not None
        ]
        if len(labelled) != 1:
            for index in labelled:
                self.freeze(parts[index][0], op)
            return None
        outer = int(np.prod([size for _, size in parts[: labelled[0]]], dtype=np.int64))
        inner = int(np.prod([n for _, n in parts[labelled[0] + 1 :]], dtype=np.int64))
        return np.tile(np.repeat(parts[labelled[0]][0], inner), outer)

    def sizes(self, tensor):
        return tensor.shape.as_list()

    def target_sizes(self, op):
        """Sizes a Reshape gives, as far as its operand or shape inference tells."""
        sizes = op.outputs[0].shape.as_list()
        wanted = self.values.of(op.inputs[1]) or []
        if len(wanted) == len(sizes):
            values = [element.value for element in wanted]
            sizes = [n if n is not None else v for n, v in zip(sizes, values)]
        return [None if size == -1 else size for size in sizes]

    def channels(self):
        """Finds the groups."""
        roots = self.labels.roots()
        numbers, groups = np.unique(roots, return_inverse=True)
        reasons = self.labels.frozen_reasons(roots)
        return Channels(
            axes={
                name: tuple(None if v is None else groups[v] for v in axes)
                for name, axes in self._born.items()
            },
            producers=self._producers,
            readers=self._readers,
            frozen={
                int(np.searchsorted(numbers, root)): why
                for root, why in reasons.items()
            },
        )


def _value_readers(op):
    """Ops that read a variable's value."""
    for tensor in op.outputs:
        for reader in tensor.consumers():
            if reader.type in ("Identity", "ReadVariableOp"):
                yield from reader.outputs[0].consumers()
            else:
                yield reader


def _fits_anything(tensor):
    """Whether all entries are alike, or drawn alike, so that any may be left out."""
    op = tensor.op
    if op.type in _FITS_ANYTHING or tensor.shape.num_elements() == 1:
        return True
    if op.type == "Const":
        value = tf.make_ndarray(op.get_attr("value"))
        return value.size > 0 and bool(np.all(value == value.flat[0]))
    return False


def _in_order(ops):
    """Producers before consumers, whatever order they were created in.

    In a conditional of TensorFlow 1 the Switch is made after the op that it feeds. The
    way back of a loop is left away: it would be a cycle.
    """
    ordered, seen = [], set()
    for start in sorted(ops, key=lambda op: op._id):
        stack = [(start, False)]
        while stack:
            op, done = stack.pop()
            if done:
                ordered.append(op)
            elif op not in seen:
                seen.add(op)
                stack.append((op, True))
                stack.extend(
                    (t.op, False)
                    for t in op.inputs
                    if t.op not in seen and t.op.type != "NextIteration"
                )
    return ordered
