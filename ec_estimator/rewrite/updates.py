"""Gates what is written into a kernel variable, so that its zeros stay zeros.

A kernel that is zero where its mask is zero needs no mask in the forward pass: the
variable itself, every checkpoint and every export hold the compressed weights. It
stays so if no update changes those entries. Updates come from a handful of op types:
the Apply kernels of TensorFlow's optimizers and plain assignments of hand-written
ones. All of them are linear in the update or compute it from slots, so gating what
they are given, and starting their slots afresh where weights are removed, is exact.
"""
import dataclasses
from typing import Any, Optional

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.devices import beside
from ec_estimator.core.errors import PlanError
from ec_estimator.core.replicas import others, variable_name, variables_of
from ec_estimator.graph.op_types import (
    APPLIES,
    ASSIGNMENTS,
    CALLS,
    CASTS,
    HANDS_ON,
    LEAVES_UNCHANGED,
    RESHAPES,
    RESTORES,
)
from ec_estimator.graph.variables import first_writes, optimizer_variables, owner
from ec_estimator.graph.walk import descendants, origin, run_with, takers
from ec_estimator.rewrite.accumulators import sent_to, taken
from ec_estimator.rewrite.averages import averages

# What TensorFlow's Apply kernels call the gradient.
GRADIENT_INPUTS = ("grad", "delta")


@dataclasses.dataclass(frozen=True)
class Companion:
    """A variable that follows a kernel entry by entry: a slot, an average, a sum.

    initial: tensor with the value that the optimizer gave it at first; None for what is
      no slot, that starts from zero where weights are removed.
    """

    variable: Any
    initial: Optional[Any]

    def reset(self, mask):
        """Op that starts it afresh where the mask is 0, and leaves it elsewhere.

        Args:
          mask: 1 and 0, of the variable's type and shape.
        """
        initial = self.initial
        if initial is not None and initial.op.type == "Fill":
            # Made anew, the tensor takes memory only while its reader runs.
            value = initial.op.inputs[1]
            if tf.get_static_value(value) == 0:
                initial = None
            else:
                initial = tf.fill(self.variable.shape, value)
        if initial is None:
            return _zero_out(self.variable, mask)
        with beside(self.variable):
            return self.variable.assign(tf.where(mask > 0, self.variable, initial))


def remove(variable, mask, companions):
    """Removes weights: where the mask is 0 they become zero, whatever they are now, and
    what follows them starts afresh.

    Args:
      mask: 1 and 0, of the variable's type and shape.
      companions: [Companion] of the variable.

    Returns:
      List of ops.
    """
    return [_zero_out(variable, mask), *(c.reset(mask) for c in companions)]


def _zero_out(variable, mask):
    with beside(variable):
        return variable.assign(tf.math.multiply_no_nan(variable, mask))


def gate_updates(graph, names, gate, train_op=None):
    """Gates every write to the named variables and finds what follows them.

    Args:
      graph: a complete training graph.
      names: names of the planned variables.
      gate: callable(variable name, update) -> update.
      train_op: all that a training step runs, if that is known.

    Returns:
      {name: [Companion]} of the variables that training writes. If the train_op writes
      none of them, something else does, such as a hook, and all writes count.

    Raises:
      PlanError: an op writes a planned variable in a way that cannot be gated.
    """
    variables = {v.op.name: v for v in _all_variables(graph)}
    slots, functions = {}, _Functions(graph)
    found = {
        name: [
            op
            for variable in (variables[name], *others(variables[name], graph))
            for op in _writers(variable, functions)
        ]
        for name in names
    }
    trained = _in_training(found, train_op)
    optimizers = optimizer_variables(graph)
    for name, writers in found.items():
        for op in writers:
            index, slot_names = _gated_input(op, name)
            with graph.as_default(), tf.name_scope(None), tf.device(op.device):
                with tf_private.context_of_inputs(op):
                    tf_private.replace_input(op, index, gate(name, op.inputs[index]))
            if name in trained:
                slots.setdefault(name, []).extend(slot_names)
    return _companions(graph, variables, slots, optimizers)


def _in_training(writers, train_op):
    """Names of the variables that a training step writes.

    Args:
      writers: {name of a variable: ops}.
      train_op: an op, a tensor or None.
    """
    written = {name for name, ops in writers.items() if ops}
    if train_op is None:
        return written
    run = run_with([getattr(train_op, "op", train_op)])
    graph = next(iter(run)).graph
    run |= descendants(t for t in taken(graph) if not run.isdisjoint(sent_to(t)))
    return {n for n in written if not run.isdisjoint(writers[n])} or written


def updated(graph, names):
    """Those of the named variables that something writes in training."""
    variables, functions = {v.op.name: v for v in _all_variables(graph)}, _Functions(
        graph
    )
    return {name for name in names if _writers(variables[name], functions)}


def _all_variables(graph):
    return variables_of(graph) + variables_of(graph, "local_variables")


def _writers(variable, functions):
    """Ops that change the variable in training: not its initializers, not restores."""
    first = first_writes(variable)
    return dict.fromkeys(
        op
        for op, alias in takers(variable.op)
        if op not in first
        and not _restores(op)
        and (op.type not in CALLS or functions.write(op, alias))
    )


class _Functions:
    """Whether the functions that ops call change the variables they are handed."""

    def __init__(self, graph):
        self._graph = graph
        self._bodies = None
        # {(function, position of an argument): whether it changes that}.
        self._known = {}

    def write(self, op, handle):
        """Whether a function that the op calls changes what is behind the handle."""
        return any(
            self._writes(name, index - len(op.inputs))
            for name in _called(op.node_def)
            for index, tensor in enumerate(op.inputs)
            if tensor is handle
        )

    def _body(self, name):
        if self._bodies is None:
            library = self._graph.as_graph_def().library.function
            self._bodies = {function.signature.name: function for function in library}
        return self._bodies[name]

    def _writes(self, name, position):
        """Whether a function changes what it gets as an argument.

        Args:
          position: of the argument, from the end: an If takes its condition before
            the arguments that it hands on.
        """
        key = name, position
        if key not in self._known:
            self._known[key] = False  # Ends the recursion of a function in itself.
            self._known[key] = self._body_writes(self._body(name), position)
        return self._known[key]

    def _body_writes(self, body, position):
        stack = [body.signature.input_arg[position].name]
        while stack:
            handle = stack.pop()
            for node in body.node_def:
                # A node's output is "node:output:0" to its readers, an argument its
                # name.
                sources = [i.split(":")[0] for i in node.input if i[0] != "^"]
                for index in (
                    i for i, source in enumerate(sources) if source == handle
                ):
                    if node.op in HANDS_ON:
                        stack.append(node.name)
                    elif node.op in CALLS:
                        given = index - len(sources)
                        if any(self._writes(f, given) for f in _called(node)):
                            return True
                    elif node.op not in LEAVES_UNCHANGED:
                        return True
        return False


def _called(node):
    """The names of the functions that a node calls."""
    for attr in node.attr.values():
        if attr.HasField("func"):
            yield attr.func.name
        for function in attr.list.func:
            yield function.name


def _restores(op):
    """Whether an assignment takes its value from a checkpoint."""
    if op.type not in ASSIGNMENTS:
        return False
    source = op.inputs[ASSIGNMENTS[op.type]].op
    while source.type in (*HANDS_ON, *CASTS, *RESHAPES):
        source = source.inputs[0].op
    return source.type in RESTORES


def _gated_input(op, name):
    """(index of the input to gate, names of the slots that the op keeps)."""
    if op.type in ASSIGNMENTS:
        return ASSIGNMENTS[op.type], []
    arguments = [argument.name for argument in op.op_def.input_arg]
    dense = op.type.startswith(APPLIES)
    gradient = [a for a in arguments if a in GRADIENT_INPUTS]
    if not dense or not gradient:
        raise PlanError(
            f"kernel {name!r} is written by {op.type} {op.name!r}, whose update cannot "
            "be masked; add the kernel to exclude_scopes"
        )
    slots = [
        variable_name(origin(tensor))
        for argument, tensor in zip(op.op_def.input_arg, op.inputs)
        if argument.name != "var" and (argument.is_ref or argument.type == tf.resource)
    ]
    return arguments.index(gradient[0]), slots


def _companions(graph, variables, slots, optimizers):
    """Slots of the optimizer, and averages of kernels.

    Args:
      optimizers: names of the variables that are the optimizer's. Which kernel one
        belongs to that no Apply op takes, its name tells.
    """
    companions = {name: [] for name in slots}
    known = {slot for its_slots in slots.values() for slot in its_slots}
    for name, its_slots in slots.items():
        for slot in dict.fromkeys(its_slots):
            if slot in variables and variables[slot].shape == variables[name].shape:
                initial = variables[slot].initial_value
                companions[name].append(Companion(variables[slot], initial))
    for other in optimizers - known:
        name = owner(other, variables)
        if name in companions and variables[other].shape == variables[name].shape:
            companions[name].append(Companion(variables[other], None))
    for name, found in averages(graph, set(slots), variables).items():
        companions[name].extend(
            Companion(average, None)
            for average in found
            if average.op.name not in optimizers | known
        )
    return companions
