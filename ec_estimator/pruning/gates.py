"""The pruner in a training graph: importance every step, and the ops of a trial."""
import os

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.compressor import Attached, TrialReport
from ec_estimator.core.errors import CompressionError
from ec_estimator.core.state import create_variable
from ec_estimator.graph.channels import find_channels
from ec_estimator.graph.structure import layer_structures
from ec_estimator.graph.variables import checkpoint_name, slice_info
from ec_estimator.graph.walk import ancestors
from ec_estimator.pruning.artifact import FOLDER, fetch_values, write_artifact
from ec_estimator.pruning.selection import choose
from ec_estimator.rewrite import tf_private
from ec_estimator.rewrite.updates import zero_out


class Gates(Attached):
    """Which groups are alive, and how important each one is; both in the checkpoint."""

    def __init__(self, config, kernels, groups, variables):
        self._config = config
        self._gated = sorted({part for kernel in kernels for part in kernel.parts})
        self._groups = groups
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
        channels = self._groups.channels
        rank = len(channels.axes[name])
        mask = tf.ones([1] * rank)
        for axis in channels.readers[name]:
            vector = channels.axes[name][axis]
            shape = [-1 if other == axis else 1 for other in range(rank)]
            mask *= tf.reshape(tf.gather(alive, vector), shape)
        return tf.cast(mask, self._variables[name].dtype.base_dtype)

    def watch(self, graph, losses, names):
        """Gives every reading layer an edge of its own to its kernel.

        A gradient with respect to the edge is that of the layer alone: no regularizer
        that reads the same variable has a share in it. An Identity costs nothing.
        """
        self._structure = layer_structures(losses)
        seen = find_channels(graph, (), losses)
        to_plan = self._translation(seen)
        edges = []
        for reading in seen.readings:
            groups = to_plan[reading.groups]
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
            if gradient is not None:
                self.contribute(edge, gradient, *by_edge[edge.name])

    def watch_finished(self, graph, losses, gradients_of):
        self._structure = layer_structures(losses)
        seen = find_channels(graph, (), losses)
        to_plan = self._translation(seen)
        for reading in seen.readings:
            groups = to_plan[reading.groups]
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

    def _translation(self, seen):
        """Group numbers of another graph's channels -> those of the plan; -1: none."""
        count = 1 + max(
            (v.max() for axes in seen.axes.values() for v in axes if v is not None),
            default=-1,
        )
        numbers = np.full(count, -1)
        for name, axes in self._groups.channels.axes.items():
            for mine, its in zip(axes, seen.axes.get(name, ())):
                if mine is not None and its is not None:
                    numbers[its] = np.where(self._groups.selectable[mine], mine, -1)
        return numbers

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
            for name in self._gated:
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
        kept = self._kept(variables, alive)
        facts = {
            "trials": trials,
            "num_trials": self._config.num_trials,
            "params": [groups.params(everything), groups.params(alive)],
            "macs": [groups.macs(everything), groups.macs(alive)],
            "layers": [layer._asdict() for layer in groups.layers],
            "served": sorted(kept),
            "structure": self._structure,
        }
        write_artifact(
            os.path.join(folder, FOLDER),
            fetch_values(session, variables),
            kept,
            facts,
            step,
        )

    def _kept(self, variables, alive):
        """{checkpoint name: for each axis which positions stay}, partitions joined."""
        kept = {}
        for variable in variables:
            if variable.op.name not in self._groups.channels.axes:
                continue
            axes = self._groups.kept(variable.op.name, alive)
            name = checkpoint_name(variable)
            if name in kept:
                info = slice_info(variable)
                axis = next(a for a, start in enumerate(info.var_offset) if start)
                axes[axis] = np.concatenate([kept[name][axis], axes[axis]])
            kept[name] = axes
        return kept
