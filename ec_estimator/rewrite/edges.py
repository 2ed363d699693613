"""The gradient of one layer's kernel, apart from those of others that read it.

What reaches a variable is the sum over its readers, regularizers among them. An
Identity between the variable and one reader, an edge, sees that reader's share alone;
it costs nothing. Its gradient is seen when the gradient of the variable is taken, with
no further request.
"""
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.memory import recall, remember
from ec_estimator.graph.op_types import ENTERS, SWITCHES

_OBSERVED = "ec_estimator.observed_edge"
_RECEIVERS = "receivers"
# An edge is outside of the conditional or loop that its reader is in, so that what is
# computed from its gradient does not depend on a branch or a turn.
_ENTRANCES = (*SWITCHES, *ENTERS)


def observe_gradient(op, index, receive):
    """Has `receive` see the gradients that flow from an op to one of its inputs.

    Args:
      op, index: the reader, whose gradients are not taken yet.
      receive: callable(tensor, gradient), called at each call of tf.gradients that
        differentiates with respect to what the tensor is computed from.
    """
    graph, tensor = op.graph, op.inputs[index]
    while tensor.op.type in _ENTRANCES:
        op, index, tensor = tensor.op, 0, tensor.op.inputs[0]
    receivers = recall(graph, _RECEIVERS)
    if receivers is None:
        receivers = {}
        remember(graph, _RECEIVERS, receivers)
    if tensor.op.name in receivers:
        return  # Two readers in a branch have one entrance, and their sum is seen.
    with graph.gradient_override_map({"Identity": _OBSERVED}):
        with tf_private.context_of_outputs(tensor.op), tf.name_scope(None):
            edge = tf.identity(tensor, "ec_estimator/edge")
    receivers[edge.op.name] = receive
    tf_private.replace_input(op, index, edge)


@tf.RegisterGradient(_OBSERVED)
def _observed_edge(op, gradient):
    receive = (recall(op.graph, _RECEIVERS) or {}).get(op.name)
    if receive is not None and gradient is not None:
        receive(op.inputs[0], gradient)
    return gradient
