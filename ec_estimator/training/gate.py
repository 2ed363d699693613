"""What of gradients and updates reaches the gated variables of a training graph."""
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.devices import task_of
from ec_estimator.core.errors import PlanError
from ec_estimator.core.replicas import variables_of
from ec_estimator.graph.op_types import TAKES_GRADIENTS
from ec_estimator.rewrite.accumulators import GRADIENT_SENT, sent_to


class Gate:
    """The gates of all compressors, one after the other.

    Args:
      graph: the training graph.
      attached: [core.compressor.Attached].
    """

    def __init__(self, graph, attached):
        self._graph = graph
        self._attached = attached
        # {(variable name, name of a gated tensor): what was gated}. What comes straight
        # from a gated gradient needs no second multiplication.
        self._gated = {}

    def update(self, name, update):
        """What of an update reaches variable `name`; each update is gated once.

        On a cluster that is where the variable is: what a worker has gated may land
        after a trial. A worker whose gate nothing else reads then pulls no mask.
        """
        if update.op.type in TAKES_GRADIENTS:
            for op in sent_to(update.op):
                given = self._least_gated(name, op.inputs[GRADIENT_SENT])
                tf_private.replace_input(op, GRADIENT_SENT, given)
        if self._is_gated(name, update):
            if not self._is_sent(name, update):
                return update
            update = self._least_gated(name, update)
        return self._pass(name, update, lambda attached: attached.gate)

    def _least_gated(self, name, update):
        """What an update was before it was gated, if it will be once more."""
        if all(a.gate_is_enough for a in self._attached if name in a.gated):
            return self._gated.get((name, update.name), update)
        return update

    def gradient(self, name, gradient):
        """The same for a gradient that comes out of the layers."""
        if self._is_gated(name, gradient):
            return gradient
        return self._pass(name, gradient, lambda attached: attached.gate_gradient)

    def read(self, name, gradient):
        """The same for one that reaches the variable, maybe of single rows.

        Raises:
          PlanError: of single rows.
        """
        if not any(name in attached.gated for attached in self._attached):
            return gradient
        if isinstance(gradient, tf.IndexedSlices):
            # Gating it would make it dense.
            raise PlanError(
                f"kernel {name!r} is looked up while training (as sampled softmax "
                "does), so it is an embedding table and can't be masked; add it to "
                "exclude_scopes"
            )
        return self.gradient(name, gradient)

    def _pass(self, name, update, gate_of):
        given = update
        for attached in self._attached:
            if name in attached.gated:
                update = gate_of(attached)(name, update)
        self._gated[name, update.name] = given
        return update

    def _is_sent(self, name, update):
        """Whether another process than that of variable `name` computes an update."""
        return any(
            task_of(v.device) != task_of(update.op.device)
            for v in variables_of(self._graph)
            if v.op.name == name
        )

    def _is_gated(self, name, update):
        while update.op.type == "Identity":
            if (name, update.name) in self._gated:
                return True
            update = update.op.inputs[0]
        if update.op.type == "AddN":  # Of a resource variable, read several times.
            return all(self._is_gated(name, part) for part in update.op.inputs)
        return (name, update.name) in self._gated
