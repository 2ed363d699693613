"""One rank's program: trains with each compressor, on batches and from weights of its
own, and writes down what its variables are before each step and at the end.

    horovodrun -np 2 --gloo -H localhost:2 python -m tests.horovod.rank FOLDER
"""
import os
import sys

import horovod.tensorflow as hvd
import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models

TRIALS = {"step_interval": 2, "num_trials": 3}
COMPRESSORS = {
    "sparsity": [ec.Sparsifier(ec.SparsifierConfig(0.6, **TRIALS))],
    "pruning": [ec.Pruner(ec.PrunerConfig(0.5, **TRIALS))],
    "quantization": [ec.LSQQuantizer(ec.QuantizerConfig(**TRIALS))],
    "both": [
        ec.Pruner(ec.PrunerConfig(0.5, **TRIALS)),
        ec.LSQQuantizer(ec.QuantizerConfig(**TRIALS)),
    ],
}
# A run is stopped between trials, and goes on from rank 0's checkpoint.
STOP, STEPS = 3, 8


class Record(tf.train.SessionRunHook):
    """Writes down {name: value} of what has to be the same on all ranks."""

    def __init__(self, values):
        self._values = values

    def begin(self):
        self._variables = {
            v.op.name: v for v in tf.global_variables() if _is_shared(v.op.name)
        }

    def before_run(self, run_context):
        self.end(run_context.session)

    def end(self, session):
        self._values.append(session.run(self._variables))


def _is_shared(name):
    """Between trials importance and recent values are each rank's own; the moving
    statistics of batch norms are always."""
    return not any(part in name for part in ("importance", "recent", "moving_"))


def input_fn():
    random = np.random.RandomState(hvd.rank())
    x = random.standard_normal((16, 8, 8, 3)).astype(np.float32)
    y = random.randint(0, models.CLASSES, 16)
    return tf.data.Dataset.from_tensor_slices(({"x": x}, y)).repeat().batch(4)


def optimizer():
    return hvd.DistributedOptimizer(tf.train.MomentumOptimizer(0.05, 0.9))


def estimator(compressors, model_dir):
    model_fn, _ = models.classifier(models._raw_network, (8, 8, 3), optimizer)
    # Not the same first weights, so that the broadcast matters.
    config = tf.estimator.RunConfig(
        model_dir if hvd.rank() == 0 else None,
        tf_random_seed=hvd.rank(),
        session_config=models.ONE_THREAD,
    )
    return tf.estimator.Estimator(ec.compress(model_fn, compressors), config=config)


def train(compressors, model_dir):
    """[{name: value}] before each step and at the end of both parts of a run."""
    values = []
    for steps in (STOP, STEPS):
        hooks = [hvd.BroadcastGlobalVariablesHook(0), Record(values)]
        estimator(compressors, model_dir).train(input_fn, hooks, max_steps=steps)
    return values


def train_in_session(compressors):
    """The same of a session, which has no global step and is not stopped."""
    values = []
    with tf.Graph().as_default():
        tf.set_random_seed(hvd.rank())
        features, labels = tf.data.make_one_shot_iterator(input_fn()).get_next()
        logits = models._raw_network(features["x"], True)
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        train_op = optimizer().minimize(loss)
        hooks = [
            ec.CompressionHook(compressors),
            hvd.BroadcastGlobalVariablesHook(0),
            Record(values),
        ]
        with tf.train.MonitoredSession(hooks=hooks) as session:
            for _ in range(STEPS + 1):
                session.run(train_op)
    return values


def refusal(compressors, model_dir):
    """What is said of a rank that has weights of its own."""
    try:
        estimator(compressors, model_dir).train(input_fn, max_steps=STEPS)
    except ec.CompressionError as error:
        return str(error)


def path(folder, rank, name, index):
    """The file of what a rank has written down, the index-th of its kind."""
    return os.path.join(folder, f"{rank}-{name}-{index}.npz")


def main(folder):
    hvd.init()
    runs = {
        name: train(compressors, os.path.join(folder, name))
        for name, compressors in COMPRESSORS.items()
    }
    runs["session"] = train_in_session(COMPRESSORS["pruning"])
    for name, values in runs.items():
        for index, found in enumerate(values):
            np.savez(path(folder, hvd.rank(), name, index), **found)
    said = refusal(COMPRESSORS["sparsity"], os.path.join(folder, "refusal"))
    np.savez(path(folder, hvd.rank(), "refusal", 0), said=said)


if __name__ == "__main__":
    main(sys.argv[1])
