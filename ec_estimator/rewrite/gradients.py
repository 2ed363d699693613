"""Gates the gradients of planned kernels at the moment they are taken."""
import contextlib

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.errors import PlanError


@contextlib.contextmanager
def gated_gradients(graph, is_gated, gate, watch, observe):
    """While open, a gradient with respect to a planned kernel comes out gated.

    So whatever the user's code does with it next (clipping by norm, averaging,
    summaries) sees the gradient of the compressed network.

    Args:
      graph: the training graph.
      is_gated: callable(variable name) -> whether its gradients are gated; asked after
        `watch`, which may find more such variables.
      gate: callable(variable name, gradient) -> gradient.
      watch: callable(losses, names of the variables) -> further tensors whose
        gradients are wanted.
      observe: callable(those tensors, their gradients).

    `GradientTape` does not come through here; the gates on the variables' updates
    (rewrite.updates) keep the zeros there.
    """

    def intercept(take, ys, xs):
        losses = ys if isinstance(ys, (list, tuple)) else [ys]
        watched = watch(losses, [x.op.name for x in xs])
        gradients = take(xs + watched)
        observe(watched, gradients[len(xs) :])
        return [
            gate(x.op.name, _dense(x.op.name, gradient))
            if gradient is not None and is_gated(x.op.name)
            else gradient
            for x, gradient in zip(xs, gradients)
        ]

    with tf_private.intercept_gradients(graph, intercept):
        yield


def _dense(name, gradient):
    """Raises for a gradient of single rows: gating it would make it dense."""
    if isinstance(gradient, tf.IndexedSlices):
        raise PlanError(
            f"kernel {name!r} is looked up while training (as sampled softmax does), "
            "so it is an embedding table and can't be masked; add it to exclude_scopes"
        )
    return gradient
