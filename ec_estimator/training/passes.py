"""Forward passes that are complete, shown to the compressors."""
from functools import partial

from ec_estimator.core import tf_private
from ec_estimator.core.compressor import Forward
from ec_estimator.core.replicas import variable_name, variables_of
from ec_estimator.graph.backward_pass import backward_ops
from ec_estimator.graph.op_types import LAYER_OPS
from ec_estimator.rewrite.edges import observe_gradient


class ForwardPasses:
    """Has compressors look at the graph before gradients are taken, and at its end.

    Args:
      graph: the training graph.
      attached: [core.compressor.Attached].
    """

    def __init__(self, graph, attached):
        self._graph = graph
        self._attached = attached
        self._losses, self._ops_seen = [], 0

    def take(self, take, ys, xs):
        """Takes gradients, once the compressors have seen the forward pass.

        Args:
          take, ys, xs: as core.tf_intercept.intercept_gradients gives them.

        Returns:
          The gradients of `xs`.
        """
        trainable = {
            v.op.name for v in variables_of(self._graph, "trainable_variables")
        }
        if trainable.isdisjoint(variable_name(x.op) for x in xs):
            return take(xs)
        losses = list(ys) if isinstance(ys, (list, tuple)) else [ys]
        self.look(
            losses,
            observe=observe_gradient,
            call=tuple(loss.name for loss in losses),
        )
        return take(xs)

    def look(self, losses, observe, call=()):
        """Has the compressors look at the graph as it is now.

        Args:
          losses: besides those that were known.
          call: as core.compressor.Forward has it.
          observe: the same, with the Attached that observes as its first argument.
        """
        ops = self._graph.get_operations()
        known = len(self._losses)
        self._losses = list(dict.fromkeys([*self._losses, *losses]))
        has_layers = any(
            op.type in LAYER_OPS and tf_private.forward_op(op) is None
            for op in ops[self._ops_seen :]
        )
        # A complete graph always has some: averages of weights, for example.
        has_news = has_layers or len(self._losses) > known or not call
        backward = backward_ops(self._graph).values() if has_news else ()
        forward = Forward(
            graph=self._graph,
            losses=tuple(self._losses),
            call=call,
            backward=frozenset(op for found in backward for op in found),
            has_news=has_news,
            observe=observe,
        )
        self._ops_seen = len(ops)
        for attached in self._attached:
            attached.look(forward._replace(observe=partial(observe, attached)))
