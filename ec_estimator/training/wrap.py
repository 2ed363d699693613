"""compress(): a model_fn in, a model_fn that trains compressed out."""
import dataclasses
import functools
import os

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.errors import PlanError, RunFolderError
from ec_estimator.core.finished import FOLDER
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.model_fn import ModelFn, compressed_model
from ec_estimator.core.ranks import ranks_in
from ec_estimator.core.replicas import variables_of
from ec_estimator.core.roles import leave_trials
from ec_estimator.core.state import is_state, open_checkpoint, trials_done
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.plan import make_plan
from ec_estimator.graph.savers import saver_of
from ec_estimator.graph.survey import survey
from ec_estimator.rewrite.serving import ServingSaver
from ec_estimator.training.attachment import Attachment
from ec_estimator.training.build import Training, check_strategy, saving_state, with_ops
from ec_estimator.training.checks import as_compressors

_TRAIN = tf.estimator.ModeKeys.TRAIN
# Where a run has started from; gone, maybe, when it is evaluated.
_READ_AT_THE_START = ("pretrained_model",)


def compress(model_fn, compressors):
    """Wraps an Estimator's model_fn so that it trains compressed.

    The model is surveyed once, in the graph it predicts with. TRAIN gets masks, their
    updates and the hook that runs the trials; EVAL and PREDICT are the user's own
    graph, because the variables themselves hold the compressed weights.

    Args:
      model_fn: as tf.estimator.Estimator takes it; not modified.
      compressors: a Compressor, or a list that is applied left to right.

    Returns:
      A model_fn with the same arguments (and `labels`, `mode` and `config`).

    Raises:
      CompressionError: one of the two is something else.
      PlanError: compressed already, or compressors that cannot work together.
    """
    return CompressedModel(model_fn, as_compressors(compressors)).model_fn()


class CompressedModel:
    """A model_fn with its compressors."""

    def __init__(self, model_fn, compressors):
        if compressed_model(model_fn):
            raise PlanError(
                "this model_fn is compressed already; pass all compressors to one "
                "compress() in a list"
            )
        self._user = ModelFn(model_fn)
        self.compressors = compressors

    def model_fn(self):
        """A function with the signature that Estimator inspects."""
        compressed = self._user.compressed(self._build)
        compressed.compressed_model = self
        return compressed

    def plan(self, features, labels, params, config):
        """Surveys the model and plans.

        Raises:
          PlanError, ConfigError: see graph.survey and graph.plan.
        """
        seen = survey(
            lambda x, y, mode: self._user(x, y, mode, params, config), features, labels
        )
        plan = make_plan(
            seen.mode,
            seen.graph,
            find_layers(seen.graph),
            seen.outputs,
            self.compressors,
        )
        return dataclasses.replace(plan, restored=seen.restored)

    def _build(self, features, labels, mode, params, config):
        if mode == _TRAIN:
            return self._build_training(features, labels, params, config)
        spec = self._user(features, labels, mode, params, config)
        _check_spec(spec, mode)
        # All replicas of a distribution strategy have built their part of the graph.
        scaffold = tf.distribute.get_replica_context().merge_call(
            lambda strategy: self._serve(spec, features, labels, params, config)
        )
        return spec._replace(scaffold=scaffold)

    def _serve(self, spec, features, labels, params, config):
        """Changes a graph that evaluates or predicts, as far as that is needed.

        Returns:
          The Scaffold that it has.
        """
        # Most models predict with the user's own graph, and need no survey for it.
        plan = functools.lru_cache(maxsize=None)(
            lambda: self.plan(features, labels, params, config)
        )
        stored = self._stored(config.model_dir) if config.model_dir else {}
        served = [
            compressor.serve(
                tf.get_default_graph(),
                lambda name=compressor.name: plan().details[name],
                stored.get(compressor.name),
            )
            for compressor in self.compressors
        ]
        return self._guarding_export(spec, [part for part in served if part])

    def _stored(self, model_dir):
        """What the run in a folder has planned, once it is sure that it is this one."""
        folder = RunFolder(os.path.join(model_dir, FOLDER))
        for compressor in self.compressors:
            folder.check_config(
                compressor.name, compressor.config.to_dict(), _READ_AT_THE_START
            )
        return folder.details()

    def _build_training(self, features, labels, params, config):
        replica = tf.distribute.get_replica_context()
        training = replica.merge_call(
            lambda strategy: self._begin(strategy, features, labels, params, config)
        )
        with training.replica():
            spec = self._user(features, labels, _TRAIN, params, config)
            _check_spec(spec, _TRAIN)
        # All replicas have built their part of the graph, optimizer included.
        hooks = replica.merge_call(lambda strategy: training.finish(spec, config))
        return spec._replace(
            train_op=with_ops(spec.train_op, training.train_ops),
            scaffold=training.scaffold,
            training_hooks=(*spec.training_hooks, *hooks.all),
            training_chief_hooks=(
                *hooks.before_chief,
                *spec.training_chief_hooks,
                *hooks.chief,
            ),
        )

    def _begin(self, strategy, features, labels, params, config):
        """What comes before the model is built, once for all replicas."""
        check_strategy(strategy)
        # Estimator.train has made a read of the global step, and its export has not.
        has_step = tf.train.get_global_step() is not None
        if has_step and not tf.get_collection(tf_private.GLOBAL_STEP_READ):
            raise PlanError(
                "a compressed TRAIN graph is for Estimator.train only, an export would "
                "hold masks; export EVAL and PREDICT; and finetune takes the model_fn "
                "as it was before it was compressed"
            )
        reader = self.check_start(config.model_dir)
        # On a cluster the chief alone restores it.
        if reader and config.is_chief:
            reader.check()
        plan = self.plan(features, labels, params, config)
        graph = tf.get_default_graph()
        # Ranks have a model of their own each, and run its trials.
        if not config.is_chief and not ranks_in(graph):
            leave_trials(graph)
        return Training(Attachment(graph, plan, self.compressors))

    def check_start(self, model_dir):
        """A checkpoint that training would go on from must hold our state.

        Returns:
          core.state.Checkpoint, None before the first one.

        Raises:
          RunFolderError: it does not, or cannot be read.
        """
        path = tf.train.latest_checkpoint(model_dir) if model_dir else None
        if path is None:
            return None
        reader = open_checkpoint(path)
        for compressor in self.compressors:
            if trials_done(reader, compressor.name) is None:
                raise RunFolderError(
                    f"checkpoint {path!r} was trained without {compressor.name}; use a "
                    f"new model_dir and start from it with "
                    f"warm_start_from=ec_estimator.warm_start({model_dir!r})"
                )
        return reader

    def _guarding_export(self, spec, served):
        """A Scaffold that lets evaluations and predictions through, but no export of an
        unfinished checkpoint."""
        schedules = {c.name: c.schedule for c in self.compressors}
        graph = tf.get_default_graph()
        state = [v for v in variables_of(graph) if is_state(v.op.name)]
        scaffold = saving_state(spec.scaffold, state) if state else spec.scaffold
        scaffold = scaffold or tf.train.Scaffold()
        own = saver_of(scaffold, graph)
        if own is None:
            saver = ServingSaver(schedules, served, sharded=True, allow_empty=True)
        else:
            own.build()
            saver = ServingSaver(schedules, served, saver_def=own.as_saver_def())
        return tf.train.Scaffold(saver=saver, copy_from_scaffold=scaffold)


def _check_spec(spec, mode):
    if not isinstance(spec, tf.estimator.EstimatorSpec):
        raise PlanError(
            f"model_fn returned {spec!r} for mode {mode!r}; it has to return an "
            "EstimatorSpec"
        )
