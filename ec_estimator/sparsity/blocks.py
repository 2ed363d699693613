"""Blocks of a matrix, ragged edges included: their scores, their sizes, their masks."""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.sparsity.selection import Segment


def grid_shape(matrix_shape, block):
    """Blocks down and across; the last ones may be smaller."""
    return tuple(-(-size // side) for size, side in zip(matrix_shape, block))


def scores(matrix, block):
    """Mean of each block's entries.

    Args:
      matrix: [rows, columns] tensor, static shape.
      block: (rows, columns) of a block.

    Returns:
      Tensor of `grid_shape`; at the edges the mean is over what is there.
    """
    shape = matrix.shape.as_list()
    block = tuple(min(side, size) for side, size in zip(block, shape))
    if block == (1, 1):
        return matrix
    grid = grid_shape(shape, block)
    missing = [n * side - size for n, side, size in zip(grid, block, shape)]
    if any(missing):
        matrix = tf.pad(matrix, [[0, missing[0]], [0, missing[1]]])
    # The inner axis first: that sum runs over neighbouring memory.
    matrix = tf.reshape(matrix, [grid[0] * block[0], grid[1], block[1]])
    matrix = tf.reduce_sum(matrix, 2)
    matrix = tf.reduce_sum(tf.reshape(matrix, [grid[0], block[0], grid[1]]), 1)
    rows, columns = (_sides(n, s, size) for n, s, size in zip(grid, block, shape))
    return matrix / tf.constant(np.outer(rows, columns), matrix.dtype)


def _sides(count, side, size):
    sides = np.full(count, side)
    sides[-1] = size - side * (count - 1)
    return sides


def segments(grid, matrix_shape, block):
    """Cuts an array over blocks into parts whose blocks are equally large.

    Args:
      grid: [blocks down, blocks across] NumPy array, e.g. scores.

    Returns:
      [Segment] with slices of `grid`: the whole blocks, then the smaller ones of the
      right edge, the lower edge and the corner, as far as there are any.
    """
    block = tuple(min(side, size) for side, size in zip(block, matrix_shape))
    whole = [size // side for side, size in zip(block, matrix_shape)]
    rest = [size % side for side, size in zip(block, matrix_shape)]
    found = []
    for rows, height in (
        (slice(0, whole[0]), block[0]),
        (slice(whole[0], None), rest[0]),
    ):
        for columns, width in (
            (slice(0, whole[1]), block[1]),
            (slice(whole[1], None), rest[1]),
        ):
            part = grid[rows, columns]
            if part.size:
                found.append(Segment(part, height * width))
    return found


def expand(keep, block, matrix_shape):
    """A [blocks down, blocks across] tensor repeated over the entries of each block."""
    block = tuple(min(side, size) for side, size in zip(block, matrix_shape))
    if block == (1, 1):
        return tf.ensure_shape(keep, matrix_shape)
    down, across = grid_shape(matrix_shape, block)
    keep = tf.tile(tf.reshape(keep, [down, 1, across, 1]), [1, block[0], 1, block[1]])
    keep = tf.reshape(keep, [down * block[0], across * block[1]])
    return keep[: matrix_shape[0], : matrix_shape[1]]
