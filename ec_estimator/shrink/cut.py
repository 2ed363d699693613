"""What a cut of variables does to every tensor and shape operand of a graph."""
import numpy as np

from ec_estimator.channels.flow import Flow
from ec_estimator.channels.groups import in_order
from ec_estimator.channels.rules import ALIGNED, CHANNEL_PARAMETERS, SIZE_OPERAND
from ec_estimator.core.replicas import variables_of
from ec_estimator.graph.variables import checkpoint_name, initializers, slice_info
from ec_estimator.graph.walk import origin


class Cut:
    """Which positions of each tensor's axes are left once variables are cut.

    Args:
      graph: tf.Graph of the whole model's forward pass.
      kept: {checkpoint name of a variable: for each axis the kept positions, or None
        for all}.
      fixed: checkpoint names of the variables that are cut just so. Others, which only
        train or predict nothing, are cut further where they are tied to these.

    Example: a kernel [3, 3, 16, 32] that keeps 20 of its output channels leaves its
    convolution's output with 20 of 32 channels, and so the batch norm after it, the
    gate of a squeeze-and-excite block and the operand of a flattening Reshape.
    """

    def __init__(self, graph, kept, fixed):
        self._flow = Flow(graph)
        ops = graph.get_operations()
        self._operations = {op.name: op for op in ops}
        # A first value that is another variable's binds nothing.
        first = initializers(graph)
        for op in in_order(set(ops) - first):
            self._flow.visit(op)
        roots = self._flow.labels.roots()
        known, own = np.zeros(len(roots), bool), np.ones(len(roots), bool)
        # A partition is split otherwise when the whole is smaller.
        self._parts = set()
        for variable in variables_of(graph):
            born = self._flow.born.get(variable.op.name)
            if born is None:
                continue
            if slice_info(variable):
                self._parts.add(variable.op.name)
            is_fixed = checkpoint_name(variable) in fixed
            for vector, gone in zip(born, _removed(variable, kept)):
                if vector is not None and (is_fixed or gone is not None):
                    known[vector] = True
                    own[vector] = True if gone is None else ~gone
        # What is not known goes with what it is tied to, if that is of one mind.
        dies, lives = np.zeros(len(roots), bool), np.zeros(len(roots), bool)
        dies[roots[known & ~own]] = True
        lives[roots[known & own]] = True
        self._alive = np.where(known, own, (~dies | lives)[roots])

    def variables(self):
        """{variable name: `axes` of it}, without parts of partitioned ones.

        They go beyond `kept`: a layer that predicts nothing, and so was not planned,
        reads fewer channels all the same.
        """
        return {
            name: [self._kept(vector) for vector in axes]
            for name, axes in self._flow.born.items()
            if name not in self._parts
        }

    def operation(self, name):
        """The op of the whole graph with a name, or None."""
        return self._operations.get(name)

    def axes(self, tensor):
        """For each axis a bool vector of the kept positions; None: all are kept."""
        return [self._kept(vector) for vector in self._flow.axes(tensor)]

    def _kept(self, vector):
        alive = None if vector is None else self._alive[vector]
        return None if alive is None or alive.all() else alive

    def sizes(self, tensor):
        """The size of each axis after the cut, None where it is unknown; None for a
        tensor of unknown rank."""
        if tensor.shape.rank is None:
            return None
        return [
            size if alive is None else np.count_nonzero(alive)
            for size, alive in zip(tensor.shape.as_list(), self.axes(tensor))
        ]

    def splits_otherwise(self, op):
        """Whether an op is, or reads, a part of a partitioned variable: a smaller whole
        is split at other places."""
        return any(origin(output).name in self._parts for output in op.outputs)

    def fitted_axes(self, op, index):
        """What an input without channels has to keep to fit what it is combined with.

        Such as a constant that is added to channels: as `axes`.
        """
        tensor = op.inputs[index]
        if op.type in ALIGNED:
            whole = self._flow.axes(op.outputs[0])
        elif index in CHANNEL_PARAMETERS.get(op.type, ()):
            whole = [self._flow.axes(op.outputs[0])[self._flow.channel_axis(op)]]
        else:
            return []
        own, fitted = self._flow.axes(tensor), []
        for back in range(min(len(own), len(whole)), 0, -1):
            vector, size = whole[-back], tensor.shape.as_list()[-back]
            fits = own[-back] is None and vector is not None and len(vector) == size
            fitted.append(self._kept(vector) if fits else None)
        return [None] * (len(own) - len(fitted)) + fitted

    def operand_sizes(self, op, index):
        """{position in a shape operand: the size after the cut}, where they differ."""
        if SIZE_OPERAND.get(op.type) != index:
            return {}
        if op.type == "SplitV":
            axis = self._flow.values.const(op.inputs[2])
            outputs = op.outputs if axis else ()
            sizes = [self.axes(output)[axis[0]] for output in outputs]
        else:
            sizes = self.axes(op.outputs[0])
        return {
            position: np.count_nonzero(alive)
            for position, alive in enumerate(sizes)
            if alive is not None
        }


def _removed(variable, kept):
    """For each axis of a variable, or part of one, a bool vector of what goes."""
    axes = kept.get(checkpoint_name(variable))
    shape, info = variable.shape.as_list(), slice_info(variable)
    offsets = info.var_offset if info else [0] * len(shape)
    full_shape = info.full_shape if info else shape
    for axis, (size, start, full) in enumerate(zip(shape, offsets, full_shape)):
        if axes is None or axes[axis] is None:
            yield None
        else:
            gone = np.ones(full, bool)
            gone[list(axes[axis])] = False
            yield gone[start : start + size]
