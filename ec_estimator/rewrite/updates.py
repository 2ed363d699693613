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
from ec_estimator.core.errors import PlanError
from ec_estimator.core.state import is_state
from ec_estimator.graph.variables import owner

# Op type -> the input that changes the variable.
_ASSIGNMENTS = {
    "Assign": 1,
    "AssignAdd": 1,
    "AssignSub": 1,
    "AssignVariableOp": 1,
    "AssignAddVariableOp": 1,
    "AssignSubVariableOp": 1,
}
# What TensorFlow's Apply kernels call the gradient.
_GRADIENT_INPUTS = ("grad", "delta")
# Ops that hand a reference or a handle on.
_ALIASES = ("Switch", "RefSwitch", "Enter", "RefEnter", "RefIdentity", "Identity")
# Ops that take a reference or a handle and leave the variable as it is.
_READERS = (
    "Identity",
    "IsVariableInitialized",
    "ReadVariableOp",
    "Shape",
    "VarIsInitializedOp",
    "VariableShape",
    "ResourceGather",
    "ResourceGatherNd",
    "Gather",
    "GatherV2",
    "Save",
    "SaveSlices",
    "SaveV2",
)
# Ops that hand a handle to function bodies; those decide whether it is written.
_CALLS = (
    "If",
    "PartitionedCall",
    "StatefulPartitionedCall",
    "StatelessIf",
    "StatelessWhile",
    "While",
)


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
            return zero_out(self.variable, mask)
        return self.variable.assign(tf.where(mask > 0, self.variable, initial))


def zero_out(variable, mask):
    """Op that puts a variable to zero where the mask is 0, whatever it holds there.

    Args:
      mask: 1 and 0, of the variable's type and shape.
    """
    return variable.assign(tf.math.multiply_no_nan(variable, mask))


def gate_updates(graph, names, gate):
    """Gates every write to the named variables and finds what follows them.

    Args:
      graph: a complete training graph.
      names: names of the planned variables.
      gate: callable(variable name, update) -> update.

    Returns:
      {name: [Companion]} of the variables that something writes.

    Raises:
      PlanError: an op writes a planned variable in a way that cannot be gated.
    """
    variables = {v.op.name: v for v in _all_variables(graph)}
    slots = {}
    for name in names:
        for op in _writers(graph, variables[name]):
            index, slot_names = _gated_input(op, name)
            with graph.as_default(), tf.name_scope(None), tf.device(op.device):
                with tf_private.context_of_inputs(op):
                    tf_private.replace_input(op, index, gate(name, op.inputs[index]))
            slots.setdefault(name, []).extend(slot_names)
    return _companions(variables, slots)


def _all_variables(graph):
    return graph.get_collection("variables") + graph.get_collection("local_variables")


def _writers(graph, variable):
    """Ops that change the variable in training: not its initializer, not restores."""
    writers = []
    stack = [variable.op.outputs[0]]
    while stack:
        tensor = stack.pop()
        for op in tensor.consumers():
            if op.type in _ALIASES:
                stack.extend(o for o in op.outputs if _is_alias(o))
            if op.type in _READERS or op.type in _ALIASES or op in writers:
                continue
            if not _takes_alias(op, tensor):
                continue
            if op is variable.initializer or _restores(op):
                continue
            if op.type in _CALLS and not _call_writes(op, tensor):
                continue
            writers.append(op)
    return writers


def _is_alias(tensor):
    return tensor.dtype == tf.resource or tensor.dtype != tensor.dtype.base_dtype


def _takes_alias(op, tensor):
    """Whether the op takes the variable itself; most take the value of a reference."""
    if tensor.dtype == tf.resource:
        return True
    position = list(op.inputs).index(tensor)
    arguments = op.op_def.input_arg
    # Only ops with one tensor an argument write to references.
    return position < len(arguments) and arguments[position].is_ref


def _call_writes(op, handle):
    """Whether a function that the op calls changes the variable behind the handle."""
    library = op.graph.as_graph_def().library.function
    bodies = {function.signature.name: function for function in library}
    return any(
        _body_writes(bodies, name, index - len(op.inputs))
        for name in _called(op.node_def)
        for index, tensor in enumerate(op.inputs)
        if tensor is handle
    )


def _called(node):
    """The names of the functions that a node calls."""
    return [attr.func.name for attr in node.attr.values() if attr.HasField("func")]


def _body_writes(bodies, name, position):
    """Whether a function changes what it gets as an argument.

    Args:
      bodies: {name of a function: FunctionDef}.
      position: of the argument, from the end: an If takes its condition before the
        arguments that it hands on.
    """
    body = bodies[name]
    stack = [body.signature.input_arg[position].name]
    while stack:
        handle = stack.pop()
        for node in body.node_def:
            # A node's output is "node:output:0" to its readers, an argument its name.
            sources = [i.split(":")[0] for i in node.input if not i.startswith("^")]
            for index in (i for i, source in enumerate(sources) if source == handle):
                if node.op in _ALIASES:
                    stack.append(node.name)
                elif node.op in _CALLS:
                    given = index - len(sources)
                    if any(_body_writes(bodies, f, given) for f in _called(node)):
                        return True
                elif node.op not in _READERS:
                    return True
    return False


def _restores(op):
    """Whether an assignment takes its value from a checkpoint."""
    if op.type not in _ASSIGNMENTS:
        return False
    source = op.inputs[1].op
    while source.type in ("Identity", "Reshape", "Cast"):
        source = source.inputs[0].op
    return source.type in ("RestoreV2", "Restore", "RestoreSlice")


def _gated_input(op, name):
    """(index of the input to gate, names of the slots that the op keeps)."""
    if op.type in _ASSIGNMENTS:
        return _ASSIGNMENTS[op.type], []
    arguments = [argument.name for argument in op.op_def.input_arg]
    dense = op.type.startswith(("Apply", "ResourceApply"))
    gradient = [a for a in arguments if a in _GRADIENT_INPUTS]
    if not dense or not gradient:
        raise PlanError(
            f"kernel {name!r} is written by {op.type} {op.name!r}, whose update cannot "
            "be masked; add the kernel to exclude_scopes"
        )
    slots = [
        _variable_name(tensor)
        for argument, tensor in zip(op.op_def.input_arg, op.inputs)
        if argument.name != "var" and (argument.is_ref or argument.type == tf.resource)
    ]
    return arguments.index(gradient[0]), slots


def _variable_name(tensor):
    op = tensor.op
    while op.type in _ALIASES:
        op = op.inputs[0].op
    return op.name


def _companions(variables, slots):
    """Slots of the optimizer, and other untrained variables kept beside a kernel."""
    trainable = {name for name, variable in variables.items() if variable.trainable}
    companions = {name: [] for name in slots}
    known = set()
    for name, its_slots in slots.items():
        for slot in dict.fromkeys(its_slots):
            known.add(slot)
            if slot in variables and variables[slot].shape == variables[name].shape:
                initial = variables[slot].initial_value
                companions[name].append(Companion(variables[slot], initial))
    for other, variable in variables.items():
        if other in known or other in trainable or is_state(other):
            continue
        name = owner(other, variables)
        if name in companions and variable.shape == variables[name].shape:
            companions[name].append(Companion(variable, None))
    return companions
