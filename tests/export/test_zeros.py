"""How zeros lie in kernels."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.export.zeros import block_of, find_zeros
from tests.export.frozen import trained


@pytest.mark.parametrize("block", [(1, 1), (1, 4), (2, 3), (8, 1)])
def test_the_block_that_zeros_were_made_of_is_found(block):
    keep = np.random.RandomState(0).rand(6, 6) < 0.5
    # Cut off at the right and below.
    zeros = np.kron(keep, np.ones(block, bool))[: 5 * block[0] + 1, : 5 * block[1] + 1]
    assert block_of(zeros) == block


@pytest.mark.parametrize(
    "rows,block",
    [
        ([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], (1, 2)),
        ([[0, 0, 0], [1, 1, 1], [0, 0, 0]], (1, 3)),
        ([[0, 0, 0], [0, 0, 0]], (1, 1)),
        ([[1, 1, 1], [1, 1, 1]], (2, 3)),
    ],
)
def test_blocks_by_hand(rows, block):
    assert block_of(np.array(rows, bool)) == block


def test_zeros_of_a_trained_model():
    found = find_zeros(trained("raw", "sparse").model.graph_def)
    assert {op: (zeros.kernel, zeros.matrix_shape) for op, zeros in found.items()} == {
        "Conv2D": ("w1", (27, 8)),
        "MatMul": ("w2", (8, 20)),
        # Stored as [outputs, inputs], and multiplied transposed.
        "MatMul_1": ("w3", (20, 5)),
    }
    for zeros in found.values():
        assert abs(zeros.sparsity - 0.6) < 0.02
        assert zeros.block == (1, 4)


def test_a_dense_model_has_none():
    found = find_zeros(trained("raw").model.graph_def)
    assert len(found) == 3
    for zeros in found.values():
        assert (zeros.sparsity, zeros.block) == (0, (1, 1))


def test_kernels_in_loops_and_no_products_of_activations():
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 2])
        tf.matmul(x, x, transpose_b=True)
        kernel = tf.constant(np.eye(4, 2, dtype=np.float32), name="outside")
        tf.while_loop(
            lambda count, x: count < 3,
            lambda count, x: (count + 1, tf.matmul(tf.tile(x, [1, 2]), kernel)),
            [0, x],
            shape_invariants=[tf.TensorShape([]), x.shape],
        )
    (zeros,) = find_zeros(graph.as_graph_def()).values()
    assert zeros == ("outside", (4, 2), 0.75, (1, 1))
