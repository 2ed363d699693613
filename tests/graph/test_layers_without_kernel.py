"""A layer whose kernel is not found says why."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function

from tests.graph.layer_graphs import build, some, weights


def the_reason(network, *args):
    _, (layer,) = build(network, *args)
    assert layer.kernel is None
    return layer.reason


def computed():
    w = weights(4, 6)
    tf.matmul(some(2, 4), tf.multiply(w, 2.0, name="scaled"))


def computed_on_the_left():
    tf.matmul(tf.nn.relu(weights(4, 6), name="positive"), some(6, 2))


def weight_norm():
    w = tf.nn.l2_normalize(weights(3, 3, 2, 5), name="normed")
    tf.nn.conv2d(some(2, 8, 8, 2), w, strides=1, padding="SAME")


def fed():
    w = tf.placeholder(tf.float32, [3, 3, 2, 5], "filters")
    tf.nn.conv2d(some(2, 8, 8, 2), w, strides=1, padding="SAME")


def constant():
    tf.matmul(some(2, 4), tf.constant(np.ones((4, 6), np.float32), name="fixed"))


def two_activations():
    x = some(2, 3, 4)
    tf.matmul(x, tf.nn.relu(x), transpose_b=True)


def two_activations_of_an_input_fn():
    data = tf.data.Dataset.from_tensors(tf.ones([3, 4]))
    x = tf.data.make_one_shot_iterator(data).get_next()
    tf.matmul(x, x, transpose_b=True)


def joined():
    w = tf.concat(
        [tf.get_variable("a", [2, 6]), tf.get_variable("b", [2, 6])], 0, "both"
    )
    tf.matmul(some(2, 4), w)


def joined_after_moving():
    with tf.variable_scope("", partitioner=tf.fixed_size_partitioner(2)):
        parts = [tf.transpose(part) for part in weights(4, 6)]
    tf.matmul(some(2, 4), tf.concat(parts, 1, "both"), transpose_b=True)


def unknown_shape():
    value = tf.placeholder(tf.float32, [None, 6])
    w = tf.Variable(value, validate_shape=False, trainable=False, name="w")
    tf.matmul(some(2, 4), w)


def integers():
    tf.matmul(
        tf.placeholder(tf.int32, [2, 4]),
        tf.get_variable("w", [4, 6], tf.int32, tf.zeros_initializer()),
    )


def reshaped_to_unknown_size():
    shape = tf.Variable([6, 4], trainable=False)
    tf.matmul(some(2, None), tf.reshape(weights(4, 6), shape, name="shaped"))


def transposed_by_a_tensor():
    order = tf.Variable([1, 0], trainable=False, name="order")
    tf.matmul(some(2, None), tf.transpose(weights(4, 6), order))


REASONS = [
    (computed, "its kernel is computed by Mul 'scaled'"),
    (computed_on_the_left, "its kernel is computed by Relu 'positive'"),
    (weight_norm, "its kernel is computed by Mul 'normed'"),
    (fed, "its kernel is computed by Placeholder 'filters'"),
    (constant, "its kernel is computed by Const 'fixed'"),
    (two_activations, "multiplies two activations"),
    (two_activations_of_an_input_fn, "multiplies two activations"),
    (joined, "its kernel is joined by ConcatV2 'both'"),
    (joined_after_moving, "its kernel is joined by ConcatV2 'both'"),
    (unknown_shape, "its kernel 'w' has an unknown shape <unknown>"),
    (integers, "its kernel 'w' holds int32, not floats"),
    (reshaped_to_unknown_size, "its kernel is reshaped to unknown size by 'shaped:0'"),
    (transposed_by_a_tensor, "its kernel is moved by 'order/read:0', not a constant"),
]


@pytest.mark.parametrize("network,reason", REASONS)
def test_a_layer_without_a_kernel_says_why(network, reason):
    assert the_reason(network) == reason


def in_tf_function():
    w = weights(4, 6, use_resource=True)
    tf.function(lambda x: tf.matmul(x, w, name="inner"))(some(2, 4))


def in_defun():
    @function.Defun(tf.float32, tf.float32)
    def body(x, w):
        x.set_shape([2, 4])
        w.set_shape([4, 6])
        return tf.matmul(x, w, name="inner")

    body(some(2, 4), weights(4, 6))


@pytest.mark.parametrize("network", [in_tf_function, in_defun])
def test_a_layer_inside_a_function_body_is_listed_with_the_reason(network):
    _, layers = build(network)
    assert layers
    for layer in layers:
        assert "/inner" in layer.op
        assert layer.op_type == "MatMul"
        assert layer.kernel is None
        assert layer.reason.startswith("is inside a function body (tf.function, Defun")
