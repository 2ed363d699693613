"""Kernels as matrices and back, against NumPy."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.graph.layers import Kernel
from ec_estimator.graph.views import column_axes
from ec_estimator.rewrite import kernels


def evaluate(build):
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(build())


def kernel(part_shapes, axis, view, matrix_shape):
    parts = tuple(f"w/part_{i}" for i in range(len(part_shapes)))
    return Kernel("w", parts, part_shapes, axis, view, matrix_shape)


KERNELS = {
    "matrix as it is": kernel(((4, 6),), 0, (), (4, 6)),
    "convolution": kernel(((3, 3, 2, 5),), 0, (("reshape", (18, 5)),), (18, 5)),
    "transposed": kernel(((4, 6),), 0, (("transpose", (1, 0)),), (6, 4)),
    "transposed convolution": kernel(
        ((3, 2, 5, 4),), 0, (("transpose", (0, 1, 3, 2)), ("reshape", (24, 5))), (24, 5)
    ),
    "three axes turned": kernel(
        ((2, 3, 4),), 0, (("transpose", (2, 0, 1)), ("reshape", (8, 3))), (8, 3)
    ),
    "partitions": kernel(((2, 6), (3, 6), (1, 6)), 0, (), (6, 6)),
    "partitions by column": kernel(((4, 2), (4, 1)), 1, (), (4, 3)),
    "partitions of a transposed convolution": kernel(
        ((2, 2, 3, 4), (2, 2, 2, 4)),
        2,
        (("transpose", (0, 1, 3, 2)), ("reshape", (16, 5))),
        (16, 5),
    ),
}


def random_parts(of):
    random = np.random.RandomState(5)
    return [
        random.standard_normal(shape).astype(np.float32) for shape in of.part_shapes
    ]


def numpy_matrix(of, parts):
    matrix = np.concatenate(parts, of.axis)
    for kind, argument in of.view:
        matrix = getattr(np, kind)(matrix, argument)
    return matrix


@pytest.mark.parametrize("name", KERNELS)
def test_to_matrix_joins_the_parts_and_follows_the_view(name):
    parts = random_parts(KERNELS[name])
    found = evaluate(
        lambda: kernels.to_matrix(KERNELS[name], list(map(tf.constant, parts)))
    )
    assert found.shape == KERNELS[name].matrix_shape
    np.testing.assert_array_equal(found, numpy_matrix(KERNELS[name], parts))


@pytest.mark.parametrize("name", KERNELS)
def test_from_matrix_gives_the_parts_back(name):
    parts = random_parts(KERNELS[name])
    matrix = numpy_matrix(KERNELS[name], parts)
    found = evaluate(lambda: kernels.from_matrix(KERNELS[name], tf.constant(matrix)))
    assert len(found) == len(parts)
    for part, expected in zip(found, parts):
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize(
    "shape,view,axes",
    [
        ((4, 6), (), (1,)),
        ((4, 6), (("transpose", (1, 0)),), (0,)),
        ((3, 3, 2, 5), (("reshape", (18, 5)),), (3,)),
        # The channels of a single output, and of a single input.
        ((3, 3, 2, 1), (("reshape", (18, 1)),), (3,)),
        ((1, 1, 1, 5), (("reshape", (1, 5)),), (3,)),
        ((4, 3, 5), (("reshape", (12, 5)),), (2,)),
        ((3, 3, 4, 2), (("reshape", (9, 8)),), (2, 3)),
        ((3, 3, 4, 1), (("reshape", (9, 4)),), (2, 3)),
        (
            (3, 2, 5, 4),
            (("transpose", (0, 1, 3, 2)), ("reshape", (24, 5))),
            (2,),
        ),
        # Heads and their sizes, made one axis before the product.
        ((8, 2, 3), (("reshape", (8, 6)),), (1, 2)),
        ((2, 3, 4), (("transpose", (2, 0, 1)), ("reshape", (8, 3))), (1,)),
        # Half of an axis: none.
        ((4, 6), (("reshape", (8, 3)),), ()),
        ((0, 6), (("reshape", (2, 0)),), ()),
    ],
)
def test_column_axes_by_hand(shape, view, axes):
    matrix_shape = view[-1][1] if view and view[-1][0] == "reshape" else shape
    of = Kernel("w", ("w",), (shape,), 0, view, tuple(matrix_shape))
    assert column_axes(of) == axes


def test_what_goes_back_on_a_view_is_what_followed_it():
    tensor = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    view = (("transpose", (2, 0, 1)), ("reshape", (8, 3)), ("transpose", (1, 0)))
    matrix = evaluate(lambda: kernels.follow(view, tf.constant(tensor)))
    np.testing.assert_array_equal(
        matrix, tensor.transpose(2, 0, 1).reshape(8, 3).transpose()
    )
    back = evaluate(lambda: kernels.go_back(view, tf.constant(matrix), (2, 3, 4)))
    np.testing.assert_array_equal(back, tensor)
