"""From an op to its kernel, and the matrix that a compressor sees."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function

from ec_estimator.graph.layers import find_layers
from ec_estimator.rewrite import kernels


def build(network, *args):
    """(graph, its layers) of a network built in a graph of its own."""
    with tf.Graph().as_default() as graph:
        network(*args)
    return graph, find_layers(graph)


def the_kernel(network, *args):
    """(graph, kernel of its only layer)."""
    graph, (layer,) = build(network, *args)
    assert layer.reason == ""
    return graph, layer.kernel


def the_reason(network, *args):
    _, (layer,) = build(network, *args)
    assert layer.kernel is None
    return layer.reason


def some(*shape):
    return tf.placeholder(tf.float32, shape, "x")


def weights(*shape, **kwargs):
    return tf.get_variable("w", shape, **kwargs)


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


def taps_by_outputs(kernel):
    return kernel.reshape(-1, kernel.shape[-1])


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


def assert_matrix(graph, kernel, to_expected):
    """The kernel's view of its variables is what NumPy makes of their values."""
    random = np.random.RandomState(0)
    parts = [random.standard_normal(s).astype(np.float32) for s in kernel.part_shapes]
    expected = to_expected(np.concatenate(parts, kernel.axis))
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(kernels.to_matrix(kernel, list(map(tf.constant, parts))))
    assert kernel.matrix_shape == expected.shape
    np.testing.assert_array_equal(found, expected)
    for part, shape in zip(kernel.parts, kernel.part_shapes):
        (variable,) = [
            v for v in graph.get_collection("variables") if v.op.name == part
        ]
        assert variable.shape == shape


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


@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_columns_of_a_matrix_product_are_its_outputs(
    side, transpose_a, transpose_b
):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x, w = tf.ones([5, 5]), weights(5, 5)
        operands = (w, x) if side == "left" else (x, w)
        y = tf.matmul(*operands, transpose_a=transpose_a, transpose_b=transpose_b)
        (layer,) = find_layers(graph)
        # Only column 2 of the matrix is not zero, so only output channel 2 is not:
        # a row of y = w x, a column of y = x w.
        matrix = np.zeros((5, 5), np.float32)
        matrix[:, 2] = 1
        (value,) = kernels.from_matrix(layer.kernel, tf.constant(matrix))
        session.run(w.assign(value))
        found = session.run(y)
    expected = np.zeros((5, 5))
    expected[(2, slice(None)) if side == "left" else (slice(None), 2)] = 5
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "side,transposed,shape,matrix_shape",
    [
        ("right", False, (4, 6), (4, 6)),
        ("right", True, (6, 4), (4, 6)),
        ("left", False, (6, 4), (4, 6)),
        ("left", True, (4, 6), (4, 6)),
    ],
)
def test_rows_are_inputs_and_columns_outputs(side, transposed, shape, matrix_shape):
    def network():
        if side == "left":
            tf.matmul(weights(*shape), some(4, 3), transpose_a=transposed)
        else:
            tf.matmul(some(3, 4), weights(*shape), transpose_b=transposed)

    graph, kernel = the_kernel(network)
    assert kernel.matrix_shape == matrix_shape
    assert_matrix(graph, kernel, lambda w: w if w.shape == matrix_shape else w.T)


@pytest.mark.parametrize("transpose_b", [False, True])
def test_a_product_of_sparse_activations_is_a_layer(transpose_b):
    def network():
        kernel = weights(*((6, 4) if transpose_b else (4, 6)))
        tf.matmul(some(3, 4), kernel, transpose_b=transpose_b, a_is_sparse=True)

    graph, kernel = the_kernel(network)
    assert find_layers(graph)[0].op_type == "SparseMatMul"
    assert kernel.matrix_shape == (4, 6)
    assert_matrix(graph, kernel, lambda w: w.T if transpose_b else w)


@pytest.mark.parametrize("adjoint", [False, True])
def test_a_batch_of_matrices_keeps_its_outputs_in_columns(adjoint):
    def network():
        shape = (3, 6, 4) if adjoint else (3, 4, 6)
        tf.matmul(some(3, 2, 4), weights(*shape), adjoint_b=adjoint)

    def to_expected(w):
        return (w.transpose(0, 2, 1) if adjoint else w).reshape(12, 6)

    graph, kernel = the_kernel(network)
    assert_matrix(graph, kernel, to_expected)


def test_a_batch_of_matrices_on_the_left_is_turned():
    graph, kernel = the_kernel(lambda: tf.matmul(weights(3, 6, 4), some(3, 4, 2)))
    assert_matrix(graph, kernel, lambda w: w.transpose(0, 2, 1).reshape(12, 6))


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


@pytest.mark.parametrize(
    "between",
    [
        lambda w: tf.cast(w, tf.float16),
        tf.identity,
        lambda w: tf.cast(tf.identity(w), tf.float64),
        lambda w: tf.reshape(tf.reshape(w, [24]), [4, 6]),
        lambda w: tf.squeeze(tf.expand_dims(w, 1), 1),
        lambda w: tf.transpose(tf.transpose(w)),
        lambda w: tf.transpose(w, [0, 1]),
    ],
)
def test_what_only_hands_a_kernel_on_is_looked_through(between):
    def network():
        w = between(weights(4, 6))
        tf.matmul(tf.placeholder(w.dtype, [2, 4]), w)

    graph, kernel = the_kernel(network)
    assert kernel.name == "w"
    assert_matrix(graph, kernel, lambda w: w)


@pytest.mark.parametrize(
    "to_operand,to_expected",
    [
        (lambda w: tf.transpose(w), lambda w: w.T),
        (lambda w: tf.reshape(w, [6, 4]), lambda w: w.reshape(6, 4)),
        (
            lambda w: tf.reshape(
                tf.transpose(tf.reshape(w, [2, 3, 4]), [1, 0, 2]), [6, 4]
            ),
            lambda w: w.reshape(2, 3, 4).transpose(1, 0, 2).reshape(6, 4),
        ),
    ],
)
def test_a_kernel_that_is_moved_is_seen_as_the_layer_sees_it(to_operand, to_expected):
    graph, kernel = the_kernel(lambda: tf.matmul(some(2, 6), to_operand(weights(4, 6))))
    assert_matrix(graph, kernel, to_expected)


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
