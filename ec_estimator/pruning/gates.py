"""The pruner in a training graph: importance every step, and the ops of a trial."""
import os

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.channels.planned import planned_channels
from ec_estimator.core import tf_private
from ec_estimator.core.compressor import Attached, TrialReport
from ec_estimator.core.errors import CompressionError
from ec_estimator.core.state import create_variable
from ec_estimator.graph.variables import checkpoint_name
from ec_estimator.graph.walk import ancestors
from ec_estimator.pruning.selection import choose
from ec_estimator.rewrite.updates import zero_out
from ec_estimator.shrink.artifact import (
    FOLDER,
    fetch_values,
    join_kept,
    write_artifact,
)
from ec_estimator.shrink.structure import layer_structures


class Gates(Attached):
    """Which groups are alive, and how important each one is; both in the checkpoint."""

    def __init__(self, config, kernels, groups, variables):
        self._config = config
        self._gated = {part for kernel in kernels for part in kernel.parts}
        self._groups = groups
        # Of all variables that hold or read channels, in the plan's group numbers.
        self._axes = groups.channels.axes
        self._readers = groups.channels.readers
        self._readings = []
        self._variables = variables
        self._edges = {}
        # {variable name: [its shares of the derivatives]}, and all shares by group.
        self._shares = {}
        self._contributions = []
        self._steps = []
        self._structure = {}
        self._trials = create_variable("pruning/trial", [], tf.int64, 0)
        self._alive = create_variable("pruning/alive", [groups.count], tf.float32, 1)
        self._importance = create_variable(
            "pruning/importance", [groups.count], tf.float32, 0
        )

    @property
    def trial_counter(self):
        return self._trials

    @property
    def step_ops(self):
        return self._steps

    def gate(self, variable_name, update):
        with tf.init_scope():
            mask = self._mask(variable_name, self._alive)
        # Importance reads the weights that the gradient belongs to, not those after
        # the update: a reference variable changes in place.
        with tf.control_dependencies(self._shares.get(variable_name, [])):
            return tf.multiply(update, mask, name="ec_estimator/gate")

    def _mask(self, name, alive):
        """1 where a reader's weights live; broadcasts to the variable's shape."""
        rank = len(self._axes[name])
        mask = tf.ones([1] * rank)
        for axis in self._readers[name]:
            vector = self._groups.removable(self._axes[name][axis])
            lives = tf.gather(alive, np.maximum(vector, 0))
            lives = tf.maximum(lives, (vector < 0).astype(np.float32))
            shape = [-1 if other == axis else 1 for other in range(rank)]
            mask *= tf.reshape(lives, shape)
        return tf.cast(mask, self._variables[name].dtype.base_dtype)

    def learn(self, graph, losses, backward):
        groups = self._groups
        self._variables = {v.op.name: v for v in graph.get_collection("variables")}
        seen = planned_channels(graph, losses, groups.channels, backward)
        self._axes, self._readers = seen.axes, seen.readers
        self._structure = layer_structures(losses)
        self._readings = [
            (reading, groups.removable(reading.groups)) for reading in seen.readings
        ]
        self._gated |= {
            name
            for name, axes in self._readers.items()
            if name in self._variables
            # A table, whose first axis has no channels, gets sparse gradients.
            and not any(vector is None for vector in self._axes[name])
            and any((groups.removable(self._axes[name][a]) >= 0).any() for a in axes)
        }

    @property
    def gated(self):
        return self._gated

    def watch(self, graph):
        """Gives every reading layer an edge of its own to its kernel.

        A gradient with respect to the edge is that of the layer alone: no regularizer
        that reads the same variable has a share in it. An Identity costs nothing.
        """
        edges = []
        for reading, groups in self._readings:
            if reading.op in self._edges or not (groups >= 0).any():
                continue
            op = graph.get_operation_by_name(reading.op)
            kernel = op.inputs[reading.index]
            with tf_private.context_of_inputs(op), tf.name_scope(None):
                edge = tf.identity(kernel, "ec_estimator/edge")
            tf_private.replace_input(op, reading.index, edge)
            self._edges[reading.op] = (edge, reading.axis, groups)
            edges.append(edge)
        return edges

    def observe(self, edges, gradients):
        by_edge = {edge.name: rest for edge, *rest in self._edges.values()}
        for edge, gradient in zip(edges, gradients):
            if gradient is not None and edge.name in by_edge:
                self.contribute(edge, gradient, *by_edge[edge.name])

    def watch_finished(self, graph, gradients_of):
        for reading, groups in self._readings:
            op = graph.get_operation_by_name(reading.op)
            if (groups >= 0).any():
                for gradient in gradients_of(op, reading.index):
                    kernel = op.inputs[reading.index]
                    self.contribute(kernel, gradient, reading.axis, groups)

    def contribute(self, kernel, gradient, axis, groups):
        """Adds a layer's share of dL/d(gate): sum of W * dL/dW for each group.

        Args:
          kernel, gradient: tensors of one shape; gradient of the loss.
          axis: the axis of the kernel's input channels.
          groups: [channels] group of each, -1 for none.
        """
        axes = [a for a in range(kernel.shape.rank) if a != axis % kernel.shape.rank]
        with tf.name_scope("ec_estimator/pruning/importance_ops/"):
            share = tf.reduce_sum(tf.cast(kernel * gradient, tf.float32), axes)
            for op in ancestors([kernel]):
                self._shares.setdefault(op.name, []).append(share)
            # Negative segment numbers are dropped.
            share = tf.math.unsorted_segment_sum(share, groups, self._groups.count)
        self._contributions.append(share)

    def finish(self, companions):
        with tf.name_scope("ec_estimator/pruning/trial_ops/"):
            if self._contributions:
                new = tf.square(tf.add_n(self._contributions))
                alpha = self._config.ema_alpha
                average = alpha * self._importance + (1 - alpha) * new
                self._steps = [self._importance.assign(average).op]
            self._new_trials = tf.placeholder(tf.int64, [])
            self._new_alive = tf.placeholder(tf.float32, [self._groups.count])
            updates = [
                self._trials.assign(self._new_trials),
                self._alive.assign(self._new_alive),
            ]
            # A reader that is not trained has to stop reading all the same.
            for name in sorted(self._gated):
                updates.extend(self._resets(name, companions.get(name, [])))
            self._trial = tf.group(*updates)

    def _resets(self, name, followers):
        variable = self._variables[name]
        mask = tf.broadcast_to(self._mask(name, self._new_alive), variable.shape)
        yield zero_out(variable, mask)
        for follower in followers:
            yield follower.reset(mask)

    def run_trial(self, session, trial, ratio):
        importance, alive = session.run([self._importance, self._alive])
        if not self._contributions:
            raise CompressionError(
                "pruning: no gradient of a layer was seen, so importance is not known; "
                "take gradients with tf.gradients or tf.train.Optimizer"
            )
        if not np.all(np.isfinite(importance)):
            raise CompressionError(
                "pruning: importance is not finite: training has diverged; lower the "
                "learning rate or start from an earlier checkpoint"
            )
        choice = choose(
            self._groups,
            importance,
            alive > 0,
            ratio,
            self._config.prune_sort_range,
            self._config.channel_align,
            self._groups.remaining(self._config.ratio_metric),
        )
        feeds = {self._new_trials: trial, self._new_alive: choice.alive}
        session.run(self._trial, feeds)
        return TrialReport(
            choice.ratio, self._groups.gone_of_producers(choice.alive), choice.notes
        )

    def save(self, session, folder, step, variables):
        alive = session.run(self._alive) > 0
        everything = np.ones_like(alive)
        groups, trials = self._groups, int(session.run(self._trials))
        kept = {n: groups.kept(axes, alive) for n, axes in self._axes.items()}
        served = [v for v in variables if v.op.name in groups.channels.axes]
        facts = {
            "trials": trials,
            "num_trials": self._config.num_trials,
            "params": [groups.params(everything), groups.params(alive)],
            "macs": [groups.macs(everything), groups.macs(alive)],
            "layers": [layer._asdict() for layer in groups.layers],
            "served": sorted({checkpoint_name(variable) for variable in served}),
            "structure": self._structure,
        }
        write_artifact(
            os.path.join(folder, FOLDER),
            fetch_values(session, variables),
            join_kept(variables, kept),
            facts,
            step,
        )
