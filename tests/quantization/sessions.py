"""A small model, its training and its dense checkpoint, for tests of Session mode."""
import os

import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models

SHAPE = (8, 8, 3)
KERNELS = ("w1", "w2", "w3")


def config(**kwargs):
    return ec.QuantizerConfig(**{"step_interval": 4, "num_trials": 3, **kwargs})


def model(training=True):
    """(logits, loss) of a small model on fixed data."""
    tf.set_random_seed(3)
    x, y = tf.data.make_one_shot_iterator(models.dataset(SHAPE)()).get_next()
    logits = models._raw_network(x["x"], training)
    return logits, tf.losses.sparse_softmax_cross_entropy(y, logits)


def minimize(loss):
    step = tf.train.get_or_create_global_step()
    return tf.train.AdamOptimizer(0.01).minimize(loss, step)


def dense_checkpoint(folder, without=(), shapes=None):
    """Of the model before quantization; returns its path and the weights."""
    random = np.random.RandomState(9)
    shapes = {"w1": [3, 3, 3, 8], "w2": [8, 20], "w3": [5, 20], **(shapes or {})}
    weights = {n: random.uniform(-0.5, 0.5, s) for n, s in sorted(shapes.items())}
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in weights.items():
            if name not in without:
                tf.get_variable(name, initializer=value.astype(np.float32))
        tf.train.get_or_create_global_step()
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, os.path.join(folder, "model.ckpt"))
    return path, weights
