"""compress(): a model_fn in, a model_fn that trains compressed out."""
import dataclasses
import functools
import os

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private, tf_savers
from ec_estimator.core.errors import PlanError, RunFolderError
from ec_estimator.core.finished import FOLDER
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.model_fn import ModelFn, compressed_model
from ec_estimator.core.state import is_state, open_checkpoint, trials_done
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.plan import make_plan
from ec_estimator.graph.savers import names_in, saver_of
from ec_estimator.graph.survey import survey
from ec_estimator.rewrite.serving import ServingSaver
from ec_estimator.training.announce import announce_plan
from ec_estimator.training.attachment import Attachment
from ec_estimator.training.checks import as_compressors
from ec_estimator.training.cluster import AwaitStart, chief_hooks
from ec_estimator.training.hook import TrialHook, bind

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
        return self._guard_export(spec, [part for part in served if part])

    def _stored(self, model_dir):
        """What the run in a folder has planned, once it is sure that it is this one."""
        folder = RunFolder(os.path.join(model_dir, FOLDER))
        for compressor in self.compressors:
            folder.check_config(
                compressor.name, compressor.config.to_dict(), _READ_AT_THE_START
            )
        return folder.details()

    def _build_training(self, features, labels, params, config):
        if tf.distribute.has_strategy():
            raise PlanError(
                f"{type(tf.distribute.get_strategy()).__name__}: training under a "
                "distribution strategy is not supported yet; leave train_distribute "
                "away"
            )
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
        attachment = Attachment(graph, plan, self.compressors)
        with attachment.gradients():
            spec = self._user(features, labels, _TRAIN, params, config)
        _check_spec(spec, _TRAIN)
        # A hook may run updates besides, such as those of a GAN's other network.
        has_hooks = spec.training_hooks or spec.training_chief_hooks
        attachment.finish(
            None if has_hooks else spec.train_op, saver_of(spec, attachment.graph)
        )
        spec = spec._replace(
            train_op=_with(spec.train_op, attachment.train_ops),
            scaffold=_saving_state(spec.scaffold, attachment.state),
        )
        if not config.is_chief:
            hooks = (*spec.training_hooks, AwaitStart(attachment))
            return spec._replace(training_hooks=hooks)
        folder = RunFolder(os.path.join(config.model_dir, FOLDER)).create()
        bind(folder, attachment)
        announce_plan(graph, attachment.plan)
        # A chief without workers may still have its updates applied beside its steps.
        if config.num_worker_replicas > 1 or config.num_ps_replicas:
            # A saver of the user's saves as soon as there is a session; ours is ready.
            hooks = chief_hooks(config, attachment, folder, spec)
            hooks = (*hooks, *spec.training_chief_hooks)
        else:
            trials = TrialHook(attachment, folder, config.model_dir)
            hooks = (*spec.training_chief_hooks, trials)
        return spec._replace(training_chief_hooks=hooks)

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

    def _guard_export(self, spec, served):
        """Lets evaluations and predictions through, but no export of an unfinished
        checkpoint."""
        schedules = {c.name: c.schedule for c in self.compressors}
        graph = tf.get_default_graph()
        state = [v for v in graph.get_collection("variables") if is_state(v.op.name)]
        scaffold = _saving_state(spec.scaffold, state) if state else spec.scaffold
        scaffold = scaffold or tf.train.Scaffold()
        savers = tf.get_collection(tf.GraphKeys.SAVERS)
        own = scaffold.saver or (savers[0] if savers else None)
        if own is None:
            saver = ServingSaver(schedules, served, sharded=True, allow_empty=True)
        else:
            own.build()
            saver = ServingSaver(schedules, served, saver_def=own.as_saver_def())
        return spec._replace(
            scaffold=tf.train.Scaffold(saver=saver, copy_from_scaffold=scaffold)
        )


def _check_spec(spec, mode):
    if not isinstance(spec, tf.estimator.EstimatorSpec):
        raise PlanError(
            f"model_fn returned {spec!r} for mode {mode!r}; it has to return an "
            "EstimatorSpec"
        )


def _with(train_op, ops):
    """A train_op that runs others, too, and returns what it returned."""
    if not ops:
        return train_op
    if isinstance(train_op, tf.Operation):
        return tf.group(train_op, *ops)
    with tf.control_dependencies(ops):
        return tf.identity(train_op)


def _saving_state(scaffold, state):
    """A Scaffold whose Saver holds our variables too.

    A Saver that is not built yet takes all variables when it is. One that is, or that
    was given a list, gets a successor with ours added.
    """
    scaffold = scaffold or tf.train.Scaffold()
    savers = tf.get_collection_ref(tf.GraphKeys.SAVERS)
    own = scaffold.saver or (savers[0] if savers else None)
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
