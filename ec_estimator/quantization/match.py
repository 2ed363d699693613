"""The layers of a placement, found in a graph other than the one it was made from."""
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.errors import PlanError
from ec_estimator.core.state import is_state
from ec_estimator.graph.addresses import Addresses
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.walk import ancestors


class Binding:
    """Which ops of a graph are the layers of a placement.

    A layer is found by its address (graph.addresses): the most exact first that both
    graphs know, so that what differs somewhere before it does no harm. Of layers that
    one address names, each is found in its turn. What the placement has once, or
    quantizes alike, may be there any number of times: copies of a subnet, or towers.

    bound: {op: placement.QuantizedLayer} of those that were found. What the placement
      leaves in float is looked for as well, so that it is taken for no copy.

    Args:
      graph: tf.Graph, in which a model is built or not yet.
      placement: placement.Placement.
    """

    def __init__(self, graph, placement):
        self._graph = graph
        self.follow(placement)
        self._addresses = Addresses()
        self.bound = {}
        self._float = set()
        # {tensor's name in the plan: ops whose output it is}.
        self.outputs = {output.tensor: [] for output in placement.outputs}
        self._found, self._layers = set(), []

    def follow(self, placement):
        """Has what is found from here on be layers of another placement."""
        self._placement = placement
        self._planned = (*placement.layers, *placement.float_layers)

    @property
    def has_layers(self):
        """Whether the graph has any layer, as far as it was looked at."""
        return bool(self._layers)

    def find(self):
        """Finds what has been built since the last call.

        Returns:
          {op: placement.QuantizedLayer} of the new ones.

        Raises:
          PlanError: a kernel is read more often than in the placement, by layers that
            look alike.
        """
        backward = {
            op for op in self._graph.get_operations() if tf_private.forward_op(op)
        }
        self._layers = find_layers(self._graph, backward)
        addresses = self._addresses.find(self._graph, self._layers)
        left = [o for o in addresses if o not in self.bound and o not in self._float]
        found = {}
        for level in ("deep", "near", "own"):
            planned = _groups(self._planned, lambda layer: layer.address, level)
            for key, ops in _groups(left, addresses.get, level).items():
                # By its own a product of two activations is like any other.
                known = [p for p in planned.get(key, ()) if p.kernel or level != "own"]
                if known:
                    found.update(self._pair(ops, known))
            left = [op for op in left if op not in found]
        self._float.update(op for op, layer in found.items() if not layer.quantizers)
        found = {op: layer for op, layer in found.items() if layer.quantizers}
        _check_types(found)
        self.bound.update(found)
        if self.outputs:
            self._find_outputs(backward)
        return found

    def missing(self):
        """The planned layers that were not found so far."""
        return [
            layer for layer in self._placement.layers if layer.op not in self._found
        ]

    def unplanned(self):
        """[graph.layers.Layer] that the placement does not have."""
        known = {op.name for op in (*self.bound, *self._float)}
        return [
            layer
            for layer in self._layers
            if layer.op not in known and not is_state(layer.op)
        ]

    def why_missing(self, layer):
        """Why a layer was not found; "" if that is not known."""
        if not layer.kernel:
            return ""
        for other in self._layers:
            if other.kernel is None and other.op_type == layer.op_type:
                op = self._graph.get_operation_by_name(other.op)
                sources = ancestors([op.inputs[layer.weights.index]])
                if any(source.name == layer.kernel for source in sources):
                    return f"in {other.op!r} {other.reason}"
        return ""

    def _pair(self, ops, layers):
        """Which of the layers with one address the ops are."""
        if len({layer.quantizers for layer in layers}) == 1:
            self._found.update(layer.op for layer in layers)
            return {op: layers[0] for op in ops}
        left = [layer for layer in layers if layer.op not in self._found]
        if len(ops) > len(left):
            raise PlanError(
                f"quantization: {ops[-1].name!r} is a layer more than the "
                f"{len(layers)} that the graph that predicts has of its kind (such as "
                f"{layers[0].op!r}), and cannot be told from them; build as many in "
                "every mode, or leave them out with exclude_scopes or fp32_layers"
            )
        self._found.update(layer.op for layer in left[: len(ops)])
        return dict(zip(ops, left))

    def _find_outputs(self, backward):
        types = {output.op_type for output in self._placement.outputs}
        ops = {
            op: self._addresses.of(op)
            for op in self._graph.get_operations()
            if op.type in types and op not in backward and not is_state(op.name)
        }
        by_address = _groups(ops, ops.get, "near")
        for output in self._placement.outputs:
            alike = by_address.get(output.address.near, [])
            self.outputs[output.tensor] = _at_turn(alike, output)

    def missing_outputs(self):
        """Names of tensors that post_quant quantizes and that were not found so far."""
        return [name for name, ops in self.outputs.items() if not ops]


def _check_types(found):
    for op, layer in found.items():
        for operand in layer.activations:
            dtype = op.inputs[operand.index].dtype.base_dtype
            if dtype != tf.float32:
                raise PlanError(
                    f"quantization: layer {op.name!r} works on {dtype.name} in this "
                    "graph and on float32 in the one that predicts, and only float32 "
                    "is quantized; use float32 in every mode, or add "
                    f"{layer.op!r} to fp32_layers"
                )


def _groups(things, address_of, level):
    """{address: [thing]}, in their order."""
    groups = {}
    for thing in things:
        groups.setdefault(getattr(address_of(thing), level), []).append(thing)
    return groups


def _at_turn(ops, output):
    """Those of the ops with an output's address that it is: the one of its name, or
    of each copy the one at its turn; [] if that cannot be told."""
    named = [op for op in ops if op.outputs[0].name == output.tensor]
    if len(ops) == output.count:
        return [ops[output.turn]]
    # Copies do not feed each other; what dropout adds behind an output does.
    before = ancestors(tensor for op in ops for tensor in op.inputs)
    if len(ops) % output.count == 0 and before.isdisjoint(ops):
        return ops[output.turn :: output.count]
    return named
