"""The command line in the tests: a user's module, and ways to run commands on it."""
import os
import subprocess
import sys

from tests.launcher import ROOT

MODEL = '''
"""A user's module; its input_fn takes what an Estimator offers, its data a table."""
import tensorflow.compat.v1 as tf
from absl import flags

flags.DEFINE_integer("hidden", 8, "units of the hidden layer")
params = {"batch": 4}


def model_fn(features, labels, mode, params):
    x = tf.layers.dense(features["x"], flags.FLAGS.hidden, tf.nn.relu, name="hidden")
    logits = tf.layers.dense(x, 4, name="head")
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"logits": logits})
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    train_op = optimizer.minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def data(batch):
    labels = tf.constant([0, 1, 2, 3], tf.int64)
    initializer = tf.lookup.KeyValueTensorInitializer(labels, labels)
    table = tf.lookup.StaticHashTable(initializer, -1)
    tf.add_to_collection(tf.GraphKeys.TABLE_INITIALIZERS, table.initializer)
    dataset = tf.data.Dataset.from_tensor_slices(({"x": tf.eye(4, 6)}, labels))
    return dataset.map(lambda x, y: (x, table.lookup(y))).batch(batch)


def train_input_fn(mode, params, config):
    assert mode == tf.estimator.ModeKeys.TRAIN
    assert isinstance(config, tf.estimator.RunConfig)
    return data(params["batch"]).repeat()


def eval_input_fn():
    return data(4)


def serving_input_receiver_fn():
    x = tf.placeholder(tf.float32, [None, 6])
    return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})
'''


def run(folder, *arguments):
    """subprocess.CompletedProcess of a command line, in a new process."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "ec_estimator", *arguments],
        cwd=str(folder),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )


def run_all(launcher, folder, lines):
    """[(exit code, stdout, stderr)] of several command lines, run one after another."""
    results = [launcher.run("ec_estimator", *line, cwd=folder) for line in lines]
    return [(each.returncode, each.stdout, each.stderr) for each in results]
