"""Compression in a MonitoredSession, on one machine or by a worker of a cluster."""
import tensorflow.compat.v1 as tf

from ec_estimator.core.devices import task_of
from ec_estimator.core.errors import PlanError
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.replicas import variables_of
from ec_estimator.core.roles import leave_trials
from ec_estimator.core.state import SCOPE
from ec_estimator.training.announce import announce_plan
from ec_estimator.training.attachment import attach_to_finished_graph
from ec_estimator.training.checks import as_compressors, warn_of_lost_results
from ec_estimator.training.cluster import AwaitStart, ClusterTrialHook
from ec_estimator.training.hook import TrialHook, bind


class CompressionHook(tf.train.SessionRunHook):
    """Compresses the graph of a MonitoredSession while it trains.

    Put it among the session's hooks; the graph, optimizer included, must be complete.
    Without a global step in the graph every `run` of the session counts as a step.

    On a cluster every worker has one, made with the same compressors.

    Args:
      compressor: a Compressor or a list of them.
      save_dir: folder for plan, coverage, trials and, when training ends after the last
        trial, a clean checkpoint `clean/model.ckpt` with the user's variables; None:
        nothing is written. Of a quantized model the checkpoint has the step sizes, too:
        `quantize_graph(mode='eval')` restores it, and `export_session` exports it.
      is_chief: as the session was given it. The chief alone runs trials and writes
        into save_dir; other workers wait for its start, and train.

    Raises:
      RunFolderError: save_dir is a file or cannot be written.
    """

    def __init__(self, compressor, save_dir=None, is_chief=True):
        self._compressors = as_compressors(compressor)
        self._is_chief = is_chief
        if save_dir is None:
            dirs = [getattr(c, "model_dir", None) for c in self._compressors]
            save_dir = next(filter(None, dirs), None)
        is_kept = is_chief and save_dir is not None
        self._folder = RunFolder(save_dir).create() if is_kept else None
        self._save_dir = save_dir
        self._attachment = None

    def begin(self):
        graph = tf.get_default_graph()
        # A second session on the graph goes on with what the first one put into it.
        if self._attachment is None or self._attachment.graph is not graph:
            self._check_step(graph)
            if not self._is_chief:
                leave_trials(graph)
            self._attachment = attach_to_finished_graph(graph, self._compressors)
            self._worker = self._chief() if self._is_chief else self._other()
        self._worker.begin()

    def after_create_session(self, session, coord):
        self._worker.after_create_session(session, coord)

    def before_run(self, run_context):
        return self._worker.before_run(run_context)

    def after_run(self, run_context, run_values):
        self._worker.after_run(run_context, run_values)

    def end(self, session):
        self._worker.end(session)
        if self._folder and self._worker.missing() is None:
            # The kernels hold their zeros already, so leaving away what only trains is
            # all that makes a checkpoint clean.
            self._clean_saver.save(
                session,
                self._folder.file("clean/model.ckpt"),
                global_step=self._worker.step,
                write_meta_graph=False,
            )

    def _check_step(self, graph):
        has_step = tf.train.get_global_step() is not None
        if not has_step and (_is_on_cluster(graph) or not self._is_chief):
            raise PlanError(
                "CompressionHook: the graph has no global step, and on a cluster no "
                "worker's own steps tell when a trial is due; make one with "
                "tf.train.get_or_create_global_step() and have the optimizer count it"
            )

    def _other(self):
        return AwaitStart(self._attachment, self._attachment.train_ops)

    def _chief(self):
        attachment, graph = self._attachment, self._attachment.graph
        announce_plan(graph, attachment.plan)
        if self._folder:
            bind(self._folder, attachment)
        else:
            warn_of_lost_results(attachment.attached)
        for saver in graph.get_collection("savers"):
            if saver.saver_def is not None:
                tf.logging.warning(
                    "The graph has a Saver that was built before the compression hook "
                    "and does not save its state (%s/...): a restart from its "
                    "checkpoints would begin with dense masks. Leave the Saver to the "
                    "session's Scaffold.",
                    SCOPE,
                )
        self._clean_saver = tf.train.Saver(attachment.served_variables, max_to_keep=1)
        hook = ClusterTrialHook if _is_on_cluster(graph) else TrialHook
        return hook(
            attachment,
            self._folder,
            self._save_dir,
            attachment.train_ops + attachment.chief_ops,
            self._counter(),
        )

    def _counter(self):
        if tf.train.get_global_step() is not None:
            return None
        with tf.name_scope(None):
            steps = tf.Variable(
                0, trainable=False, dtype=tf.int64, name=f"{SCOPE}/step"
            )
            counted = steps.assign_add(1)
        self._attachment.initialize_with_model([steps])
        return steps, counted


def _is_on_cluster(graph):
    """Whether variables are in processes that the graph names."""
    return any(task_of(v.device) for v in variables_of(graph))
