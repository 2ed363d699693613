"""The compressors in one training graph, whichever way they came into it."""
import weakref

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.compressor import Compressor
from ec_estimator.core.errors import CompressionError, PlanError
from ec_estimator.core.state import is_state
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.plan import make_plan
from ec_estimator.graph.variables import model_variables, owner
from ec_estimator.rewrite.backward import (
    backward_ops,
    forward_ends,
    gate_gradients,
    kernel_gradients,
)
from ec_estimator.rewrite.gradients import gated_gradients
from ec_estimator.rewrite.updates import gate_updates

_attached_graphs = weakref.WeakSet()


class Attachment:
    """Gates what reaches the planned kernels, and holds the ops of the trials.

    Args:
      graph: the training graph.
      plan: graph.plan.Plan.
      compressors: [Compressor], applied left to right.
    """

    def __init__(self, graph, plan, compressors):
        if graph in _attached_graphs:
            raise PlanError(
                "this graph has a compression hook already; use one hook or one "
                "compress() a graph, with all compressors in its list"
            )
        self.graph = graph
        known = {name for c in compressors for name in c.prepared(graph)}
        # Step sizes are trained, and an optimizer keeps its own variables of them.
        strange = [
            name
            for name in (v.op.name for v in self.state)
            if name not in known and owner(name, known) is None
        ]
        if strange:
            raise PlanError(
                f"this graph was imported from a compressed run: it has "
                f"{strange[0]!r}, but what belongs to it is not known; "
                "rebuild the model in Python, its checkpoints can be restored then"
            )
        _attached_graphs.add(graph)
        self.plan = plan
        self.compressors = compressors
        self._attached = None
        self._losses = []
        # What comes straight from a gated gradient needs no second multiplication.
        self._gated = set()
        self._parts = {
            c.name: frozenset(
                part
                for target in plan.targets[c.name]
                for part in plan.kernels[target].parts
                if c.changes_kernels
            )
            for c in compressors
        }

    @property
    def names(self):
        """The names of all variables whose updates are gated: those that are planned
        and, once compressors have looked at the training graph, what they found."""
        found = [attached.gated for attached in self._attached or ()]
        return frozenset().union(*self._parts.values(), *found)

    def _named(self):
        """(Attached, names of the variables whose updates it gates)."""
        for compressor, attached in zip(self.compressors, self.attached):
            yield attached, self._parts[compressor.name] | attached.gated

    @property
    def attached(self):
        """[Attached], in the order of the compressors.

        Made on first use and not before: as long as no op of ours is in the graph, the
        user's initializers and dropout get the seeds that they have without us.
        """
        if self._attached is None:
            variables = {v.op.name: v for v in self.graph.get_collection("variables")}
            missing = sorted(self.names - set(variables))
            if missing:
                raise PlanError(
                    f"kernel {missing[0]!r} of the {self.plan.mode} graph is not in "
                    "the training graph; its name must be the same in both modes"
                )
            self._attached = [
                compressor.attach(
                    [self.plan.kernels[k] for k in self.plan.targets[compressor.name]],
                    variables,
                    self.plan.details[compressor.name],
                )
                for compressor in self.compressors
            ]
        return self._attached

    def gate(self, name, update):
        """What of an update reaches variable `name`; each update is gated once."""
        source = update
        while source.op.type == "Identity":
            source = source.op.inputs[0]
        if (name, source.name) in self._gated:
            return update
        for attached, names in self._named():
            if name in names:
                update = attached.gate(name, update)
        self._gated.add((name, update.name))
        return update

    def gradients(self):
        """Context in which gradients that are taken come out gated."""
        return gated_gradients(
            self.graph,
            lambda name: name in self.names,
            self.gate,
            self._watch,
            self._observe,
        )

    def learn(self, losses=()):
        """Has the compressors look at the graph as it is now.

        Args:
          losses: tensors whose gradients are taken, besides those of earlier calls.
        """
        self._losses = list(dict.fromkeys([*self._losses, *losses]))
        backward = backward_ops(self.graph).values()
        backward = frozenset(op for ops in backward for op in ops)
        for attached in self.attached:
            attached.learn(self.graph, self._losses, backward)

    def _watch(self, losses, names):
        trainable = {
            v.op.name for v in self.graph.get_collection("trainable_variables")
        }
        if trainable.isdisjoint(names):
            return []
        self.learn(losses)
        return [t for attached in self.attached for t in attached.watch(self.graph)]

    def _observe(self, tensors, gradients):
        for attached in self._attached or ():
            attached.observe(tensors, gradients)

    def finish(self):
        """Completes a graph that now has its optimizer."""
        self.learn()  # Raises what is wrong before anything is changed.
        self.model_variables = model_variables(self.graph)
        companions = gate_updates(self.graph, self.names, self.gate)
        # A graph that updates nothing tells nothing: gradients may be all it is for.
        written = frozenset().union(*self._parts.values())
        companions = companions or {name: [] for name in written}
        changing = {c.name for c in self.compressors if c.changes_kernels}
        self.plan = self.plan.without_untrained(companions, changing)
        for part, names in self._named():
            part.finish({n: c for n, c in companions.items() if n in names})
        self.initialize_with_model(self.state)

    def initialize_with_model(self, state):
        """Has an init_op of the user's, made before our variables, initialize them."""
        parts = {part for k in self.plan.kernels.values() for part in k.parts}
        first = min(name for name in self.names | parts if not is_state(name))
        for variable in self.graph.get_collection("variables"):
            if variable.op.name == first:
                tf_private.join_groups(
                    variable.initializer, [own.initializer for own in state]
                )

    @property
    def state(self):
        """Our variables in the graph."""
        return [
            v for v in self.graph.get_collection("variables") if is_state(v.op.name)
        ]


def attach_to_finished_graph(graph, compressors):
    """Attaches to a graph that has its backward pass and optimizer already.

    Raises:
      PlanError, ConfigError: nothing to compress, a second hook, a scope that matches
        nothing, an update that cannot be gated.
    """
    backward = backward_ops(graph)
    skip = {op for ops in backward.values() for op in ops}
    losses = forward_ends(graph, backward)
    layers = find_layers(graph, skip)
    plan = make_plan("session", graph, layers, None, compressors, losses)
    attachment = Attachment(graph, plan, compressors)
    with graph.as_default():
        attachment.learn(losses)
        for attached in attachment.attached:
            attached.watch_finished(
                graph, lambda op, index: kernel_gradients(backward, op, index)
            )
        # What we train ourselves, step sizes, has no zeros that a gradient could touch.
        for name in sorted(n for n in attachment.names if not is_state(n)):
            for reader in gate_gradients(graph, backward, name, attachment.gate):
                tf.logging.warning(
                    "No gradient of kernel %s was found at %s, which reads it. Its "
                    "zeros are kept, but a clipping by norm counts the gradients of "
                    "removed weights; take all gradients in one call of tf.gradients "
                    "or tf.train.Optimizer.",
                    name,
                    reader,
                )
        attachment.finish()
    return attachment


def as_compressors(compressors):
    """A compressor or a list of them as a tuple.

    Raises:
      CompressionError: something else, none, or two of a kind.
    """
    if isinstance(compressors, Compressor):
        compressors = (compressors,)
    compressors = tuple(compressors)
    for compressor in compressors:
        if not isinstance(compressor, Compressor):
            raise CompressionError(
                f"{compressor!r} is not a compressor; pass for example "
                "Sparsifier(SparsifierConfig())"
            )
    names = [compressor.name for compressor in compressors]
    if not names or len(set(names)) < len(names):
        raise CompressionError(
            f"compressors {names}: give at least one, and each kind once"
        )
    if "sparsity" in names and any(
        getattr(compressor.config, "wbits", None) == 1 for compressor in compressors
    ):
        raise PlanError(
            "QuantizerConfig.wbits: weights at 1 bit are +s or -s and have no zero, so "
            "they can't be sparse; use 2 bits or more with a Sparsifier"
        )
    return compressors
