"""The compressors in one training graph, whichever way they came into it."""
import contextlib

from ec_estimator.core import tf_intercept, tf_private
from ec_estimator.core.compressor import Attached, Trained
from ec_estimator.core.errors import PlanError
from ec_estimator.core.memory import recall, remember
from ec_estimator.core.replicas import others, variables_of
from ec_estimator.core.state import is_state
from ec_estimator.graph.backward_pass import backward_ops, forward_ends
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.plan import make_plan
from ec_estimator.graph.savers import saved_variables, served_from
from ec_estimator.graph.variables import checkpoint_name, model_variables
from ec_estimator.rewrite.backward import gate_gradients, kernel_gradients
from ec_estimator.rewrite.reads import gated_reads, gated_variables, ungated_reads
from ec_estimator.rewrite.updates import gate_updates
from ec_estimator.training.checks import (
    check_complete,
    check_not_imported,
    check_trains,
    warn_of_reader,
    warn_of_zero_targets,
)
from ec_estimator.training.gate import Gate
from ec_estimator.training.passes import ForwardPasses

_ATTACHED = "attached"


class Attachment:
    """Gates what reaches the planned kernels, and holds the ops of the trials.

    Args:
      graph: the training graph, which is the default.
      plan: graph.plan.Plan.
      compressors: [Compressor], applied left to right.
    """

    def __init__(self, graph, plan, compressors):
        if recall(graph, _ATTACHED):
            raise PlanError(
                "this graph has a compression hook already; use one hook or one "
                "compress() a graph, with all compressors in its list"
            )
        self.graph = graph
        check_not_imported(graph, self.state)
        remember(graph, _ATTACHED, True)
        warn_of_zero_targets(compressors)
        self.plan = plan
        self.compressors = compressors
        self.attached = [
            compressor.inject(
                graph,
                [plan.kernels[name] for name in plan.targets[compressor.name]],
                plan.details[compressor.name],
            )
            for compressor in compressors
        ]
        self._gate = Gate(graph, self.attached)
        self._forward_passes = ForwardPasses(graph, self.attached)

    @property
    def names(self):
        """The names of all variables whose updates are gated: those that are planned
        and, once compressors have looked at the training graph, what they found."""
        return frozenset().union(*(attached.gated for attached in self.attached))

    @property
    def state(self):
        """Our variables in the graph."""
        return [v for v in variables_of(self.graph) if is_state(v.op.name)]

    @contextlib.contextmanager
    def gradients(self):
        """Context in which the model is built, inside of `variables`, and its gradients
        come out gated. One for all replicas of a distribution strategy."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(gated_reads(self.graph, self._gate.read))
            if any(type(part).look is not Attached.look for part in self.attached):
                stack.enter_context(
                    tf_intercept.intercept_gradients(
                        self.graph, self._forward_passes.take
                    )
                )
            yield
        for name, reader in ungated_reads(self.graph, self.names):
            warn_of_reader(name, reader)

    def variables(self):
        """Context in which a replica builds its model."""
        return gated_variables(self.graph)

    def read_gradients(self):
        """`gradients` for a graph that has its gradients: finds and gates them."""
        backward = backward_ops(self.graph)

        def observe(observer, op, index, receive):
            for gradient in kernel_gradients(backward, op, index):
                receive(op.inputs[index], gradient)

        self._forward_passes.look(forward_ends(self.graph, backward), observe)
        check_complete(self.graph, self.plan, self._planned())
        for name in sorted(self.names):
            readers = gate_gradients(self.graph, backward, name, self._gate.gradient)
            for reader in readers:
                warn_of_reader(name, reader)

    def finish(self, train_op=None, saver=None):
        """Completes a graph that now has its optimizer.

        Args:
          train_op: all that a training step runs, if that is known.
          saver: the user's, if that is known.
        """
        # Raises what is wrong before anything is changed.
        self._forward_passes.look((), observe=lambda *observation: None)
        check_complete(self.graph, self.plan, self._planned())
        self._settle()
        check_trains(self.graph, self._planned())
        self.model_variables = model_variables(self.graph)
        self.saved = saved_variables(saver, self.graph)
        sources = served_from(self.plan.restored, self.saved)
        companions = gate_updates(self.graph, self.names, self._gate.update, train_op)
        # A graph that updates nothing tells nothing: gradients may be all it is for.
        companions = companions or {name: [] for name in self.names & self._planned()}
        backward = {
            op for op in self.graph.get_operations() if tf_private.forward_op(op)
        }
        self.plan = self.plan.bound(
            find_layers(self.graph, backward),
            {
                compressor.name: attached.gated - set(companions)
                for compressor, attached in zip(self.compressors, self.attached)
            },
        )
        first = self._a_planned_variable().initializer
        every_step = [
            attached.finish(
                Trained(
                    {n: c for n, c in companions.items() if n in attached.gated},
                    self.model_variables,
                    sources,
                )
            )
            for attached in self.attached
        ]
        # Made now if a compressor has not: later the graph is finalized.
        self.trial_counters = [attached.trial_counter for attached in self.attached]
        self.train_ops = [op for ops in every_step for op in ops.train_op]
        self.chief_ops = [op for ops in every_step for op in ops.chief]
        # Before a compressor gave that variable another initializer.
        tf_private.join_groups(first, [v.initializer for v in self.state])
        self.changed = self._changed(companions)
        self._shared = [
            copy.assign(variable)
            for variable in self.changed
            for copy in others(variable, self.graph)
        ]

    def _changed(self, companions):
        """The variables, other than ours, that trials may change."""
        followers = (c.variable for found in companions.values() for c in found)
        changed = {v.op.name: v for v in followers}
        changed.update(
            (v.op.name, v) for v in self.model_variables if v.op.name in self.names
        )
        return list(changed.values())

    def run_trial(self, session, index, trial, ratio):
        """Has a compressor run a trial, for all replicas; returns its Report."""
        report = self.attached[index].run_trial(session, trial, ratio)
        if self._shared:
            session.run(self._shared)
        return report

    @property
    def served_variables(self):
        """The model's own, and those of ours that it is served with."""
        return [*self.model_variables, *self._served_state]

    @property
    def _served_state(self):
        return [v for attached in self.attached for v in attached.served_variables]

    @property
    def served_names(self):
        """What those are called in the user's checkpoints."""
        own = {v.op.name for v in self.model_variables}
        return {
            name
            for name, variables in self.saved.items()
            if not own.isdisjoint(v.op.name for v in variables)
        }.union(map(checkpoint_name, self._served_state))

    def _settle(self):
        for attached in self.attached:
            settled = attached.settle()
            if settled is not None:
                self.plan = self.plan.settled(attached.name, *settled)

    def initialize_with_model(self, state):
        """Has an init_op of the user's, made before our variables, initialize them."""
        tf_private.join_groups(
            self._a_planned_variable().initializer, [own.initializer for own in state]
        )

    def _a_planned_variable(self):
        names = self.names | self._planned()
        variables = variables_of(self.graph)
        return min(
            (v for v in variables if v.op.name in names), key=lambda v: v.op.name
        )

    def _planned(self):
        """Names of the variables that hold planned kernels."""
        return {part for k in self.plan.kernels.values() for part in k.parts}


def attach_to_finished_graph(graph, compressors):
    """Attaches to a graph that has its backward pass and optimizer already.

    Raises:
      PlanError, ConfigError: nothing to compress, a second hook, a scope that matches
        nothing, an update that cannot be gated.
    """
    backward = backward_ops(graph)
    check_trains(graph, {v.op.name for v in variables_of(graph, "trainable_variables")})
    skip = {op for ops in backward.values() for op in ops}
    losses = forward_ends(graph, backward)
    # Without the products of Winograd convolutions, which are ours.
    layers = [layer for layer in find_layers(graph, skip) if not is_state(layer.op)]
    plan = make_plan("session", graph, layers, None, compressors, losses)
    with graph.as_default():
        attachment = Attachment(graph, plan, compressors)
        attachment.read_gradients()
        attachment.finish()
    return attachment
