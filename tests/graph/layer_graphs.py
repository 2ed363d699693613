"""Graphs of one small network, and what is found of the layers in them."""
import numpy as np
import tensorflow.compat.v1 as tf

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


def some(*shape):
    return tf.placeholder(tf.float32, shape, "x")


def weights(*shape, **kwargs):
    return tf.get_variable("w", shape, **kwargs)


def taps_by_outputs(kernel):
    return kernel.reshape(-1, kernel.shape[-1])


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
