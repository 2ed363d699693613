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
from tests.ranks import COMPRESSORS, STEPS, STOP, Record, files


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


def train(compressors, model_dir, record):
    """Trains both parts of a run."""
    for steps in (STOP, STEPS):
        hooks = [hvd.BroadcastGlobalVariablesHook(0), record]
        estimator(compressors, model_dir).train(input_fn, hooks, max_steps=steps)


def train_in_session(compressors, record):
    """The same in a session, which has no global step and is not stopped."""
    with tf.Graph().as_default():
        tf.set_random_seed(hvd.rank())
        features, labels = tf.data.make_one_shot_iterator(input_fn()).get_next()
        logits = models._raw_network(features["x"], True)
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        train_op = optimizer().minimize(loss)
        hooks = [
            ec.CompressionHook(compressors),
            hvd.BroadcastGlobalVariablesHook(0),
            record,
        ]
        with tf.train.MonitoredSession(hooks=hooks) as session:
            for _ in range(STEPS + 1):
                session.run(train_op)


def refusal(compressors, model_dir):
    """What is said of a rank that has weights of its own."""
    try:
        estimator(compressors, model_dir).train(input_fn, max_steps=STEPS)
    except ec.CompressionError as error:
        return str(error)


def main(folder):
    hvd.init()
    for name, compressors in COMPRESSORS.items():
        record = Record(files(folder, hvd.rank(), name))
        train(compressors, os.path.join(folder, name), record)
    record = Record(files(folder, hvd.rank(), "session"))
    train_in_session(COMPRESSORS["pruning"], record)
    said = refusal(COMPRESSORS["sparsity"], os.path.join(folder, "refusal"))
    np.savez(next(files(folder, hvd.rank(), "refusal")), said=said)


if __name__ == "__main__":
    main(sys.argv[1])
