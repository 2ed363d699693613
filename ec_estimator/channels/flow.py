"""Channel labels on their way through a graph: what the rules work with."""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.channels.births import Births
from ec_estimator.channels.labels import Labels
from ec_estimator.channels.operands import Fillers, is_zero_with
from ec_estimator.channels.rules import RULES, SHAPE_OPERAND
from ec_estimator.channels.values import Values
from ec_estimator.core.replicas import variable_name
from ec_estimator.graph.imported import imported_ops
from ec_estimator.graph.layers import fed_ops
from ec_estimator.graph.op_types import VARIABLE_OPS
from ec_estimator.graph.walk import is_looked_up


class Flow:
    """The labels of all tensors visited so far.

    Rules move them with `axes` and `put`, tie them with `unite` and `broadcast`, and
    end them with `freeze`, `keep` and `freeze_all`; docs/channel-rules.md says how.

    born: {variable name: a label vector or None for each axis}.
    shapes, producers, readers: as in groups.Channels.
    readings: [(op name, index of its kernel, axis that it sums over, its labels)].
    """

    def __init__(self, graph):
        self.labels = Labels()
        self.values = Values(self._axes_or_none)
        self.born = {}
        self.shapes = {}
        self.producers = {}
        self.readers = {}
        self.readings = []
        # Ops on weights that lead to the loss and to no layer: they freeze nothing.
        self.regularizers = frozenset()
        self._fed = fed_ops(graph)
        self._imported = imported_ops(graph)
        self._axes = {}
        self._births = Births()
        self._fillers = Fillers()

    def visit(self, op):
        """Moves labels through an op; what it reads must have been visited before."""
        if op.type in VARIABLE_OPS:
            self._give_birth(op)
        elif op.type in SHAPE_OPERAND or any(t.name in self._axes for t in op.inputs):
            if op.type in RULES and all(t.shape.rank is not None for t in op.inputs):
                RULES[op.type](self, op)
            else:
                self.freeze_all(op)
        self._freeze_lost_sizes(op)
        if op in self._imported:
            self._freeze_imported(op)

    def _freeze_imported(self, op):
        """An import builds its ops and variables with the sizes of the file."""
        for tensor in (*op.inputs, *op.outputs):
            for vector in self.axes(tensor):
                if vector is not None:
                    self.labels.freeze(
                        vector,
                        f"{op.type} {op.name!r} is imported (import_meta_graph, "
                        "hub.Module) with the sizes of its file",
                    )

    def _freeze_lost_sizes(self, op):
        """A size that is used as a number, such as in 1 / sqrt(channels), or computed
        with in ways that aren't followed, would change with the cut."""
        for index, tensor in enumerate(op.inputs):
            if index != SHAPE_OPERAND.get(op.type):
                sizes = self.values.sizes_in(tensor)
                if sizes and not self.values.follow(op, index):
                    for vector in sizes:
                        self.freeze(vector, op)

    def _give_birth(self, op):
        shape = tf.TensorShape(op.get_attr("shape"))
        dtype = tf.as_dtype(op.get_attr("dtype"))
        if not dtype.is_floating or not shape.is_fully_defined():
            return
        name = variable_name(op)
        if name in self.born:
            # Another replica's copy.
            self.put(op.outputs[0], self.born[name])
            return
        table = is_looked_up(op)
        axes = []
        for axis, size in enumerate(shape.as_list()):
            # A vocabulary has no channels, and may be huge.
            vocabulary = table and axis == 0
            axes.append(None if vocabulary else self.new(size, (name, axis)))
        self.born[name] = axes
        self.shapes[name] = tuple(shape.as_list())
        self.put(op.outputs[0], axes)

    def new(self, size, birth=None):
        """Labels that no tensor has yet; birth: the (variable name, axis) of them."""
        vector = self.labels.new(size)
        self._births.add(vector, birth)
        return vector

    def axes(self, tensor):
        """A label vector or None for each axis of a tensor; a list of your own."""
        return list(self._axes_or_none(tensor) or [None] * (tensor.shape.rank or 0))

    def _axes_or_none(self, tensor):
        return self._axes.get(tensor.name)

    def sizes(self, tensor):
        """The size of each axis, or None; no sizes at all if the rank is unknown."""
        if tensor.shape.rank is None:
            return []
        sizes, axes = tensor.shape.as_list(), self.axes(tensor)
        return [n if v is None else len(v) for n, v in zip(sizes, axes)]

    def put(self, tensor, axes):
        """Gives an op's output its labels."""
        if any(vector is not None for vector in axes):
            self._axes[tensor.name] = list(axes)

    def only(self, axis, vector, rank):
        """Axes of which one has labels."""
        axes = [None] * rank
        axes[axis] = vector
        return axes

    def freeze(self, vector, op):
        """These channels can't be removed, because of this op; None: there are none."""
        if vector is not None and op not in self.regularizers:
            self.labels.freeze(vector, f"{op.type} {op.name!r}")

    def freeze_all(self, op):
        """Freezes what an op reads, sizes included."""
        for tensor in op.inputs:
            for vector in self.axes(tensor) + self.values.sizes_in(tensor):
                self.freeze(vector, op)

    def keep(self, op, axes, kept):
        """The axes without the labels of those that aren't kept; they are frozen."""
        kept = {axis % len(axes) for axis in kept}
        for axis, vector in enumerate(axes):
            if axis not in kept:
                self.freeze(vector, op)
        return [vector if axis in kept else None for axis, vector in enumerate(axes)]

    def channel_axis(self, op):
        """The axis of a layer's channels: last, or second where the op says NC..."""
        if "data_format" in op.node_def.attr:
            if op.get_attr("data_format").startswith(b"NC"):
                return 1
        return -1

    def unite(self, a, b, op, b_tensor=None):
        """Unites two vectors and returns what stands for both.

        A vector that meets an unlabelled axis is frozen, unless that is a constant that
        fits anything.
        """
        if a is None or b is None:
            vector = b if a is None else a
            if not (b is None and b_tensor is not None and self._fillers.fit(b_tensor)):
                self.freeze(vector, op)
            return vector
        if len(a) != len(b):
            self.freeze(a, op)
            self.freeze(b, op)
            return a
        if a is not b:
            self.labels.unite(a, b)
            if op not in self._fed:
                self._births.pair(a, b)
        return a

    def contract(self, op, *sides):
        """Sums over an axis of two inputs, one of which has to be a kernel.

        Args:
          sides: (index of the input, axis) of the two.
        """
        vectors = [self.axes(op.inputs[index])[axis] for index, axis in sides]
        kernels = [op.inputs[index].op not in self._fed for index, _ in sides]
        if kernels[0] == kernels[1]:
            # Two activations: there is no kernel that could stop reading a channel.
            for vector in vectors:
                self.freeze(vector, op)
            return
        self.unite(*vectors, op)
        (index, axis), kernel = sides[kernels.index(True)], vectors[kernels.index(True)]
        if kernel is None:
            return
        read = self._note(self.readers, kernel)
        self.readings.append((op.name, index, axis, kernel))
        if not is_zero_with(op.inputs[index], {name for name, _ in read}):
            # Such as softplus(w): a mask of w would not take the channel away.
            self.freeze(kernel, op)

    def produce(self, vector, tensor):
        """The output channels of a layer are an axis of its kernel `tensor`."""
        if vector is not None and tensor.op not in self._fed:
            self._note(self.producers, vector)

    def _note(self, role, vector):
        found = self._births.kin(vector)
        for name, axis in found:
            role[name] = tuple(sorted({*role.get(name, ()), axis}))
        return found

    def broadcast(self, op, tensors):
        """Unites inputs of one shape, or broadcast to one; returns the axes of that."""
        rank = max(tensor.shape.rank for tensor in tensors)
        return [self._line_up(op, tensors, back) for back in range(rank, 0, -1)]

    def _line_up(self, op, tensors, back):
        """Unites one axis, counted from the back, of tensors that are broadcast."""
        tensors = [tensor for tensor in tensors if tensor.shape.rank >= back]
        wide = [tensor for tensor in tensors if self.sizes(tensor)[-back] != 1]
        for tensor in tensors:
            if wide and tensor not in wide:
                # One value for all channels, as in spatial attention.
                self.freeze(self.axes(tensor)[-back], op)
        vectors = [(self.axes(tensor)[-back], tensor) for tensor in wide or tensors]
        first = next((vector for vector, _ in vectors if vector is not None), None)
        for vector, tensor in vectors:
            if first is not None:
                self.unite(first, vector, op, tensor)
        return first

    def agree(self, op, axes, operand):
        """Unites axes about to be put with those that their sizes are taken from."""
        for axis, element in enumerate(self.values.of(operand) or ()):
            vector, source = axes[axis], element.labels
            if source is None or (vector is not None and np.isin(source, vector).all()):
                continue
            if vector is not None and len(vector) == len(source):
                self.unite(vector, source, op)
            else:
                self.freeze(vector, op)
                self.freeze(source, op)
