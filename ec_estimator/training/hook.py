"""Runs the trials: when they are due, and what is said of them."""
import time

import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import CompressionError
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.state import SCOPE
from ec_estimator.report.scalars import scalars
from ec_estimator.report.summary import Summary, next_command
from ec_estimator.report.text import format_summary
from ec_estimator.training.announce import announce, announce_plan
from ec_estimator.training.attachment import attach_to_finished_graph
from ec_estimator.training.checks import as_compressors, warn_of_lost_results
from ec_estimator.training.hold import HoldFolder


class TrialHook(tf.train.SessionRunHook):
    """Runs each compressor's trials just before the steps they belong to.

    Whether a trial is due is decided by the global step and by the trial counter in
    the checkpoint, so a run that was killed goes on where its checkpoint is.

    Args:
      attachment: training.attachment.Attachment of the session's graph.
      folder: RunFolder for trials.jsonl, or None.
      summary_dir: folder of the TensorBoard event file, or None.
    """

    def __init__(self, attachment, folder, summary_dir):
        self._attachment = attachment
        self._folder = folder
        self._summary_dir = summary_dir
        self._holds = [HoldFolder(folder)] if folder else []

    def begin(self):
        for hold in self._holds:
            hold.begin()
        self._step_tensor = tf.train.get_global_step()
        self._step_fetch = self._step_tensor
        self._summary = Summary(self._folder)
        self._writer = None
        if self._summary_dir:
            self._writer = tf.summary.FileWriterCache.get(self._summary_dir)

    def after_create_session(self, session, coord):
        for hold in self._holds:
            hold.after_create_session(session, coord)
        self._step = int(session.run(self._step_tensor))
        self._stride = None
        self._done = [int(n) for n in session.run(self._attachment.trial_counters)]
        for index, (compressor, done) in enumerate(
            zip(self._attachment.compressors, self._done)
        ):
            schedule = compressor.schedule
            due = schedule.next_due(done)
            if not done:
                self._attachment.attached[index].start(session)
            if done:
                self._announce(
                    f"{compressor.name}: resumed after trial {done}/"
                    f"{schedule.num_trials} at step {self._step}"
                )
            elif (
                schedule.is_gradual
                and due is not None
                and self._step > due + schedule.step_interval
            ):
                raise CompressionError(
                    f"{compressor.name}: training starts at step {self._step}, where "
                    f"trial 1 (step {due + 1}) and others after it are overdue; set "
                    f"start_step={self._step}"
                )

    def before_run(self, run_context):
        for hold in self._holds:
            hold.before_run(run_context)
        # The fetched step may be the one before the update of that run, so look again
        # when a trial is near.
        stride = self._stride or 1
        if any(
            due is not None and self._step + 2 * stride > due
            for _, _, _, due in self._due()
        ):
            self._step = int(run_context.session.run(self._step_tensor))
            self._run_due_trials(run_context.session)
        return tf.train.SessionRunArgs([self._step_fetch, self._every_step()])

    def _every_step(self):
        """Ops to run with the user's; the train_op has the others."""
        return self._attachment.chief_ops

    def after_run(self, run_context, run_values):
        if self._stride is None:
            # Some count examples, or two optimizers: their steps are longer. Read
            # again, because what was fetched may be from before the update.
            step = int(run_context.session.run(self._step_tensor))
            self._stride = max(1, step - self._step)
        self._step = int(run_values.results[0])

    def end(self, session):
        self._step = int(session.run(self._step_tensor))
        for index, compressor in enumerate(self._attachment.compressors):
            if not self._is_finished(index):
                tf.logging.warning(
                    "%s: training ended at step %d after trial %d of %d; the model is "
                    "not finished before its last trial at step %d.",
                    compressor.name,
                    self._step,
                    self._done[index],
                    compressor.schedule.num_trials,
                    compressor.schedule.last_step,
                )
            self._save(session, index)
        self._summary.end(next_command(self._folder, self._missing()))
        self._announce(format_summary(self._summary.content))

    def _missing(self):
        """The step that the model is finished at, or None if it is finished."""
        compressors = enumerate(self._attachment.compressors)
        steps = [
            c.schedule.last_step for i, c in compressors if not self._is_finished(i)
        ]
        return max(steps, default=None)

    def _is_finished(self, index):
        schedule = self._attachment.compressors[index].schedule
        # A trial that no step followed, because the input ended there, is in no
        # checkpoint; so the counter alone does not tell.
        return (
            self._done[index] == schedule.num_trials
            and self._step >= schedule.last_step
        )

    def _save(self, session, index):
        if self._folder:
            self._attachment.attached[index].save(
                session, self._folder.path, self._step, self._attachment.model_variables
            )

    def _announce(self, line):
        announce(self._attachment.graph, line)

    def _due(self):
        """(index, compressor, schedule, global step of the next trial or None)."""
        for index, compressor in enumerate(self._attachment.compressors):
            schedule = compressor.schedule
            yield index, compressor, schedule, schedule.next_due(self._done[index])

    def _run_due_trials(self, session):
        for index, compressor, schedule, due in self._due():
            # More than one when other workers have moved the global step on.
            while due is not None and self._step + (self._stride or 1) > due:
                self._run_trial(session, index, compressor, schedule)
                due = schedule.next_due(self._done[index])

    def on_trial(self):
        """Called when a trial was done."""
        return None

    def _run_trial(self, session, index, compressor, schedule):
        trial = self._done[index] + 1
        ratio = schedule.ratio(trial)
        started = time.time()
        report = self._attachment.attached[index].run_trial(session, trial, ratio)
        seconds = time.time() - started
        self._done[index] = trial
        self.on_trial()
        self._announce(
            f"{compressor.name}: trial {trial}/{schedule.num_trials} before step "
            f"{self._step + 1}: {report.headline(schedule.target)}, {seconds:.2f} s"
        )
        warning = report.warning(ratio)
        if warning:
            tf.logging.warning("%s: trial %d %s", compressor.name, trial, warning)
        for note in report.notes:
            self._announce(f"{compressor.name}: {note}")
        self._summary.add(
            compressor.name, trial, schedule, report, self._attachment.plan.layers
        )
        if self._folder:
            self._folder.record_trial(
                {
                    "compressor": compressor.name,
                    "trial": trial,
                    "step": self._step + 1,
                    "seconds": round(seconds, 3),
                    **report.record(),
                }
            )
            self._save(session, index)
        if self._writer:
            found = scalars(compressor.name, trial, schedule, report)
            self._writer.add_summary(found, self._step)
            self._writer.flush()


class CompressionHook(TrialHook):
    """Compresses the graph of a MonitoredSession while it trains.

    Put it among the session's hooks; the graph, optimizer included, must be complete.
    Without a global step in the graph every `run` of the session counts as a step.

    Args:
      compressor: a Compressor or a list of them.
      save_dir: folder for plan, coverage, trials and, when training ends after the last
        trial, a clean checkpoint `clean/model.ckpt` with the user's variables; None:
        nothing is written. Of a quantized model the checkpoint has the step sizes, too:
        `quantize_graph(mode='eval')` restores it, and `export_session` exports it.

    Raises:
      RunFolderError: save_dir is a file or cannot be written.
    """

    def __init__(self, compressor, save_dir=None):
        self._compressors = as_compressors(compressor)
        if save_dir is None:
            dirs = [getattr(c, "model_dir", None) for c in self._compressors]
            save_dir = next(filter(None, dirs), None)
        folder = RunFolder(save_dir).create() if save_dir is not None else None
        super().__init__(None, folder, save_dir)

    def begin(self):
        graph = tf.get_default_graph()
        # A second session on the graph goes on with what the first one put into it.
        if self._attachment is None or self._attachment.graph is not graph:
            self._attach(graph)
        super().begin()
        if self._counter is not None:
            self._step_tensor = self._counter
            self._step_fetch = self._count

    def _attach(self, graph):
        self._attachment = attach_to_finished_graph(graph, self._compressors)
        announce_plan(graph, self._attachment.plan)
        if self._folder:
            bind(self._folder, self._attachment)
        else:
            warn_of_lost_results(self._attachment.attached)
        for saver in graph.get_collection("savers"):
            if saver.saver_def is not None:
                tf.logging.warning(
                    "The graph has a Saver that was built before the compression hook "
                    "and does not save its state (%s/...): a restart from its "
                    "checkpoints would begin with dense masks. Leave the Saver to the "
                    "session's Scaffold.",
                    SCOPE,
                )
        # The kernels hold their zeros already, so leaving away what only trains is all
        # that makes a checkpoint clean.
        self._clean_saver = tf.train.Saver(
            self._attachment.served_variables, max_to_keep=1
        )
        self._counter = None
        if tf.train.get_global_step() is None:
            with tf.name_scope(None):
                self._counter = tf.Variable(
                    0, trainable=False, dtype=tf.int64, name=f"{SCOPE}/step"
                )
                self._count = self._counter.assign_add(1)
            self._attachment.initialize_with_model([self._counter])

    def _every_step(self):
        return self._attachment.train_ops + self._attachment.chief_ops

    def end(self, session):
        super().end(session)
        finished = map(self._is_finished, range(len(self._compressors)))
        if self._folder and all(finished):
            self._clean_saver.save(
                session,
                self._folder.file("clean/model.ckpt"),
                global_step=self._step,
                write_meta_graph=False,
            )


def bind(folder, attachment):
    """Ties a run folder to the plan and settings of this run."""
    folder.bind(
        attachment.plan.to_dict(),
        {c.name: c.config.to_dict() for c in attachment.compressors},
        {c.name: c.schedule for c in attachment.compressors},
        attachment.served_names,
    )
    folder.write_json("coverage.json", attachment.plan.coverage_dict())
