"""Trials where other workers train, too: between-graph replication, TF_CONFIG.

The chief runs the trials. Others move the global step on meanwhile, so a trial comes at
its step or soon after it; and what they had computed before it lands after it. Updates
are gated on the parameter server, as they land; an update that is being written while
the masks change is swept away: with the chief's next step, and before a checkpoint.
"""
import time

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_savers
from ec_estimator.training.hook import TrialHook

# Seconds between two looks at whether the chief has started.
_POLL = 0.2


class ClusterTrialHook(TrialHook):
    """Runs the trials of a run that has other workers; for the chief.

    Args: as of TrialHook.
    """

    _has_unswept = False

    def after_create_session(self, session, coord):
        super().after_create_session(session, coord)
        # How far the global step moves in a step of the chief's tells how many others
        # there are, not where its next step begins.
        self._stride = 1

    def after_run(self, run_context, run_values):
        super().after_run(run_context, run_values)
        if self._has_unswept:
            self._sweep(run_context.session)

    def prepare_checkpoint(self, session, step):
        """Has a checkpoint of global step `step` hold all trials up to there.

        The chief may never see the last steps: others take them.
        """
        self._step = max(self._step, int(step))
        self._run_due_trials(session)
        if any(self._done):
            self._sweep(session)

    def end(self, session):
        # Others may have taken the last steps, and their trials belong to what is said
        # and written at the end, as they do to the last checkpoint.
        self.prepare_checkpoint(session, session.run(self._step_tensor))
        super().end(session)

    def on_trial(self):
        self._has_unswept = True

    def _sweep(self, session):
        for attached in self._attachment.attached:
            attached.sweep(session)
        self._has_unswept = False


class BeforeCheckpoints(tf.train.CheckpointSaverListener):
    """Has a ClusterTrialHook prepare each checkpoint."""

    def __init__(self, hook):
        self._hook = hook

    def before_save(self, session, global_step_value):
        self._hook.prepare_checkpoint(session, global_step_value)


class AwaitStart(tf.train.SessionRunHook):
    """Has a worker wait until the chief has done what comes before the first step.

    Args:
      attachment: training.attachment.Attachment of the session's graph.
      every_step: ops to run with each of the worker's.
    """

    def __init__(self, attachment, every_step=()):
        self._attachment = attachment
        self._every_step = list(every_step)

    def begin(self):
        started = (attached.started for attached in self._attachment.attached)
        self._started = [tensor for tensor in started if tensor is not None]

    def after_create_session(self, session, coord):
        while not all(session.run(self._started)):
            time.sleep(_POLL)

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._every_step)


def chief_hooks(config, attachment, folder, spec):
    """The hooks of the chief of a run with other workers.

    Args:
      config: tf.estimator.RunConfig.
      attachment: training.attachment.Attachment of the training graph.
      folder: RunFolder.
      spec: EstimatorSpec; its Scaffold's Saver, if it has one, is the session's.

    Returns:
      List of hooks. A saver of checkpoints, as Estimator would make it, is one of them,
      unless the user's own are; those get a listener.
    """
    hook = ClusterTrialHook(attachment, folder, config.model_dir)
    users = [
        other
        for other in (*spec.training_hooks, *spec.training_chief_hooks)
        if isinstance(other, tf.train.CheckpointSaverHook)
    ]
    for saver in users:
        tf_savers.add_listener(saver, BeforeCheckpoints(hook))
    saves = config.save_checkpoints_secs or config.save_checkpoints_steps
    if users or not saves:
        return [hook]
    saver = tf.train.CheckpointSaverHook(
        config.model_dir,
        save_secs=config.save_checkpoints_secs,
        save_steps=config.save_checkpoints_steps,
        # None: the one that Estimator adds to the graph.
        saver=spec.scaffold.saver,
        listeners=[BeforeCheckpoints(hook)],
    )
    return [hook, saver]
