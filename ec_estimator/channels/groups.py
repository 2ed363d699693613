"""Channel groups: what has to be removed together, found in a tf.Graph.

Every axis of every tensor carries a vector of labels or None. Labels are born on the
axes of variables, so a kernel's output channels are the positions of its output axis;
the rules in `rules` move them through the graph. A group is a set of united
labels: the positions of variable axes that go together.

Example, two dense layers [4, 8] and [8, 3]: the eight positions of the first kernel's
axis 1, of its bias, and of the second kernel's axis 0 form eight groups of three. The
four input positions and the three predictions are frozen.
"""
import dataclasses
from typing import Dict, NamedTuple, Tuple

import numpy as np

from ec_estimator.channels.flow import Flow
from ec_estimator.core import tf_private
from ec_estimator.graph.layers import fed_ops
from ec_estimator.graph.op_types import LAYER_OPS
from ec_estimator.graph.walk import ancestors


class Reading(NamedTuple):
    """A layer op that reads channels: its kernel is input `index`, whose `axis` has
    the input channels; groups: [size of that axis] the group of each."""

    op: str
    index: int
    axis: int
    groups: np.ndarray


@dataclasses.dataclass(frozen=True)
class Channels:
    """The groups of a graph.

    axes: {variable name: for each axis a vector with the group of each position, or
      None for an axis without labels}. Groups are numbered from 0.
    producers: {variable name: axes that hold its layers' output channels}.
    readers: {variable name: axes that hold its layers' input channels}; two for a
      kernel that is used both ways round, as in a tied autoencoder. Zeros
      there take a channel away.
    frozen: {group: why it can't be removed}.
    shapes: {variable name: its shape}.
    readings: where layers read channels, one for each layer op.
    """

    axes: Dict[str, Tuple]
    producers: Dict[str, Tuple[int, ...]]
    readers: Dict[str, Tuple[int, ...]]
    frozen: Dict[int, str]
    shapes: Dict[str, Tuple[int, ...]]
    readings: Tuple[Reading, ...]

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


def find_channels(graph, outputs, losses=()):
    """Groups the channels of what the outputs are computed from.

    Args:
      graph: a tf.Graph.
      outputs: the tensors that the model predicts; their channels are frozen.
      losses: tensors to start from as well; they freeze nothing by themselves.

    Returns:
      Channels.
    """
    flow = Flow(graph)
    ops = ancestors([*outputs, *losses])
    if losses:
        layers = [tensor for op in ops if op.type in LAYER_OPS for tensor in op.inputs]
        flow.regularizers = ops - fed_ops(graph) - ancestors([*outputs, *layers])
    for op in in_order(ops):
        flow.visit(op)
    for tensor in outputs:
        for vector in flow.axes(tensor):
            if vector is not None:
                flow.labels.freeze(vector, "the model predicts it")
    return _channels(flow)


def _channels(flow):
    """Finds the groups, once all labels are united that must be."""
    roots = flow.labels.roots()
    numbers, groups = np.unique(roots, return_inverse=True)
    reasons = flow.labels.frozen_reasons(roots)
    number = dict(zip(numbers.tolist(), range(len(numbers))))
    return Channels(
        axes={
            name: tuple(None if v is None else groups[v] for v in axes)
            for name, axes in flow.born.items()
        },
        producers=flow.producers,
        readers=flow.readers,
        frozen={number[root]: reason for root, reason in reasons.items()},
        shapes=flow.shapes,
        readings=tuple(
            Reading(op, index, axis, groups[vector])
            for op, index, axis, vector in flow.readings
        ),
    )


def in_order(ops):
    """Producers before consumers, whatever order they were created in.

    In a conditional of TensorFlow 1 the Switch is made after the op that it feeds. The
    way back of a loop is left away: it would be a cycle.
    """
    ordered, left = [], set(ops)
    for start in sorted(ops, key=tf_private.order_of_creation):
        stack = [(start, False)]
        while stack:
            op, done = stack.pop()
            if done:
                ordered.append(op)
            elif op in left:
                left.remove(op)
                stack.append((op, True))
                stack.extend(
                    (t.op, False)
                    for t in op.inputs
                    if t.op in left and t.op.type != "NextIteration"
                )
    return ordered
