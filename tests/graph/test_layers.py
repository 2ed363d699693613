"""From an op to its kernel."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.graph.layers import find_layers
from tests.graph.layer_graphs import (
    assert_matrix,
    build,
    some,
    taps_by_outputs,
    the_kernel,
    weights,
)


def conv2d():
    tf.layers.conv2d(some(2, 8, 8, 3), 5, 3, name="layer")


def conv3d():
    tf.layers.conv3d(some(2, 4, 4, 4, 2), 5, (1, 2, 3), name="layer")


def conv1d():
    tf.layers.conv1d(some(2, 8, 3), 5, 4, name="layer")


def dilated():
    tf.layers.conv2d(some(2, 8, 8, 3), 5, 3, dilation_rate=2, name="layer")


def transposed_conv():
    tf.layers.conv2d_transpose(some(2, 8, 8, 3), 5, 2, name="layer")


def keras_transposed_conv():
    tf.keras.layers.Conv2DTranspose(5, 2, name="layer")(some(2, 8, 8, 3))


def depthwise():
    w = tf.get_variable("layer/kernel", [3, 3, 4, 2])
    tf.nn.depthwise_conv2d(some(2, 8, 8, 4), w, [1, 1, 1, 1], "SAME")


def dense():
    tf.layers.dense(some(2, 4), 6, name="layer")


def dense_of_rank_3():
    tf.layers.dense(some(2, 7, 4), 6, name="layer")


def dense_of_unknown_batch_and_time():
    tf.layers.dense(some(None, None, 4), 6, name="layer")


def keras_dense():
    tf.keras.layers.Dense(6, name="layer")(some(2, 4))


def keras_dense_of_rank_3():
    tf.keras.layers.Dense(6, name="layer")(some(None, 7, 4))


def of_transposed_conv(kernel):
    return np.moveaxis(kernel, 2, 3).reshape(-1, kernel.shape[2])


def of_depthwise_conv(kernel):
    """It puts out each input channel twice; an output has 3 x 3 taps."""
    return kernel.reshape(9, 8)


LAYERS = [
    (conv2d, "Conv2D", (3, 3, 3, 5), taps_by_outputs),
    (conv3d, "Conv3D", (1, 2, 3, 2, 5), taps_by_outputs),
    (conv1d, "Conv2D", (4, 3, 5), taps_by_outputs),
    (dilated, "Conv2D", (3, 3, 3, 5), taps_by_outputs),
    (transposed_conv, "Conv2DBackpropInput", (2, 2, 5, 3), of_transposed_conv),
    (keras_transposed_conv, "Conv2DBackpropInput", (2, 2, 5, 3), of_transposed_conv),
    (depthwise, "DepthwiseConv2dNative", (3, 3, 4, 2), of_depthwise_conv),
    (dense, "MatMul", (4, 6), taps_by_outputs),
    (dense_of_rank_3, "MatMul", (4, 6), taps_by_outputs),
    (dense_of_unknown_batch_and_time, "MatMul", (4, 6), taps_by_outputs),
    (keras_dense, "MatMul", (4, 6), taps_by_outputs),
    (keras_dense_of_rank_3, "MatMul", (4, 6), taps_by_outputs),
]


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("network,op_type,shape,to_expected", LAYERS)
def test_a_kernel_is_found_and_seen_as_taps_by_outputs(
    network, op_type, shape, to_expected, resource
):
    with tf.Graph().as_default() as graph:
        with tf.variable_scope("", use_resource=resource):
            network()
    (layer,) = find_layers(graph)
    assert layer.op_type == op_type
    assert layer.reason == ""
    assert layer.kernel.name == "layer/kernel"
    assert layer.kernel.parts == ("layer/kernel",)
    assert layer.kernel.shape == shape
    assert layer.kernel.size == np.prod(shape)
    assert_matrix(graph, layer.kernel, to_expected)


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("shards,axis", [(3, 0), (2, 1), (1, 0)])
def test_partitions_are_joined_on_the_axis_they_were_cut_on(shards, axis, resource):
    def network():
        partitioner = tf.fixed_size_partitioner(shards, axis)
        with tf.variable_scope("", partitioner=partitioner, use_resource=resource):
            tf.layers.dense(some(2, 6), 4, use_bias=False, name="layer")

    graph, kernel = the_kernel(network)
    assert kernel.name == "layer/kernel"
    assert kernel.parts == tuple(f"layer/kernel/part_{i}" for i in range(shards))
    assert kernel.shape == (6, 4)
    assert_matrix(graph, kernel, lambda w: w)


def test_partitions_of_a_convolution_are_joined():
    def network():
        with tf.variable_scope("", partitioner=tf.fixed_size_partitioner(2, 3)):
            tf.layers.conv2d(some(2, 8, 8, 3), 5, 3, use_bias=False, name="layer")

    graph, kernel = the_kernel(network)
    assert kernel.part_shapes == ((3, 3, 3, 3), (3, 3, 3, 2))
    assert_matrix(graph, kernel, taps_by_outputs)


@pytest.mark.parametrize("resource", [False, True])
def test_the_kernel_of_a_recurrent_cell_is_found_inside_the_loop(resource):
    def network():
        with tf.variable_scope("", use_resource=resource):
            cell = tf.nn.rnn_cell.BasicLSTMCell(5)
            tf.nn.dynamic_rnn(cell, some(2, 7, 3), dtype=tf.float32)

    graph, kernel = the_kernel(network)
    assert kernel.name == "rnn/basic_lstm_cell/kernel"
    assert kernel.matrix_shape == (3 + 5, 4 * 5)
    assert_matrix(graph, kernel, lambda w: w)


@pytest.mark.parametrize("resource", [False, True])
def test_a_kernel_is_found_inside_a_conditional(resource):
    def network():
        w, x = weights(4, 6, use_resource=resource), some(2, 4)
        either = tf.placeholder(tf.bool, [])
        tf.cond(either, lambda: tf.matmul(x, w), lambda: tf.zeros([2, 6]))

    _, kernel = the_kernel(network)
    assert kernel.name == "w"


def test_a_kernel_that_several_layers_read_is_found_in_each():
    def network():
        w = weights(4, 4)
        tf.matmul(tf.matmul(some(2, 4), w, name="one"), w, name="two")

    _, layers = build(network)
    assert [(layer.op, layer.kernel.name) for layer in layers] == [
        ("one", "w"),
        ("two", "w"),
    ]


def test_ops_to_skip_are_left_out():
    def network():
        tf.matmul(some(2, 4), weights(4, 4), name="one")
        tf.matmul(some(2, 4), tf.get_variable("v", [4, 4]), name="two")

    graph, _ = build(network)
    layers = find_layers(graph, {graph.get_operation_by_name("one")})
    assert [layer.op for layer in layers] == ["two"]


def test_a_graph_without_layers_has_none():
    assert build(lambda: tf.nn.relu(some(2, 4)) + weights(4))[1] == []
