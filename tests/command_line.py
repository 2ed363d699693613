"""The command line in the tests: a user's module, and ways to run commands on it."""
import json
import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
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
# Runs several command lines in copies of one process, for TensorFlow takes seconds to
# import and the lines here only find out what is wrong with them.
_RUN_ALL = """
import json, os, sys, traceback
from ec_estimator import __main__ as shell
for number, arguments in enumerate(json.loads(sys.argv[1])):
    child = os.fork()
    if not child:
        sys.argv = ["ec_estimator"] + arguments
        sys.stdout = open(f"{number}.out", "w")
        sys.stderr = open(f"{number}.err", "w")
        code = 99
        try:
            shell.main()
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    with open(f"{number}.code", "w") as file:
        file.write(str(os.waitpid(child, 0)[1] >> 8))
"""


def _python(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=str(folder),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )


def run(folder, *arguments):
    return _python(folder, "-m", "ec_estimator", *arguments)


def run_all(folder, lines):
    """[(exit code, stdout, stderr)] of several command lines, run one after another."""
    process = _python(folder, "-c", _RUN_ALL, json.dumps(lines))
    assert process.returncode == 0, process.stderr

    def result(number):
        code, out, err = (
            (folder / f"{number}.{end}").read_text() for end in ("code", "out", "err")
        )
        return int(code), out, err

    return [result(number) for number in range(len(lines))]
