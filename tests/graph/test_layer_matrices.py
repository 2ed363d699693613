"""The matrix that a compressor sees: rows are inputs, columns outputs."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.graph.layers import find_layers
from ec_estimator.rewrite import kernels
from tests.graph.layer_graphs import assert_matrix, some, the_kernel, weights


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
