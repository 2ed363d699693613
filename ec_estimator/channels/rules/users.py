"""Rules that users add, for ops of their own or ops that have none.

A rule is a function of (flow, op). A tensor has for each axis a vector of labels, one
for each position, or None. Vectors are NumPy arrays: take, join and repeat their
entries as the op does its channels; never make up labels. A rule may call

  flow.axes(tensor): a list with the vector or None of each axis; yours to change.
  flow.sizes(tensor): the size of each axis, or None.
  flow.values.const(tensor): a constant of integers as a flat list, or None.
  flow.channel_axis(op): -1, or 1 where the op's data_format is "NC...".
  flow.put(tensor, axes): these are the labels of the op's output `tensor`.
  flow.only(axis, vector, rank): axes of which one has labels, for `put`.
  flow.unite(a, b, op, b_tensor): position i of `a` lives or dies with position i of
    `b`; returns what stands for both. Where one is None the other is frozen, but
    not if `b_tensor`, which `b` is of, is filled with one value.
  flow.broadcast(op, tensors): unites the axes of inputs as an addition does, and
    returns the axes of the result.
  flow.freeze(vector, op): these channels can't be removed, and `op` is the reason.
  flow.keep(op, axes, kept): freezes all axes but `kept`, and returns the axes with
    None in their place.
  flow.freeze_all(op): freezes all that the op reads.
"""
import numpy as np

from ec_estimator.channels.rules.table import RULES
from ec_estimator.core.errors import ConfigError
from ec_estimator.graph.op_types import VARIABLE_OPS


def channel_rule(*op_types):
    """A decorator that says how channels pass through ops of these types.

    Without a rule an op freezes all channels that it reads. A rule is called once for
    each op of its types that reads channels, in every graph that is analyzed:

        @ec.channel_rule("Cumsum")
        def cumulative_sum(flow, op):
            axes = flow.axes(op.inputs[0])
            along = flow.values.const(op.inputs[1])
            if along is None:
                flow.freeze_all(op)
                return
            others = [axis for axis in range(len(axes)) if axis != along[0] % len(axes)]
            flow.put(op.outputs[0], flow.keep(op, axes, others))

    `op` is the tf.Operation, whose inputs all have a known rank. What `flow` offers is
    in docs/channel-rules.md and at the top of this module.

    What a rule neither puts out, nor unites with what it puts out, nor freezes is
    frozen for it: the op reads those channels, and no kernel could stop that. A rule
    can't make a layer of an op, with channels that end at a kernel.

    Args:
      op_types: one or more types, as in tf.Operation.type. A rule of yours replaces an
        earlier one; those of ec_estimator can't be replaced.

    Returns:
      A decorator that returns the function as it is.

    Raises:
      ConfigError: a type is no type, or has a rule of ec_estimator's; later, when a
        graph is analyzed, the rule puts out labels that don't fit the shape.
    """
    if not op_types:
        raise ConfigError('channel_rule: no op type; write @ec.channel_rule("MyOp")')
    for op_type in op_types:
        _check_type(op_type)

    def register(function):
        if not callable(function):
            raise ConfigError(
                f"channel_rule({op_types[0]!r}): {function!r} is no function of "
                "(flow, op)"
            )
        for op_type in op_types:
            RULES[op_type] = UserRule(function)
        return function

    return register


def _check_type(op_type):
    if not isinstance(op_type, str) or not op_type:
        raise ConfigError(
            f"channel_rule: {op_type!r} is no op type; write the type of the op as a "
            'string, as in @ec.channel_rule("MyOp")'
        )
    if op_type in VARIABLE_OPS:
        raise ConfigError(
            f"channel_rule: {op_type!r} is a variable, where channels begin; write a "
            "rule for an op that reads some"
        )
    if op_type in RULES and not isinstance(RULES[op_type], UserRule):
        raise ConfigError(
            f"channel_rule: {op_type!r} has a rule of ec_estimator's, which can't be "
            "replaced; write one for a type that has none"
        )


class UserRule:
    """A user's function, as a rule that can't lose a channel or break a shape."""

    def __init__(self, function):
        self._function = function

    def __call__(self, flow, op):
        before = len(flow.labels.edges)
        self._function(flow, op)
        outputs = []
        for tensor in op.outputs:
            axes = flow.axes(tensor)
            self._check(op, tensor, axes)
            outputs.extend(vector for vector in axes if vector is not None)
        handed_on = _united_with(outputs, flow.labels.edges[before:])
        for tensor in op.inputs:
            for vector in flow.axes(tensor):
                if vector is not None and not handed_on.issuperset(vector.tolist()):
                    flow.freeze(vector, op)

    def _check(self, op, tensor, axes):
        shape = tensor.shape
        if shape.rank is None:
            return
        fits = len(axes) == shape.rank and all(
            vector is None or size is None or len(vector) == size
            for vector, size in zip(axes, shape.as_list())
        )
        if not fits:
            counts = [None if vector is None else len(vector) for vector in axes]
            raise ConfigError(
                f"the channel rule for {op.type!r} puts out labels {counts} for "
                f"{tensor.name!r} of shape {shape}; each axis needs as many labels as "
                "it is long, or None"
            )


def _united_with(vectors, edges):
    """The labels in vectors, and those that edges [(a, b)] unite with them; a set."""
    found = set(np.concatenate(vectors).tolist()) if vectors else set()
    size = -1
    while size < len(found):
        size = len(found)
        for a, b in edges:
            for one, other in zip(a.tolist(), b.tolist()):
                if one in found or other in found:
                    found.update((one, other))
    return found
