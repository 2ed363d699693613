"""GapFinetune's getter, whatever kind of variable it makes, and inside the door."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.pruning.test_pruner import pruner
from tests.rewrite.door import gated_reads

KINDS = pytest.mark.parametrize("use_resource", [False, True])


def network(x, use_resource, by_counts=False):
    def kernel(name, *shape):
        return tf.get_variable(name, shape, use_resource=use_resource)

    h = tf.nn.relu(tf.matmul(x, kernel("first", 8, 10)))
    y = tf.matmul(h, kernel("second", 10, 6))
    if by_counts and int(y.shape[-1]) != 6:
        y = tf.nn.elu(y)
    return tf.matmul(tf.nn.relu(y), kernel("out", 6, models.CLASSES))


def prune(folder, use_resource):
    def model_fn(features, labels, mode):
        logits = network(features["x"], use_resource)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions={"logits": logits})
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        step = tf.train.get_global_step()
        train_op = tf.train.AdamOptimizer().minimize(loss, step)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    compressed = ec.compress(model_fn, pruner(compression_ratio=0.6))
    estimator = tf.estimator.Estimator(compressed, config=models.run_config(folder))
    estimator.train(models.dataset((8,)), max_steps=5)
    return ec.GapFinetune(folder)


@KINDS
@pytest.mark.parametrize("by_counts", [False, True])
def test_it_warns_of_another_network(use_resource, by_counts, tmp_path, caplog):
    helper = prune(str(tmp_path), use_resource)
    with tf.Graph().as_default(), caplog.at_level("WARNING"):
        with tf.variable_scope("", custom_getter=helper.get_variable):
            logits = network(tf.zeros([2, 8]), use_resource, by_counts)
        tf.gradients(tf.reduce_sum(logits), tf.trainable_variables())
    said = "The layers of out are not connected as they were" in caplog.text
    assert said == by_counts


@KINDS
def test_inside_the_door_its_variables_are_gated(use_resource, tmp_path):
    helper = prune(str(tmp_path), use_resource)
    with tf.Graph().as_default() as graph:
        with gated_reads(graph, lambda name, gradient: 0 * gradient):
            with tf.variable_scope("", custom_getter=helper.get_variable):
                logits = network(tf.ones([2, 8]), use_resource)
        gradients = tf.gradients(tf.reduce_sum(logits), tf.trainable_variables())
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            values = session.run(gradients)
    assert len(values) == 3
    for value in values:
        np.testing.assert_array_equal(value, np.zeros_like(value))
