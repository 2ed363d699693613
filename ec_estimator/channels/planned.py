"""The channels of a training graph, in the group numbers of a plan.

A plan is made from the graph that predicts. The training graph may have more variables
that hold or read those channels: auxiliary heads, a teacher, moving statistics and
averages. What it ties together does not change the plan, and ops that are unknown there
freeze nothing.
"""
from typing import Dict, NamedTuple, Tuple

from ec_estimator.channels.flow import Flow
from ec_estimator.channels.groups import Reading, in_order
from ec_estimator.core.replicas import variable_name
from ec_estimator.graph.op_types import ASSIGNMENTS
from ec_estimator.graph.variables import initializers
from ec_estimator.graph.walk import ancestors, descendants, origin


class Planned(NamedTuple):
    """As channels.groups.Channels, but a position has the number of its group in the
    plan, or -1 if it belongs to none of them, or to several. What the plan knows is as
    it says; readings are those that the losses depend on."""

    axes: Dict[str, Tuple]
    readers: Dict[str, Tuple[int, ...]]
    readings: Tuple[Reading, ...]


def planned_channels(graph, losses, plan, backward=frozenset()):
    """Finds a plan's channels in a training graph.

    Args:
      graph: a tf.Graph with the losses and all that writes its variables.
      losses: the tensors whose gradients are taken.
      plan: channels.groups.Channels, of another graph or of this one.
      backward: the ops that compute gradients. They, and what is computed from them,
        are part of no model.

    Returns:
      Planned.
    """
    flow = Flow(graph)
    in_loss, later = ancestors(losses), descendants(backward)
    forward = {op for op in graph.get_operations() if op not in later}
    writes = {op for op in forward if op.type in ASSIGNMENTS}
    for op in in_order((forward | in_loss) - writes):
        flow.visit(op)
    for op in writes - initializers(graph):
        _unite_written(flow, op)
    numbers = flow.labels.spread(
        (mine, number)
        for name, axes in plan.axes.items()
        for mine, number in zip(flow.born.get(name, ()), axes)
        if mine is not None and number is not None
    )
    axes = {
        name: tuple(None if vector is None else numbers[vector] for vector in vectors)
        for name, vectors in flow.born.items()
    }
    axes.update(plan.axes)
    readers = _readers(plan, flow, axes)
    in_loss = {op.name for op in in_loss}
    readings = tuple(
        Reading(op, index, axis, numbers[vector])
        for op, index, axis, vector in flow.readings
        if op in in_loss
    )
    return Planned(axes, readers, readings)


def _readers(plan, flow, axes):
    """{variable: its axes that read channels of the plan}, in either graph."""
    return {
        name: tuple(
            axis
            for axis in sorted(
                {*plan.readers.get(name, ()), *flow.readers.get(name, ())}
            )
            if axes[name][axis] is not None
        )
        for name in {*plan.readers, *flow.readers}
    }


def _unite_written(flow, op):
    """An assignment binds a variable to what it writes, such as the moving mean of a
    batch norm to the channels it is the mean of."""
    target, update = origin(op.inputs[0]), op.inputs[ASSIGNMENTS[op.type]]
    for vector, written in zip(
        flow.born.get(variable_name(target), ()), flow.axes(update)
    ):
        if vector is not None and written is not None and len(vector) == len(written):
            flow.labels.unite(vector, written)
