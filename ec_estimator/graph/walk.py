"""Which ops feed which, and the way between a variable and its readers."""
import tensorflow.compat.v1 as tf

from ec_estimator.graph.op_types import (
    CASTS,
    HANDS_ON,
    LEAVES_UNCHANGED,
    LOOKUPS,
    READS,
)


def ancestors(tensors):
    """The ops that the tensors are computed from, along data edges only."""
    return _reached(
        (tensor.op for tensor in tensors),
        lambda op: (tensor.op for tensor in op.inputs),
    )


def descendants(ops):
    """The ops that read, at any remove, what these ops put out."""
    return _reached(
        ops,
        lambda op: (reader for tensor in op.outputs for reader in tensor.consumers()),
    )


def run_with(ops):
    """The ops that run whenever these do: what they read and what they wait for."""
    return _reached(
        ops, lambda op: (*(tensor.op for tensor in op.inputs), *op.control_inputs)
    )


def _reached(ops, next_ops):
    """The ops, and all that next_ops(op) leads to from them."""
    seen = set()
    stack = list(ops)
    while stack:
        op = stack.pop()
        if op not in seen:
            seen.add(op)
            stack.extend(next_ops(op))
    return seen


def origin(tensor):
    """The op whose value, reference or handle a tensor is: a variable, if that is what
    was read, or whatever computed it."""
    op = tensor.op
    while op.inputs and op.type in (*HANDS_ON, *READS):
        op = op.inputs[0].op
    return op


def is_alias(tensor):
    """Whether a tensor is a reference or a handle, and no value."""
    return tensor.dtype == tf.resource or tensor.dtype != tensor.dtype.base_dtype


def aliases(variable_op):
    """The tensors that are the variable: what its op puts out, and what hands that on
    into conditionals and loops."""
    found = list(variable_op.outputs)
    for alias in found:
        for reader in dict.fromkeys(alias.consumers()):
            if reader.type in HANDS_ON:
                found.extend(t for t in reader.outputs if is_alias(t))
    return found


def values(variable_op):
    """The tensors that hold the variable's value, as it is read from its aliases."""
    return [
        output
        for alias in aliases(variable_op)
        for reader in dict.fromkeys(alias.consumers())
        if reader.type in (*HANDS_ON, *READS)
        for output in reader.outputs
        if not is_alias(output)
    ]


def takers(variable_op):
    """Yields (op, alias) of the ops that take the variable itself and may change it:
    optimizers, assignments, the initializer, functions that it is handed to."""
    for alias in aliases(variable_op):
        for op in dict.fromkeys(alias.consumers()):
            if op.type not in LEAVES_UNCHANGED and _takes_alias(op, alias):
                yield op, alias


def _takes_alias(op, tensor):
    """Whether the op takes the variable itself; most take the value of a reference."""
    if tensor.dtype == tf.resource:
        return True
    position = list(op.inputs).index(tensor)
    arguments = op.op_def.input_arg
    # Only ops with one tensor an argument write to references.
    return position < len(arguments) and arguments[position].is_ref


def is_looked_up(variable_op):
    """Whether single rows of the variable are read, in whatever precision."""
    seen = set()
    stack = list(variable_op.outputs)
    while stack:
        for reader in stack.pop().consumers():
            if reader.type in LOOKUPS:
                return True
            if reader.type in (*HANDS_ON, *READS, *CASTS) and reader not in seen:
                seen.add(reader)
                stack.extend(reader.outputs)
    return False
