"""Gradients that user code does not ask for, seen when it takes its own.

The gradient of one layer's kernel, apart from those of others that read it: what
reaches a variable is the sum over its readers, regularizers among them. An Identity
between the variable and one reader, an edge, sees that reader's share alone; it costs
nothing. Its gradient is seen when the gradient of the variable is taken, with no
further request.

And the gradient of a variable of ours, which no optimizer knows.
"""
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.memory import table
from ec_estimator.graph.op_types import ENTERS, SWITCHES

_OBSERVED = "ec_estimator.observed_edge"
_RECEIVERS = "receivers"
_WITH_ANCHORS = "ec_estimator.observed_with_anchors"
_RECEIVERS_WITH_ANCHORS = "receivers_with_anchors"
# An edge is outside of the conditional or loop that its reader is in, so that what is
# computed from its gradient does not depend on a branch or a turn.
_ENTRANCES = (*SWITCHES, *ENTERS)


def observe_gradient(observer, op, index, receive):
    """Has `receive` see the gradients that flow from an op to one of its inputs.

    Args:
      observer: any object. Two readers in a branch have one entrance, where their sum
        is seen: each observer sees it once.
      op, index: the reader, whose gradients are not taken yet.
      receive: callable(tensor, gradient), called at each call of tf.gradients that
        differentiates with respect to what the tensor is computed from.
    """
    graph, tensor = op.graph, op.inputs[index]
    while tensor.op.type in _ENTRANCES:
        op, index, tensor = tensor.op, 0, tensor.op.inputs[0]
    receivers = table(graph, _RECEIVERS)
    if tensor.op.name in receivers:
        receivers[tensor.op.name].setdefault(observer, receive)
        return
    with graph.gradient_override_map({"Identity": _OBSERVED}):
        with tf_private.context_of_outputs(tensor.op), tf.name_scope(None):
            edge = tf.identity(tensor, "ec_estimator/edge")
    receivers[edge.op.name] = {observer: receive}
    tf_private.replace_input(op, index, edge)


def observe_with(anchors, tensor, receive):
    """Has `receive` see the gradient of a tensor whenever one of an anchor is taken.

    TensorFlow computes the gradients of an op if what user code asks for leads through
    it. The anchors lead through the op that is made here, with the tensor, and are read
    by nobody behind it: they are given no gradient.

    Args:
      anchors: tensors, outside of loops and conditionals, that are computed from
        variables which user code trains.
      tensor: outside of them, too.
      receive: callable(gradient), called at each such call of tf.gradients.

    Returns:
      The tensor, to be read in its place.
    """
    if not anchors:
        return tensor
    graph = tensor.graph
    with graph.gradient_override_map({"IdentityN": _WITH_ANCHORS}):
        observed = tf.identity_n([tensor, *anchors], "observed")[0]
    table(graph, _RECEIVERS_WITH_ANCHORS)[observed.op.name] = receive
    return observed


def reads_anchors(op):
    """Whether an op was made by `observe_with`: it gives what it reads no gradient."""
    return op.name in table(op.graph, _RECEIVERS_WITH_ANCHORS)


@tf.RegisterGradient(_WITH_ANCHORS)
def _observed_with_anchors(op, gradient, *of_anchors):
    # A graph that was imported has no receivers.
    receive = table(op.graph, _RECEIVERS_WITH_ANCHORS).get(op.name)
    if receive is not None and gradient is not None:
        receive(gradient)
    return [None] * len(op.inputs)


def leave_branches(tensor, op):
    """A tensor that has a value whichever branches are taken.

    A resource variable is read, and a reference variable quantized, by its reader
    inside a branch of tf.cond. Where that branch is not taken, what is computed from
    the gradient there has no value, nor has what reads it: a training step would do
    nothing at all.

    Args:
      tensor: computed from the gradient of `op`'s output; static shape.
      op: in the branches or in none.

    Returns:
      The tensor, or zeros where it has no value.
    """
    for condition, branch in tf_private.branches_of(op):
        zeros = tf.raw_ops.Switch(
            data=tf.zeros(tensor.shape, tensor.dtype), pred=condition
        )
        tensor = tf.raw_ops.Merge(inputs=[tensor, zeros[1 - branch]]).output
    return tensor


@tf.RegisterGradient(_OBSERVED)
def _observed_edge(op, gradient):
    receivers = table(op.graph, _RECEIVERS).get(op.name, {})
    for receive in receivers.values() if gradient is not None else ():
        receive(op.inputs[0], gradient)
    return gradient
