"""How often layers use their kernels, by hand; and where their channels are."""
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.channels.cost import has_unknown_positions, layer_use
from ec_estimator.channels.groups import find_channels
from ec_estimator.graph.layers import find_layers


def uses(build, shape):
    """[(kernel, output axes, positions)] of the layers of build(placeholder)."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, shape)
        outputs = build(x)
        channels = find_channels(graph, [outputs])
        found = [layer_use(graph, n, channels, "") for n in find_layers(graph)]
    return [(use.kernel, use.output_axes, use.positions) for use in found]


def test_a_convolution_uses_its_kernel_at_every_pixel_that_it_puts_out():
    found = uses(lambda x: tf.layers.conv2d(x, 4, 3, 2, "same"), [None, 10, 6, 3])
    assert found == [("conv2d/kernel", (3,), 5 * 3)]


def test_a_convolution_with_channels_first_counts_pixels_not_channels():
    def build(x):
        return tf.layers.conv2d(x, 4, 3, data_format="channels_first")

    assert uses(build, [None, 3, 10, 6]) == [("conv2d/kernel", (3,), 8 * 4)]


def test_a_transposed_convolution_uses_its_kernel_at_every_pixel_that_it_reads():
    def build(x):
        return tf.layers.conv2d_transpose(x, 4, 3, 2, "same")

    found = uses(build, [None, 5, 3, 7])
    # The kernel is [height, width, out, in].
    assert found == [("conv2d_transpose/kernel", (2,), 5 * 3)]


def test_a_depthwise_convolution_puts_out_its_last_two_axes():
    def build(x):
        kernel = tf.get_variable("k", [3, 3, 6, 2])
        return tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME")

    assert uses(build, [None, 4, 4, 6]) == [("k", (2, 3), 16)]


def test_one_and_three_dimensional_convolutions():
    one = uses(lambda x: tf.layers.conv1d(x, 4, 3), [None, 12, 5])
    assert one == [("conv1d/kernel", (2,), 10)]
    three = uses(lambda x: tf.layers.conv3d(x, 4, 2), [None, 3, 4, 5, 2])
    assert three == [("conv3d/kernel", (4,), 2 * 3 * 4)]


@pytest.mark.parametrize("rows", [[], [6], [6, 4]])
def test_a_dense_layer_uses_its_kernel_once_a_row(rows):
    found = uses(lambda x: tf.layers.dense(x, 4), [None, *rows, 10])
    assert found == [("dense/kernel", (1,), {0: 1, 1: 6, 2: 24}[len(rows)])]


def test_a_flattened_image_is_one_row():
    def build(x):
        return tf.layers.dense(tf.layers.flatten(x), 4)

    assert uses(build, [None, 3, 3, 8]) == [("dense/kernel", (1,), 1)]


def test_a_size_that_is_not_known_counts_once():
    found = uses(lambda x: tf.layers.conv2d(x, 4, 3, 1, "same"), [None, None, 6, 3])
    assert found == [("conv2d/kernel", (3,), 6)]


def test_a_kernel_that_is_used_both_ways_round_has_an_output_axis_for_each():
    def build(x):
        kernel = tf.get_variable("k", [10, 4])
        return tf.matmul(tf.nn.relu(tf.matmul(x, kernel)), kernel, transpose_b=True)

    assert uses(build, [None, 10]) == [("k", (1,), 1), ("k", (0,), 1)]


def test_only_sizes_that_are_counted_may_be_unknown():
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, None, 6, 3])
        y = tf.layers.conv2d(x, 4, 3)
        tf.layers.dense(tf.reduce_mean(y, [1, 2]), 2)
        conv, dense = find_layers(graph)
        for layer, unknown in ((conv, True), (dense, False)):
            op = graph.get_operation_by_name(layer.op)
            assert has_unknown_positions(op, layer.kernel) == unknown
