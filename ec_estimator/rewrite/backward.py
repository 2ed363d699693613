"""Finds and gates kernel gradients in a graph whose backward pass exists already.

In Session mode the optimizer has been built before the hook sees the graph. Every
backward op remembers the forward op it belongs to; what leaves the backward ops of a
kernel's reader, and was computed without the kernel's values, is the gradient of that
kernel: the layers are linear in their kernels.
"""
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.state import is_state
from ec_estimator.graph.op_types import LAYER_OPS, SHAPE_OPS
from ec_estimator.graph.walk import values
from ec_estimator.rewrite.edges import reads_anchors

# tf.gradients adds up with these what several readers of a variable give it.
_SUM_OPS = ("AddN", "AccumulateNV2")


def kernel_gradients(backward, op, index):
    """The gradients of an op's input, as its backward pass computes them.

    Before the identities that hold them back until all are there: those are what gets
    gated, and a gate may have to wait for what is computed from these.
    """
    found = _gradients(op, op.inputs[index], backward.get(op.name, []))
    return [g.op.inputs[0] if g.op.type == "Identity" else g for g in found]


def gate_gradients(graph, backward, name, gate):
    """Gates every gradient that flows to the kernel variable `name`.

    Args:
      backward: what `backward_ops` gave.
      gate: callable(variable name, gradient) -> gradient.

    What a layer gives the kernel can be told from what it gives its other input. With
    `(u - w)**2` or `matmul(w, w)` that is so only where TensorFlow adds it to the
    layer's: whatever that sum takes is a gradient of the kernel.

    Returns:
      Names of the kernel's readers whose gradients were not found.
    """
    readers = [
        (reader, read)
        for read in values(graph.get_operation_by_name(name))
        for reader in dict.fromkeys(read.consumers())
        if reader not in backward.ops and not reads_anchors(reader)
    ]
    found, missed = {}, []
    for reader, read in readers:
        ops = backward.get(reader.name, [])
        gradients = _gradients(reader, read, ops) if _is_told(reader, read) else []
        found.update((gradient, set(ops)) for gradient in gradients)
        if ops and not gradients:
            missed.append(reader.name)
    sums = _sums(found)
    known = set(found).union(op.outputs[0] for op in sums)
    others = [
        (op, index)
        for op in sums
        for index, tensor in enumerate(op.inputs)
        if tensor not in known
    ]
    for gradient, inside in found.items():
        _gate(gradient, inside, name, gate)
    for op, index in others:
        with op.graph.as_default(), tf.name_scope(None), tf.device(op.device):
            with tf_private.context_of_inputs(op):
                tf_private.replace_input(op, index, gate(name, op.inputs[index]))
    if not found:
        return [reader.name for reader, _ in readers]
    return [] if sums else missed


def _is_told(reader, read):
    """Whether a reader's gradient of `read` differs from those of its other inputs."""
    return reader.type in (*LAYER_OPS, "ConcatV2") or not any(
        other.dtype == read.dtype and other.shape.is_compatible_with(read.shape)
        for other in reader.inputs
        if other is not read
    )


def _sums(gradients):
    """The ops that sum up all gradients of the variable that these belong to."""
    found = {}
    stack = list(gradients)
    while stack:
        for op in stack.pop().consumers():
            if op.type in _SUM_OPS and op not in found:
                found[op] = True
                stack.append(op.outputs[0])
    return list(found)


def _gradients(reader, read, ops):
    """What leaves `ops`, the backward pass of `reader`, as the gradient of `read`."""
    inside = set(ops)
    from_values = _computed_from(read, inside)
    leaving = [
        output
        for op in ops
        for output in op.outputs
        if op not in from_values
        and output.dtype == read.dtype.base_dtype
        and output.shape.is_compatible_with(read.shape)
        and _leaves(output, inside)
    ]
    if reader.type == "ConcatV2":
        # All parts of a partitioned kernel look alike; they come in their order.
        position = list(reader.inputs).index(read)
        every = [o for op in ops for o in op.outputs if o.op.type == "Slice"]
        ordered = [o for o in _last_of(ops, every) if o is not None]
        leaving = ordered[position : position + 1]
    return leaving


def _leaves(output, inside):
    """The ops of the user's that read an output and are not inside."""
    return [c for c in output.consumers() if c not in inside and not is_state(c.name)]


def _last_of(ops, slices):
    """For each slice the tensor that leaves for it: itself or its gated identity."""
    inside = set(ops)
    for tensor in slices:
        gates = [c for c in tensor.consumers() if c in inside and c.type == "Identity"]
        yield gates[0].outputs[0] if gates else tensor


def _computed_from(read, inside):
    """The ops inside that depend on the values of `read`."""
    seen = set()
    stack = [op for op in read.consumers() if op in inside]
    while stack:
        op = stack.pop()
        if op in seen or op.type in SHAPE_OPS:
            continue
        seen.add(op)
        for output in op.outputs:
            stack.extend(c for c in output.consumers() if c in inside)
    return seen


def _gate(gradient, inside, name, gate):
    op = gradient.op
    with op.graph.as_default(), tf.name_scope(None), tf.device(op.device):
        if op in inside and op.type in _MOVES:
            # Gated before its last move, the tensor that the user holds, and may fetch,
            # is the gated one.
            with tf_private.context_of_inputs(op):
                gated = _MOVES[op.type](op, lambda moved: gate(name, moved))
                tf_private.replace_input(op, 0, gated)
            return
        consumers = _leaves(gradient, inside)
        with tf_private.context_of_outputs(op):
            gated = gate(name, gradient)
    for consumer in consumers:
        for index, tensor in enumerate(consumer.inputs):
            if tensor is gradient:
                tf_private.replace_input(consumer, index, gated)


def _gated_reshape(op, gate):
    given = op.inputs[0]
    moved = tf.reshape(given, op.outputs[0].shape)
    return tf.reshape(gate(moved), tf.shape(given))


def _gated_transpose(op, gate):
    moved = tf.transpose(op.inputs[0], op.inputs[1])
    return tf.transpose(gate(moved), tf.math.invert_permutation(op.inputs[1]))


# Op types that only move entries -> the input to give such an op so that it puts out
# the gated tensor.
_MOVES = {
    "Identity": lambda op, gate: gate(op.inputs[0]),
    "Reshape": _gated_reshape,
    "Transpose": _gated_transpose,
}
