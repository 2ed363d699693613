"""Gradients in a graph that has its backward pass already are found and gated."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.training.attachment import attach_to_finished_graph
from tests.models import ONE_THREAD


def orthogonality(u, w):
    return tf.reduce_sum((tf.matmul(w, w, transpose_b=True) - tf.eye(6)) ** 2)


def closeness(u, w):
    """Holds two layers together, as soft parameter sharing does."""
    return tf.reduce_sum((w - u) ** 2)


def quotient(u, w):
    return tf.reduce_sum(u / (w + 3.0) + tf.square(w / (u + 3.0)))


def lasso(u, w):
    return tf.reduce_sum(tf.norm(w + 0.1, axis=0))


def two_layers(use_resource):
    """(loss of the layers, their kernels u and w), all of one shape: [6, 6]."""
    random = np.random.RandomState(0)
    x = tf.constant(random.standard_normal((6, 6)).astype(np.float32))
    with tf.variable_scope("", use_resource=use_resource):
        u = tf.get_variable("u", [6, 6], initializer=tf.glorot_normal_initializer(1))
        w = tf.get_variable("w", [6, 6], initializer=tf.glorot_normal_initializer(2))
    return tf.reduce_mean(tf.matmul(tf.tanh(tf.matmul(x, u)), w) ** 2), [u, w]


@pytest.mark.parametrize("gated_at_once", [False, True])
@pytest.mark.parametrize("use_resource", [False, True])
@pytest.mark.parametrize("penalty", [orthogonality, closeness, quotient, lasso])
@pytest.mark.parametrize("method", [None, tf.AggregationMethod.EXPERIMENTAL_TREE])
def test_gradients_of_penalties_are_those_of_the_weights_that_are_alive(
    penalty, use_resource, gated_at_once, method, caplog
):
    with tf.Graph().as_default() as graph:
        loss, kernels = two_layers(use_resource)
        loss += penalty(*kernels)
        gradients = tf.gradients(
            loss, kernels, gate_gradients=gated_at_once, aggregation_method=method
        )
        # What a clipping by norm would read.
        actual = [tf.identity(gradient) for gradient in gradients]
        with caplog.at_level("WARNING"):
            attached = attach_to_finished_graph(
                graph, [ec.Sparsifier(ec.SparsifierConfig())]
            ).attached[0]
        # Made after the fact, these are TensorFlow's own.
        whole = tf.gradients(loss, kernels)
        with tf.Session(config=ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            attached.run_trial(session, 1, 0.5)
            values, actual, whole = session.run([kernels, actual, whole])
    assert "No gradient" not in caplog.text
    for value, found, dense in zip(values, actual, whole):
        assert np.count_nonzero(value == 0) == 18
        np.testing.assert_allclose(found, dense * (value != 0), rtol=1e-5, atol=1e-6)


def test_a_penalty_with_a_gradient_of_its_own_is_warned_about(caplog):
    with tf.Graph().as_default() as graph:
        loss, kernels = two_layers(False)
        penalty = closeness(*kernels)
        for term in (loss, penalty):
            tf.global_norm(tf.gradients(term, kernels))
        with caplog.at_level("WARNING"):
            attach_to_finished_graph(graph, [ec.Sparsifier(ec.SparsifierConfig())])
    assert "No gradient of kernel w was found at sub, which reads it" in caplog.text
    assert "MatMul" not in caplog.text
