"""Complete training graphs of small networks, for the tests of Session mode."""
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models


def sparsifier(**kwargs):
    return ec.Sparsifier(ec.SparsifierConfig(**kwargs))


def build(network, shape, partitioner=None):
    """A complete training graph; returns its gradients and variables."""
    tf.set_random_seed(3)
    x, y = tf.data.make_one_shot_iterator(models.dataset(shape)()).get_next()
    with tf.variable_scope("net", partitioner=partitioner):
        logits = network(x["x"], False)
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    pairs = optimizer.compute_gradients(loss)
    train_op = optimizer.apply_gradients(pairs)
    return {v.op.name: g for g, v in pairs}, train_op
