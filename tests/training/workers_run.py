"""Workers of a MultiWorkerMirroredStrategy, each a process and a user's program, and an
evaluator: they train, on batches of their own, and write down what their variables are
before each step and at the end.

    python -m tests.training.workers_run FOLDER COMPRESSORS FAULT

FAULT: "kill": the chief is killed, and all are started again, as TensorFlow's workers
have to be; "apart": a worker has weights of its own.
"""
import functools
import json
import os
import signal
import sys

import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.core.replicas import first
from examples.cluster import free_ports
from tests import models
from tests.drills.processes import Processes
from tests.ranks import COMPRESSORS, STEPS, Record, files

TASKS = ["chief", "worker", "evaluator"]
_PATIENCE = 120


# Its last checkpoint is of step 3, after the first trial.
KILLED_BEFORE = 5


class Kill(tf.train.SessionRunHook):
    """Ends the process before a step."""

    def before_run(self, run_context):
        step = run_context.session.run(tf.train.get_global_step())
        if step == KILLED_BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)


class Apart(tf.train.SessionRunHook):
    """Gives a worker another weight."""

    def begin(self):
        [kernel] = (v for v in tf.trainable_variables() if v.op.name == "conv/kernel")
        self._change = first(kernel).assign_add(tf.ones(kernel.shape))

    def after_create_session(self, session, coord):
        session.run(self._change)


def network(x, training):
    # Not the graph's seed, which depends on how many ops a strategy makes.
    start = {"kernel_initializer": tf.glorot_uniform_initializer(seed=1)}
    x = tf.layers.conv2d(x, 16, 3, use_bias=False, name="conv", **start)
    x = tf.layers.batch_normalization(x, training=training, name="norm")
    x = tf.layers.flatten(tf.nn.relu(x))
    x = tf.layers.dense(x, 18, tf.nn.relu, name="hidden", **start)
    return tf.layers.dense(x, models.CLASSES, name="logits", **start)


def estimator(model_dir, name, strategy=None):
    model_fn, _ = models.classifier(network, (8, 8, 3))
    config = tf.estimator.RunConfig(
        model_dir,
        tf_random_seed=3,
        session_config=models.ONE_THREAD,
        train_distribute=strategy,
        save_checkpoints_steps=3,
    )
    model_fn = ec.compress(model_fn, COMPRESSORS[name])
    return tf.estimator.Estimator(model_fn, config=config)


def input_fn(seed):
    def make():
        random = np.random.RandomState(seed)
        x = random.standard_normal((16, 8, 8, 3)).astype(np.float32)
        y = random.randint(0, models.CLASSES, 16)
        return tf.data.Dataset.from_tensor_slices(({"x": x}, y)).repeat().batch(4)

    return make


def serving_input_fn():
    return tf.estimator.export.build_raw_serving_input_receiver_fn(
        {"x": tf.placeholder(tf.float32, [None, 8, 8, 3])}
    )()


def work(folder, name, rank, part, faults):
    """What a task does.

    Args:
      rank: index of TASKS.
      part: name for what it writes down.
      faults: hooks.
    """
    tf.logging.set_verbosity(tf.logging.INFO)
    strategy = tf.distribute.experimental.MultiWorkerMirroredStrategy()
    record = Record(files(folder, rank, f"{name}-{part}"))
    exporter = ec.SavedModelExporter(serving_input_fn)
    ec.train_and_evaluate(
        estimator(os.path.join(folder, name), name, strategy),
        tf.estimator.TrainSpec(input_fn(rank), STEPS, [record, *faults]),
        tf.estimator.EvalSpec(
            input_fn(5), 2, exporters=[exporter], start_delay_secs=0, throttle_secs=1
        ),
    )


def run(folder, name, tasks, part, faults):
    """Runs tasks until all have ended, or one is killed.

    Args:
      part: as of `work`.
      faults: {task: hook}.

    Returns:
      {task: exit code}.
    """
    addresses = {
        task: [f"localhost:{port}"] for task, port in zip(TASKS, free_ports(3))
    }
    with Processes(os.path.join(folder, "logs")) as processes:
        for rank, task in enumerate(tasks):
            config = {"cluster": addresses, "task": {"type": task, "index": 0}}
            hooks = [faults[task]] if task in faults else []
            processes.start(
                task,
                functools.partial(work, folder, name, rank, part, hooks),
                {"TF_CONFIG": json.dumps(config)},
            )
        processes.wait(
            lambda: not processes.running
            or min(processes.codes.values(), default=0) < 0,
            _PATIENCE,
        )
        return dict(processes.codes)


def main(folder, name, fault):
    trainers = TASKS[:2]
    if fault == "apart":
        codes = run(folder, name, trainers, "apart", {"worker": Apart()})
        assert codes == {"chief": 1, "worker": 1}, codes
        return
    codes = run(folder, name, trainers, "first", {"chief": Kill()})
    assert codes == {"chief": -signal.SIGKILL}, codes
    codes = run(folder, name, TASKS, "second", {})
    assert not any(codes.values()), codes


if __name__ == "__main__":
    main(*sys.argv[1:])
