"""Trials where other workers train, too: between-graph replication, TF_CONFIG.

The chief runs the trials. Others move the global step on meanwhile, so a trial comes at
its step or soon after it; and what they had computed before it lands after it. Updates
are gated on the parameter server, as they land; an update that is being written while
the masks change is swept away: with the chief's next step, and before a checkpoint.
"""
import threading
import time
import weakref

import tensorflow.compat.v1 as tf

from ec_estimator.core.tf_savers import before_saves
from ec_estimator.graph.savers import saver_of
from ec_estimator.training.hook import TrialHook

# Seconds between two looks at whether the chief has started.
_POLL = 0.2


def _nothing():
    """Undoes what was not done."""


class ClusterTrialHook(TrialHook):
    """Runs the trials of a run that has other workers; for the chief.

    Every checkpoint that the session's Saver writes holds the trials up to it, whoever
    has it saved: its `save` is replaced until the session is gone.

    Args:
      *args: as of TrialHook.
      scaffold: tf.train.Scaffold of the session; None: it is not known, and the Saver
        is the one in the graph's collection.
    """

    _has_unswept = False

    def __init__(self, *args, scaffold=None):
        super().__init__(*args)
        self._scaffold = scaffold
        # A saver may save, and so run trials, in a thread of its own.
        self._lock = threading.RLock()
        self._undo = _nothing

    def begin(self):
        super().begin()
        self._session = None
        # Estimator's own saver saves before this hook hears of the session. Its Saver
        # is there already; others are when the Scaffold is complete.
        self._undo()
        self._undo = self._prepare_saves() if self._scaffold else _nothing

    def start(self, session):
        with self._lock:
            if self._session and session is self._session():
                return
            super().start(session)
            # How far the global step moves in a step of the chief's tells how many
            # others there are, not where its next step begins.
            self._stride = 1
            self._session = weakref.ref(session)
            self._undo()
            self._undo = self._prepare_saves()
        if self._undo is _nothing:
            tf.logging.warning(
                "The session's Saver is its Scaffold's alone, so its checkpoints may "
                "lack trials of steps that other workers take; add it to the graph, "
                "too: tf.add_to_collection(tf.GraphKeys.SAVERS, saver)"
            )
        # Other hooks save at the end after this one, and none hears of an error.
        weakref.finalize(session, self._undo).atexit = False

    def after_run(self, run_context, run_values):
        super().after_run(run_context, run_values)
        if self._has_unswept:
            self._sweep(run_context.session)

    def end(self, session):
        # Others may have taken the last steps, and their trials belong to what is said
        # and written at the end, as they do to the last checkpoint.
        self._prepare_checkpoint(session)
        super().end(session)

    def _prepare_saves(self):
        """Has each `save` of the session's Saver prepared; returns what undoes it."""
        saver = saver_of(self._scaffold, self._attachment.graph)
        return _nothing if saver is None else before_saves(saver, self._prepare)

    def _prepare(self, session):
        with self._lock:
            if self._session is None:
                self.start(session)
            # The same Saver may save another session, which does not train.
            if session is self._session():
                self._prepare_checkpoint(session)

    def _prepare_checkpoint(self, session):
        """Has a checkpoint that is about to be written hold all trials up to its step.

        The chief may never see the last steps: others take them.
        """
        with self._lock:
            # Not the step that `save` was given: the one that is going to be saved.
            self._step = max(self._step, int(session.run(self._step_tensor)))
            self.run_due_trials(session)
            if any(self._done):
                self._sweep(session)

    def run_due_trials(self, session):
        with self._lock:
            super().run_due_trials(session)

    def on_trial(self):
        self._has_unswept = True

    def _sweep(self, session):
        for attached in self._attachment.attached:
            attached.sweep(session)
        self._has_unswept = False


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
