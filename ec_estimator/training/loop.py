"""train_and_evaluate(): TensorFlow's, with what compression needs around it."""
import os
import sys

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.errors import CompressionError, ConfigError, PlanError
from ec_estimator.core.finished import FOLDER, FinishedExporter, FinishedOnly
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.model_fn import check_estimator, compressed_model
from ec_estimator.core.state import is_state
from ec_estimator.export.handoff import HandoffExporter
from ec_estimator.report.summary import Summary
from ec_estimator.report.text import evaluation_line
from ec_estimator.training.announce import announce
from ec_estimator.training.checks import as_compressors
from ec_estimator.training.evaluator import follower, is_evaluator, lacks_trials
from ec_estimator.training.progress import ProgressBar
from ec_estimator.training.wrap import compress

# What a model_fn that came in by `compressor=` says of itself.
_DROPPED_IN = "ec_estimator_dropped_in"


def train_and_evaluate(estimator, train_spec, eval_spec, compressor=None):
    """tf.estimator.train_and_evaluate for an Estimator that is compressed.

    Before training it checks that `max_steps` leaves room for all trials. Exporters see
    only checkpoints from after the last trial. On a terminal a progress bar runs.

    Args:
      estimator: a tf.estimator.Estimator, made with `compress`, or any other together
        with `compressor`.
      train_spec, eval_spec: as TensorFlow takes them.
      compressor: Compressor(s) for an estimator that was made without us. Its own
        model_dir, params, config and warm start are used. It is compressed from then
        on: what it evaluates, predicts and exports is what was trained.

    Returns:
      As tf.estimator.train_and_evaluate: (evaluation, exports); None on a cluster.

    Raises:
      CompressionError: an argument of another kind.
      ConfigError: `max_steps` is too small; the message names the steps needed. Or a
        HandoffExporter could not write what would be trained; it says what to change.
      PlanError: nothing to compress with, or `compressor` given twice; before
        training, an Estimator whose `train` builds another model_fn than its own.
      RunFolderError: the model_dir holds a checkpoint that was trained without us.
    """
    check_estimator("train_and_evaluate", estimator)
    _check_specs(train_spec, eval_spec)
    given = estimator
    if compressor is not None:
        estimator = compressed(estimator, compressor)
    model_fn = tf_private.model_fn_of(estimator)
    model = compressed_model(model_fn)
    eval_spec = eval_spec._replace(
        exporters=tuple(_finished_only(e) for e in eval_spec.exporters)
    )
    hooks = [_CheckGraph(estimator, train_spec.max_steps, eval_spec.exporters)]
    if model is not None:
        train_spec = _checked(model, estimator, train_spec, eval_spec)
        # A user who goes on with it would export a model without its quantizers.
        tf_private.set_model_fn(given, model_fn)
        if sys.stderr.isatty():
            hooks.append(ProgressBar(train_spec.max_steps))
        if is_evaluator(estimator.config):
            estimator = follower(estimator, model.compressors)
    train_spec = train_spec._replace(hooks=(*train_spec.hooks, *hooks))
    results = tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)
    # Workers other than the one that does it all have none.
    if results and results[0]:
        _conclude(RunFolder(os.path.join(estimator.model_dir, FOLDER)), results[0])
    return results


def compressed(estimator, compressor):
    """An Estimator like one that was made without us, but compressed.

    It has the same model_dir, params, config and warm start. One that
    `train_and_evaluate(compressor=)` has compressed already is returned as it is.

    Args:
      estimator: a tf.estimator.Estimator.
      compressor: Compressor(s).

    Raises:
      CompressionError: one of the two is something else.
      PlanError: it is compressed already, otherwise.
    """
    check_estimator("compressed", estimator)
    model_fn = tf_private.model_fn_of(estimator)
    dropped_in = getattr(model_fn, _DROPPED_IN, None)
    if dropped_in and dropped_in == _settings(as_compressors(compressor)):
        return estimator
    wrapped = compress(model_fn, compressor)
    setattr(wrapped, _DROPPED_IN, _settings(as_compressors(compressor)))
    return tf_private.with_model_fn(estimator, wrapped)


def _settings(compressors):
    return [(compressor.name, compressor.config) for compressor in compressors]


def _conclude(folder, metrics):
    """Adds an evaluation to a run's summary, and shows it."""
    summary = Summary(folder)
    summary.add_evaluation(metrics)
    line = evaluation_line(summary.content["evaluation"])
    announce(tf.get_default_graph(), line)


class _CheckGraph(tf.train.SessionRunHook):
    """Checks, just before training, that what is trained is compressed.

    An Estimator may not show it: inside one that tf.contrib.estimator.add_metrics made
    there may be one that is compressed, and an Estimator's own `train` may make others
    that are not.
    """

    def __init__(self, estimator, max_steps, exporters):
        self._estimator = estimator
        self._max_steps = max_steps
        self._exporters = exporters

    def begin(self):
        shows = compressed_model(tf_private.model_fn_of(self._estimator))
        ours = map(is_state, (v.op.name for v in tf.global_variables()))
        if not any(ours):
            raise PlanError(
                f"{type(self._estimator).__name__}.train trains another model_fn than "
                "the one that was compressed; wrap the one that it builds with "
                "ec_estimator.compress"
                if shows
                else "this Estimator was made without compress(); pass compressor=, "
                "for example Sparsifier(SparsifierConfig())"
            )
        if not shows:
            folder = RunFolder(os.path.join(self._estimator.model_dir, FOLDER))
            _check_steps(folder.schedules(), self._max_steps)
            _check_exporters(self._exporters, lambda e: e.refuse_hidden(folder))


def _check_specs(train_spec, eval_spec):
    kinds = tf.estimator.TrainSpec, tf.estimator.EvalSpec
    given = {"train_spec": train_spec, "eval_spec": eval_spec}
    for (name, spec), kind in zip(given.items(), kinds):
        if not isinstance(spec, kind):
            hint = "; the two are swapped" if isinstance(spec, kinds) else ""
            raise CompressionError(
                f"train_and_evaluate: {name} must be a tf.estimator.{kind.__name__}, "
                f"got {spec!r}{hint}"
            )


def _checked(model, estimator, train_spec, eval_spec):
    """The TrainSpec to train with, if the run can reach its end."""
    schedules = {c.name: c.schedule for c in model.compressors}
    _check_steps(schedules, train_spec.max_steps)
    configs = [compressor.config for compressor in model.compressors]
    _check_exporters(eval_spec.exporters, lambda e: e.refuse_training(configs))
    return _with_last_trials(model, estimator, train_spec)


def _with_last_trials(model, estimator, train_spec):
    """A TrainSpec with a step more, if TensorFlow would train nothing though trials are
    missing: a chief that was killed had written that checkpoint, but not the last."""
    # TensorFlow trains nothing, and calls no model_fn, if that is at max_steps.
    reader = model.check_start(estimator.model_dir)
    if reader is None or not estimator.config.is_chief:
        return train_spec
    step = int(reader.get_tensor(tf.GraphKeys.GLOBAL_STEP))
    missing = [c.name for c in model.compressors if lacks_trials(reader, c)]
    if not missing or train_spec.max_steps is None or step < train_spec.max_steps:
        return train_spec
    tf.logging.warning(
        "%s: the checkpoint of step %d lacks the last trials; training takes a step "
        "more than max_steps=%d for them.",
        ", ".join(missing),
        step,
        train_spec.max_steps,
    )
    return train_spec._replace(max_steps=step + 1)


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
                f"{schedule.num_trials} trials every {schedule.step_interval} steps, "
                f"the first at step {schedule.step_of(1)}, need {schedule.last_step}; "
                f"{_way_out(schedule, max_steps)}"
            )


def _way_out(schedule, max_steps):
    """What to set so that all trials fit."""
    interval = schedule.interval_within(max_steps)
    if interval:
        return f"step_interval={interval} fits them into {max_steps} steps"
    return "no step_interval is short enough: set fewer num_trials, or train longer"


def _check_exporters(exporters, refuse):
    for exporter in exporters:
        if isinstance(exporter, HandoffExporter):
            reason = refuse(exporter)
            if reason:
                raise ConfigError(f"exporter {exporter.name!r}: {reason}")


def _finished_only(exporter):
    if isinstance(exporter, FinishedExporter):
        return exporter
    if isinstance(exporter, tf.estimator.BestExporter):
        exporter = tf_private.without_event_files(exporter)
    return FinishedOnly(exporter)
