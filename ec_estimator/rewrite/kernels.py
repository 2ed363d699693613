"""A kernel as the matrix [taps, channels], and back: one view for all compressors.

Example: a transposed convolution's kernel is [height, width, out, in]. Its view is

    ("transpose", (0, 1, 3, 2)), ("reshape", (height * width * in, out))

so a column holds all the weights that one output channel is computed with, whatever the
layer. graph.layers finds a kernel's view.
"""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.graph.views import shapes_on_the_way


def to_matrix(kernel, tensors):
    """The parts of a kernel as the matrix of its view.

    Args:
      kernel: graph.layers.Kernel.
      tensors: of kernel.part_shapes.

    Returns:
      Tensor of kernel.matrix_shape.
    """
    tensor = tensors[0] if len(tensors) == 1 else tf.concat(tensors, kernel.axis)
    return follow(kernel.view, tensor)


def from_matrix(kernel, matrix):
    """The inverse of `to_matrix`: a matrix back to the parts of the kernel."""
    joined = go_back(kernel.view, matrix, kernel.shape)
    if len(kernel.parts) == 1:
        return [joined]
    sizes = [shape[kernel.axis] for shape in kernel.part_shapes]
    return tf.split(joined, sizes, kernel.axis)


def follow(view, tensor):
    """A tensor as a view sees it: ("reshape", shape) or ("transpose", permutation),
    one after the other."""
    for kind, argument in view:
        if kind == "transpose":
            tensor = tf.transpose(tensor, argument)
        else:
            tensor = tf.reshape(tensor, argument)
    return tensor


def go_back(view, tensor, shape):
    """The inverse of `follow`; shape: of the tensor that the view was followed from."""
    shapes = shapes_on_the_way(view, shape)
    for (kind, argument), before in zip(reversed(view), reversed(shapes[:-1])):
        if kind == "transpose":
            tensor = tf.transpose(tensor, np.argsort(argument))
        else:
            tensor = tf.reshape(tensor, before)
    return tensor
