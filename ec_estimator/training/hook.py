"""Runs the trials: when they are due, and what is said of them."""
import time

import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import CompressionError
from ec_estimator.core.replicas import first, pass_starts_on
from ec_estimator.report.scalars import scalars
from ec_estimator.report.summary import Summary, next_command
from ec_estimator.report.text import format_summary
from ec_estimator.training.announce import announce
from ec_estimator.training.hold import HoldFolder
from ec_estimator.training.ranks import likeness_of


class TrialHook(tf.train.SessionRunHook):
    """Runs each compressor's trials just before the steps they belong to.

    Whether a trial is due is decided by the global step and by the trial counter in
    the checkpoint, so a run that was killed goes on where its checkpoint is.

    Args:
      attachment: training.attachment.Attachment of the session's graph.
      folder: RunFolder for trials.jsonl, or None.
      summary_dir: folder of the TensorBoard event file, or None.
      every_step: ops to run with the user's; None: the chief's, because the train_op
        has the others.
      counter: (variable, op that counts a step) where the graph has no global step.
    """

    def __init__(self, attachment, folder, summary_dir, every_step=None, counter=None):
        self._attachment = attachment
        self._folder = folder
        self._summary_dir = summary_dir
        self._every_step = every_step
        self._counter = counter
        self._holds = [HoldFolder(folder)] if folder else []

    def begin(self):
        for hold in self._holds:
            hold.begin()
        # A warm start comes after the model_fn.
        pass_starts_on(self._attachment.graph)
        step = tf.train.get_global_step()
        step = None if step is None else first(step)
        self._step_tensor, self._step_fetch = self._counter or (step, step)
        if self._every_step is None:
            self._every_step = self._attachment.chief_ops
        self._ranks = likeness_of(self._attachment)
        self._summary = Summary(self._folder)
        self._writer = None
        if self._summary_dir:
            self._writer = tf.summary.FileWriterCache.get(self._summary_dir)

    def after_create_session(self, session, coord):
        for hold in self._holds:
            hold.after_create_session(session, coord)
        self.start(session)

    def start(self, session):
        """Takes up the trials where a new session's variables are."""
        # Only rank 0 goes on from a checkpoint, and a hook that has the others go on
        # from there, too, may come after this one.
        self._ranks.share(session)
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
        if self._stride is None:
            self._ranks.share(run_context.session)
            self._ranks.check(run_context.session, "before the first step")
        # The fetched step may be the one before the update of that run, so look again
        # when a trial is near.
        stride = self._stride or 1
        if any(
            due is not None and self._step + 2 * stride > due
            for _, _, _, due in self._due()
        ):
            self._step = int(run_context.session.run(self._step_tensor))
            self.run_due_trials(run_context.session)
        return tf.train.SessionRunArgs([self._step_fetch, self._every_step])

    def after_run(self, run_context, run_values):
        if self._stride is None:
            # Some count examples, or two optimizers: their steps are longer. Read
            # again, because what was fetched may be from before the update.
            step = int(run_context.session.run(self._step_tensor))
            self._stride = max(1, step - self._step)
        self._step = int(run_values.results[0])

    def end(self, session):
        self._step = int(session.run(self._step_tensor))
        self._ranks.average(session)
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
        self._summary.end(next_command(self._folder, self.missing()))
        self._announce(format_summary(self._summary.content))

    @property
    def step(self):
        """The global step as it was last seen."""
        return self._step

    def missing(self):
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

    def run_due_trials(self, session):
        """Runs the trials up to the global step as it was last seen."""
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
        started = time.monotonic()
        self._ranks.share(session)
        self._ranks.check(session, f"{compressor.name}: before trial {trial}")
        report = self._attachment.run_trial(session, index, trial, ratio)
        self._ranks.share_trial(session)
        seconds = time.monotonic() - started
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
        self._ranks.average(session)
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


def bind(folder, attachment):
    """Ties a run folder to the plan and settings of this run."""
    folder.bind(
        attachment.plan.to_dict(),
        {c.name: c.config.to_dict() for c in attachment.compressors},
        {c.name: c.schedule for c in attachment.compressors},
        attachment.served_names,
    )
    folder.write_json("coverage.json", attachment.plan.coverage_dict())
