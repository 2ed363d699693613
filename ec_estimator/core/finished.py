"""Whether a model has been through its last trial, and what waits until it has."""
import abc
import contextlib
import os

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.errors import UnfinishedError
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.model_fn import compressed_model
from ec_estimator.core.state import open_checkpoint, trials_done

# Where a run keeps its folder, below the Estimator's model_dir.
FOLDER = "compression"


def trained_without(checkpoint_path, names):
    """Which compressor a checkpoint was trained without; "" if none.

    Args:
      names: of the compressors.
    """
    return _untrained(checkpoint_path, _trials(checkpoint_path, names))


def unfinished(checkpoint_path, schedules):
    """What is missing before a checkpoint is a finished model; "" if nothing is.

    Args:
      schedules: {compressor name: Schedule}.

    Raises:
      RunFolderError: the checkpoint cannot be read.
    """
    trials = _trials(checkpoint_path, schedules)
    untrained = _untrained(checkpoint_path, trials)
    if untrained:
        return untrained
    for name, schedule in schedules.items():
        if trials[name] < schedule.num_trials:
            return (
                f"{name}: checkpoint {checkpoint_path!r} has been through trial "
                f"{trials[name]} of {schedule.num_trials}; train to step "
                f"{schedule.last_step}"
            )
    return ""


def _trials(checkpoint_path, names):
    """{compressor name: trials that a checkpoint has been through, or None}."""
    reader = open_checkpoint(checkpoint_path)
    return {name: trials_done(reader, name) for name in names}


def _untrained(checkpoint_path, trials):
    for name, done in trials.items():
        if done is None:
            return (
                f"{name}: checkpoint {checkpoint_path!r} was trained without it; use "
                "the model_fn as it is, or train it compressed"
            )
    return ""


_unfinished_allowed = []


@contextlib.contextmanager
def unfinished_export():
    """Inside, checkpoints from before the last trial may be exported."""
    _unfinished_allowed.append(True)
    try:
        yield
    finally:
        _unfinished_allowed.pop()


def unfinished_allowed():
    """Whether this is inside of `unfinished_export`."""
    return bool(_unfinished_allowed)


class FinishedExporter(tf.estimator.Exporter):
    """Base of exporters that wait for the last trial.

    Before it they log, once, what is missing; at the end of training that is an error.
    """

    _is_waiting = False

    def export(
        self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export
    ):
        """As tf.estimator.Exporter.export.

        Raises:
          UnfinishedError: training is over and the model is not finished.
        """
        self.check(eval_result)
        missing = unfinished(checkpoint_path, _schedules(estimator))
        if missing and is_the_final_export:
            raise UnfinishedError(f"exporter {self.name!r}: {missing}")
        if missing:
            if not self._is_waiting:
                tf.logging.info("Exporter %s waits: %s", self.name, missing)
            self._is_waiting = True
            return None
        return self.hand_over(
            estimator, export_path, checkpoint_path, eval_result, is_the_final_export
        )

    def check(self, eval_result):
        """Raises what can be known to be wrong at the first evaluation already."""
        return None

    @abc.abstractmethod
    def hand_over(
        self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export
    ):
        """Exports a finished checkpoint; returns the path of what was written."""


def _schedules(estimator):
    """{compressor name: Schedule} of the run that an Estimator exports."""
    model = compressed_model(tf_private.model_fn_of(estimator))
    if model is not None:
        return {c.name: c.schedule for c in model.compressors}
    # An Estimator around ours hides what it was compressed with.
    return RunFolder(os.path.join(estimator.model_dir, FOLDER)).schedules()


class FinishedOnly(FinishedExporter):
    """Makes any tf.estimator.Exporter wait for the last trial."""

    def __init__(self, exporter):
        self._exporter = exporter

    @property
    def name(self):
        return self._exporter.name

    def check(self, eval_result):
        if isinstance(self._exporter, FinishedExporter):
            self._exporter.check(eval_result)

    def hand_over(self, *args):
        return self._exporter.export(*args)
