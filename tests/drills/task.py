"""A task of a drill's cluster: what a user's program would be."""
import functools
import os
import time

import tensorflow.compat.v1 as tf
from tensorflow.python.training import session_manager

import ec_estimator as ec
from tests import replicas
from tests.drills.scenario import COMPRESSORS, MODELS, STEPS

# Seconds that each step takes longer, so that there is time for faults.
_PAUSE = 0.1


class Slowly(tf.train.SessionRunHook):
    """Takes time for each step, and leaves a file when the first is done."""

    def __init__(self, started):
        self._started = started

    def after_run(self, run_context, run_values):
        if not os.path.exists(self._started):
            open(self._started, "w").close()
        time.sleep(_PAUSE)


def wait_less():
    """Has tasks that wait for others look each second, not each 30; and a synchronous
    chief not wait two minutes for gradients that no one sends any more."""
    join = tf.train.Coordinator.join

    def join_soon(coord, threads=None, **_):
        join(coord, threads, stop_grace_period_secs=0.5, ignore_live_threads=True)

    tf.train.Coordinator.join = join_soon
    manager = session_manager.SessionManager
    manager.__init__ = functools.partialmethod(manager.__init__, recovery_wait_secs=0.5)


def make_estimator(drill, folder):
    """The tf.estimator.Estimator of a task, or of a reader when there is no cluster."""
    strategy = {}
    if drill.strategy == "mirrored":
        strategy["train_distribute"] = replicas.mirrored()
        strategy["session_config"] = replicas.session_config()
    config = tf.estimator.RunConfig(
        os.path.join(folder, "run"),
        save_checkpoints_steps=10,
        save_summary_steps=None,
        keep_checkpoint_max=20,
        experimental_max_worker_delay_secs=0,
        **strategy,
    )
    model_fn = MODELS[drill.model].model_fn
    compressor = COMPRESSORS[drill.compressor]()
    return tf.estimator.Estimator(ec.compress(model_fn, compressor), config=config)


def train(drill, folder):
    """Does what TF_CONFIG says, until it is done."""
    model = MODELS[drill.model]
    wait_less()
    exporter = ec.SavedModelExporter(model.serving_input_receiver_fn)
    estimator = make_estimator(drill, folder)
    ec.train_and_evaluate(
        estimator,
        tf.estimator.TrainSpec(
            model.train_input_fn, STEPS, [Slowly(os.path.join(folder, "started"))]
        ),
        tf.estimator.EvalSpec(
            model.eval_input_fn,
            1,
            exporters=[exporter],
            start_delay_secs=0,
            throttle_secs=1,
        ),
    )
    if estimator.config.is_chief:
        # To TensorFlow a file that is too large is the end of the input, and a training
        # that ends with it ended well.
        path = tf.train.latest_checkpoint(os.path.join(folder, "run"))
        assert tf.train.load_variable(path, "global_step") >= STEPS
