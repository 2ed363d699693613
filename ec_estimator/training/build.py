"""The training graph of a compressed model_fn, and the hooks that it trains with."""
import contextlib
import os
from typing import Any, NamedTuple, Tuple

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_savers
from ec_estimator.core.errors import PlanError
from ec_estimator.core.finished import FOLDER
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.ranks import ranks_in
from ec_estimator.graph.savers import names_in, saver_of
from ec_estimator.training.announce import announce_plan, announce_with
from ec_estimator.training.checks import warn_of_no_checkpoints
from ec_estimator.training.cluster import AwaitStart, ClusterTrialHook
from ec_estimator.training.hook import TrialHook, bind

# What strategies are made of, also those of tf.contrib and MultiWorkerMirroredStrategy.
_EXTENDED = (
    *("DefaultDistributionExtended", "OneDeviceExtended", "MirroredExtended"),
    "ParameterServerStrategyExtended",
)


def check_strategy(strategy):
    """
    Raises:
      PlanError: TRAIN cannot be compressed under this distribution strategy.
    """
    kinds = {kind.__name__.lstrip("_") for kind in type(strategy.extended).__mro__}
    name = f"train_distribute={type(strategy).__name__}"
    if kinds.isdisjoint(_EXTENDED):
        raise PlanError(
            f"{name}: training cannot be compressed under this distribution strategy; "
            "use MirroredStrategy or ParameterServerStrategy, or a TF_CONFIG cluster "
            "without a strategy"
        )


class Hooks(NamedTuple):
    """What a training session needs besides the user's own: on every worker, and on the
    chief alone, before and after the user's."""

    all: Tuple[Any, ...] = ()
    before_chief: Tuple[Any, ...] = ()
    chief: Tuple[Any, ...] = ()


class Training:
    """A training graph while it is built.

    A distribution strategy has it built by several replicas, each in a thread of its
    own, in turn; what is here is there once for all of them.

    Args:
      attachment: training.attachment.Attachment of the graph.
    """

    def __init__(self, attachment):
        self._attachment = attachment
        # Of the session; known when the graph is complete.
        self.scaffold = None
        self._gradients = contextlib.ExitStack()
        self._gradients.enter_context(attachment.gradients())

    @property
    def train_ops(self):
        return self._attachment.train_ops

    @contextlib.contextmanager
    def replica(self):
        """Context in which a replica builds its model."""
        try:
            with self._attachment.variables():
                yield
        except BaseException:
            # Nobody comes to `finish`.
            self._gradients.close()
            raise

    def finish(self, spec, config):
        """Completes a graph that all replicas have built.

        Args:
          spec: EstimatorSpec of the first replica.
          config: tf.estimator.RunConfig.

        Returns:
          Hooks.
        """
        self._gradients.close()
        attachment = self._attachment
        # A hook may run updates besides, such as those of a GAN's other network.
        has_hooks = spec.training_hooks or spec.training_chief_hooks
        attachment.finish(
            None if has_hooks else spec.train_op,
            saver_of(spec.scaffold, attachment.graph),
        )
        self.scaffold = saving_state(spec.scaffold, attachment.state)
        return self._of_chief(config) if config.is_chief else self._of_other()

    def _of_chief(self, config):
        attachment = self._attachment
        folder = RunFolder(os.path.join(config.model_dir, FOLDER)).create()
        bind(folder, attachment)
        announce_plan(attachment.graph, attachment.plan)
        trials = attachment, folder, config.model_dir
        if ranks_in(attachment.graph):
            warn_of_no_checkpoints(config)
            return Hooks(all=(TrialHook(*trials),))
        # A chief without workers may still have its updates applied beside its steps.
        if config.num_worker_replicas > 1 or config.num_ps_replicas:
            # A saver of the user's saves as soon as there is a session; ours is ready.
            return Hooks(
                before_chief=(ClusterTrialHook(*trials, scaffold=self.scaffold),)
            )
        return Hooks(chief=(TrialHook(*trials),))

    def _of_other(self):
        attachment = self._attachment
        if not ranks_in(attachment.graph):
            return Hooks(all=(AwaitStart(attachment),))
        # It has a model of its own, and runs its trials as the chief does, who tells
        # of them.
        announce_with(attachment.graph, lambda line: tf.logging.debug("%s", line))
        return Hooks(all=(TrialHook(attachment, folder=None, summary_dir=None),))


def with_ops(train_op, ops):
    """A train_op that runs others, too, and returns what it returned."""
    if not ops:
        return train_op
    if isinstance(train_op, tf.Operation):
        return tf.group(train_op, *ops)
    with tf.control_dependencies(ops):
        return tf.identity(train_op)


def saving_state(scaffold, state):
    """A Scaffold whose Saver holds our variables too.

    A Saver that is not built yet takes all variables when it is. One that is, or that
    was given a list, gets a successor with ours added.
    """
    scaffold = scaffold or tf.train.Scaffold()
    savers = tf.get_collection_ref(tf.GraphKeys.SAVERS)
    own = saver_of(scaffold, tf.get_default_graph())
    if own is None or tf_savers.saver_variables(own) is None and not own.saver_def:
        return scaffold
    variables = tf_savers.saver_variables(own)
    if variables is None:
        raise PlanError(
            "the Scaffold's Saver was made from a saver_def, so the compression state "
            "cannot be added to it; make it from a list of variables"
        )
    if isinstance(variables, dict):
        # Made of tf.global_variables(), it may have some of ours under other names.
        ours = {v.op.name: v for v in state}
        users = {
            name: value
            for name, value in variables.items()
            if ours.keys().isdisjoint(names_in(value))
        }
        variables = {**users, **ours}
    else:
        # Taken with tf.global_variables(), it may hold some of ours already.
        variables = list(dict.fromkeys([*variables, *state]))
    successor = tf.train.Saver(variables, **tf_savers.saver_options(own))
    if own in savers:
        savers[savers.index(own)] = successor
    return tf.train.Scaffold(saver=successor, copy_from_scaffold=scaffold)
