"""train_and_evaluate(): TensorFlow's, with what compression needs around it."""
import os
import sys

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.errors import ConfigError, PlanError
from ec_estimator.core.finished import FOLDER, FinishedExporter, FinishedOnly
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.state import is_state
from ec_estimator.training.progress import ProgressBar
from ec_estimator.training.wrap import compress, compressed_model


def train_and_evaluate(estimator, train_spec, eval_spec, compressor=None):
    """tf.estimator.train_and_evaluate for an Estimator that is compressed.

    Before training it checks that `max_steps` leaves room for all trials. Exporters see
    only checkpoints from after the last trial. On a terminal a progress bar runs.

    Args:
      estimator: a tf.estimator.Estimator, made with `compress`, or any other together
        with `compressor`.
      train_spec, eval_spec: as TensorFlow takes them.
      compressor: Compressor(s) for an estimator that was made without us. Its own
        model_dir, params, config and warm start are used.

    Returns:
      As tf.estimator.train_and_evaluate: (evaluation, exports).

    Raises:
      ConfigError: `max_steps` is too small; the message names the steps needed.
      PlanError: nothing to compress with, or `compressor` given twice.
    """
    if compressor is not None:
        model_fn = compress(tf_private.model_fn_of(estimator), compressor)
        estimator = tf_private.with_model_fn(estimator, model_fn)
    model = compressed_model(tf_private.model_fn_of(estimator))
    eval_spec = eval_spec._replace(
        exporters=tuple(_finished_only(e) for e in eval_spec.exporters)
    )
    if model is None:
        check = _CheckGraph(estimator.model_dir, train_spec.max_steps)
        train_spec = train_spec._replace(hooks=tuple(train_spec.hooks) + (check,))
        return tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)
    _check_steps({c.name: c.schedule for c in model.compressors}, train_spec.max_steps)
    if not sys.stderr.isatty():
        return tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)
    bar = ProgressBar(train_spec.max_steps)
    train_spec = train_spec._replace(hooks=tuple(train_spec.hooks) + (bar,))
    return tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)


class _CheckGraph(tf.train.SessionRunHook):
    """Checks an Estimator that does not show whether it is compressed.

    Inside one that tf.contrib.estimator.add_metrics made, for example, there may be one
    that is; its graph and its run folder show it, just before training.
    """

    def __init__(self, model_dir, max_steps):
        self._folder = RunFolder(os.path.join(model_dir, FOLDER))
        self._max_steps = max_steps

    def begin(self):
        if not any(is_state(variable.op.name) for variable in tf.global_variables()):
            raise PlanError(
                "this Estimator was made without compress(); pass compressor=, for "
                "example Sparsifier(SparsifierConfig())"
            )
        _check_steps(self._folder.schedules(), self._max_steps)


def _check_steps(schedules, max_steps):
    for name, schedule in schedules.items():
        if max_steps is None:
            tf.logging.warning(
                "%s: TrainSpec.max_steps is not set; the model is finished at step %d.",
                name,
                schedule.last_step,
            )
        elif max_steps < schedule.last_step:
            raise ConfigError(
                f"TrainSpec.max_steps={max_steps} is too small for {name}: "
                f"{schedule.num_trials} trials every {schedule.step_interval} steps "
                f"from step {schedule.start_step} need {schedule.last_step}"
            )


def _finished_only(exporter):
    if isinstance(exporter, FinishedExporter):
        return exporter
    if isinstance(exporter, tf.estimator.BestExporter):
        exporter = tf_private.without_event_files(exporter)
    return FinishedOnly(exporter)
