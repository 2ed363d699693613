"""Gates the gradients of planned kernels at the moment they are taken."""
import contextlib

import tensorflow.compat.v1 as tf

from ec_estimator.rewrite import tf_private


@contextlib.contextmanager
def gated_gradients(graph, names, gate):
    """While open, a gradient with respect to a planned kernel comes out gated.

    So whatever the user's code does with it next (clipping by norm, averaging,
    summaries) sees the gradient of the compressed network.

    Args:
      graph: the training graph.
      names: names of the planned variables.
      gate: callable(variable name, gradient) -> gradient.

    `GradientTape` does not come through here; the gates on the variables' updates
    (rewrite.updates) keep the zeros there.
    """

    def after(ys, xs, gradients):
        return [
            gate(x.op.name, tf.convert_to_tensor(gradient))
            if gradient is not None and x.op.name in names
            else gradient
            for x, gradient in zip(xs, gradients)
        ]

    with tf_private.intercept_gradients(graph, after):
        yield
