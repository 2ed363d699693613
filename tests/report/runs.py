"""Runs of real Estimators on a small network, whose folders reports are made of."""
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models

TRIALS = {"step_interval": 2, "num_trials": 3}


def network(x, training):
    """Kernels of 3 x 3 x 3 x 8, 72 x 10 and 10 x 5 weights; dropout changes the last
    one in every mode."""
    x = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu, name="conv")
    x = tf.reshape(tf.layers.average_pooling2d(x, 2, 2), [-1, 72])
    x = tf.layers.dense(x, 10, tf.nn.relu, name="dense")
    w = tf.get_variable("w", [10, models.CLASSES])
    return tf.matmul(x, tf.nn.dropout(w, rate=0.1), name="out")


def quantizer(**config):
    config = {"wbits": 4, "signed": "auto", **TRIALS, **config}
    return ec.LSQQuantizer(ec.QuantizerConfig(**config))


def sparsifier():
    return ec.Sparsifier(ec.SparsifierConfig(target_sparse_ratio=0.5, **TRIALS))


def pruner():
    return ec.Pruner(ec.PrunerConfig(compression_ratio=0.5, **TRIALS))


def model():
    return models.classifier(network, (8, 8, 3))


def estimator(folder, compressors):
    return tf.estimator.Estimator(
        ec.compress(model()[0], compressors), config=models.run_config(str(folder))
    )


def train(folder, compressors, steps=7):
    """Trains and evaluates in a folder; returns the metrics."""
    _, input_fn = model()
    train_spec = tf.estimator.TrainSpec(input_fn, steps)
    eval_spec = tf.estimator.EvalSpec(input_fn, 2, start_delay_secs=0, throttle_secs=0)
    return ec.train_and_evaluate(estimator(folder, compressors), train_spec, eval_spec)[
        0
    ]
