"""The pruner in a training graph: what is alive, and the ops of a trial."""
import os

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.channels.planned import planned_channels
from ec_estimator.core.compressor import Attached, EveryStep
from ec_estimator.core.devices import beside, task_of
from ec_estimator.core.errors import CompressionError
from ec_estimator.core.replicas import variables_of
from ec_estimator.core.report import TrialReport
from ec_estimator.core.state import create_variable
from ec_estimator.graph.variables import checkpoint_name
from ec_estimator.graph.walk import ancestors
from ec_estimator.pruning.importance import Importance
from ec_estimator.pruning.selection import choose
from ec_estimator.rewrite.averages import averages
from ec_estimator.rewrite.updates import Companion, remove
from ec_estimator.shrink.artifact import (
    FOLDER,
    fetch_values,
    join_kept,
    write_artifact,
)
from ec_estimator.shrink.structure import channel_inputs, layer_structures


class Gates(Attached):
    """Which groups are alive, in the checkpoint, and the ops that close their gates.

    Args:
      config: PrunerConfig.
      kernels: [graph.layers.Kernel] that read channels.
      groups: candidates.Groups.
    """

    gate_is_enough = True

    def __init__(self, config, kernels, groups):
        super().__init__("pruning")
        self._config = config
        self._groups = groups
        self.gated = frozenset(part for kernel in kernels for part in kernel.parts)
        # Of all variables that hold or read channels, in the plan's group numbers.
        self._axes = groups.channels.axes
        self._readers = groups.channels.readers
        self._variables, self._structure, self._inputs = {}, {}, {}
        self._alive, self._importance, self._graph = None, None, None

    def look(self, forward):
        groups = self._groups
        if self._alive is None:
            # Not before gradients are taken: ops of ours would shift the seeds of the
            # user's.
            self._alive = create_variable(
                "pruning/alive", [groups.count], tf.float32, 1
            )
            self._importance = Importance(groups.count, self._config.ema_alpha)
            self._graph = forward.graph
        readings = []
        if forward.has_news:
            readings = self._find_channels(forward)
        self._importance.observe(forward, readings)

    def _find_channels(self, forward):
        """Looks for what the training graph has that the plan does not know."""
        graph, groups = forward.graph, self._groups
        self._variables = {v.op.name: v for v in variables_of(graph)}
        seen = planned_channels(
            graph, forward.losses, groups.channels, forward.backward
        )
        self._axes, self._readers = seen.axes, seen.readers
        self._structure = layer_structures(ancestors(forward.losses))
        self._inputs = channel_inputs(graph, seen.readings)
        self.gated |= {
            name
            for name, axes in self._readers.items()
            if name in self._variables
            # A table, whose first axis has no channels, gets sparse gradients.
            and not any(vector is None for vector in self._axes[name])
            and any((groups.removable(self._axes[name][a]) >= 0).any() for a in axes)
        }
        return [
            (reading, groups.removable(reading.groups)) for reading in seen.readings
        ]

    def gate(self, variable_name, update):
        if task_of(self._alive.device):
            # On a cluster a trial may be done while a worker takes a step, so what is
            # alive is read when the update is there, not when the step begins.
            # Where it lands: telling who waits for the update itself is a call more.
            landed = tf.identity(update, "ec_estimator/landed")
            with tf.control_dependencies([landed]), beside(self._alive):
                alive = self._alive.read_value()
            return self._gate(variable_name, update, self._mask(variable_name, alive))
        return self.gate_gradient(variable_name, update)

    def gate_gradient(self, variable_name, gradient):
        with tf.init_scope():
            mask = self._mask(variable_name, self._alive)
        return self._gate(variable_name, gradient, mask)

    def _gate(self, variable_name, update, mask):
        with self._importance.before_update(variable_name):
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

    def finish(self, trained):
        self._served_from = trained.served_from
        with tf.name_scope("ec_estimator/pruning/trial_ops/"):
            every_step = self._importance.update(self._graph)
            self._is_finite = _all_finite(self._variables[n] for n in self.gated)
            self._new_trials = tf.placeholder(tf.int64, [])
            self._new_alive = tf.placeholder(tf.float32, [self._groups.count])
            updates = [
                self.trial_counter.assign(self._new_trials),
                self._alive.assign(self._new_alive),
            ]
            self._trial = tf.group(*updates)
            # A reader that is not trained has to stop reading all the same.
            followers = {**self._averages(trained), **trained.companions}
            self._sweep = tf.group(
                *(
                    op
                    for name in sorted(self.gated)
                    for op in self._resets(name, followers[name])
                )
            )
        return EveryStep(chief=every_step)

    def _averages(self, trained):
        """{name of a gated variable that is not trained: its averages}."""
        frozen = self.gated - set(trained.companions)
        found = averages(self._graph, frozen, self._variables)
        return {name: [Companion(v, None) for v in its] for name, its in found.items()}

    def _resets(self, name, followers):
        variable = self._variables[name]
        with beside(variable):
            mask = tf.broadcast_to(self._mask(name, self._alive), variable.shape)
        return remove(variable, mask, followers)

    def run_trial(self, session, trial, ratio):
        importance, alive, is_finite = session.run(
            [self._importance.average, self._alive, self._is_finite]
        )
        if not self._importance.is_known:
            raise CompressionError(
                "pruning: no gradient of a layer was seen, so importance is not known; "
                "take gradients with tf.gradients or tf.train.Optimizer"
            )
        if not is_finite:
            raise CompressionError(
                "pruning: weights are not finite: training has diverged; lower the "
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
        # In a run of its own: from now on no update brings back what goes.
        self.sweep(session)
        return TrialReport(
            choice.ratio, self._groups.gone_of_producers(choice.alive), choice.notes
        )

    def sweep(self, session):
        session.run(self._sweep)

    def save(self, session, folder, step, variables):
        alive = session.run(self._alive) > 0
        everything = np.ones_like(alive)
        groups, trials = self._groups, int(session.run(self.trial_counter))
        kept = {n: groups.kept(axes, alive) for n, axes in self._axes.items()}
        served = [v for v in variables if v.op.name in groups.channels.axes]
        facts = {
            "trials": trials,
            "num_trials": self._config.num_trials,
            "channel_align": self._config.channel_align,
            "params": [groups.params(everything), groups.params(alive)],
            "macs": [groups.macs(everything), groups.macs(alive)],
            "layers": [layer._asdict() for layer in groups.layers],
            "served": sorted({checkpoint_name(variable) for variable in served}),
            "structure": {n: dict(marks) for n, marks in self._structure.items()},
            "inputs": self._inputs,
        }
        write_artifact(
            os.path.join(folder, FOLDER),
            fetch_values(session, variables, self._served_from),
            join_kept(variables, kept),
            facts,
            step,
        )


def _all_finite(variables):
    """Whether no weight is NaN or infinite. Importance tells nothing of it: a step
    whose gradients are not finite does not count."""
    found = [_is_finite(variable) for variable in variables]
    return tf.reduce_all(tf.convert_to_tensor(found, tf.bool))


def _is_finite(variable):
    # A sum needs no copy in the size of a kernel.
    with beside(variable):
        return tf.is_finite(tf.reduce_sum(tf.cast(variable, tf.float32)))
