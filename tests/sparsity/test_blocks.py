"""Blocks of a matrix against loops in NumPy."""
import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.sparsity import blocks

# Even, ragged on one side or both, one row or column of blocks, larger than the matrix.
MATRICES = [(6, 8), (5, 8), (6, 7), (5, 7), (1, 9), (9, 1), (1, 1)]
BLOCKS = [
    (1, 1),
    (2, 4),
    (1, 4),
    (4, 1),
    (3, 3),
    (5, 7),
    (100, 100),
    (1, 100),
    (100, 2),
]
CASES = list(itertools.product(MATRICES, BLOCKS))


def cells(matrix, block):
    """{(down, across): the block's entries}."""
    (rows, columns), (height, width) = matrix.shape, block
    return {
        (i, j): matrix[i * height : (i + 1) * height, j * width : (j + 1) * width]
        for i in range(-(-rows // height))
        for j in range(-(-columns // width))
    }


def evaluate(build):
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(build())


def some_matrix(shape):
    return np.random.RandomState(3).uniform(-1, 2, shape).astype(np.float32)


@pytest.mark.parametrize("shape,block", CASES)
def test_a_score_is_the_mean_of_what_is_there(shape, block):
    matrix = some_matrix(shape)
    expected = {key: np.mean(cell) for key, cell in cells(matrix, block).items()}
    found = evaluate(lambda: blocks.scores(tf.constant(matrix), block))
    assert found.shape == tuple(
        max(key[axis] for key in expected) + 1 for axis in (0, 1)
    )
    for key, mean in expected.items():
        assert found[key] == pytest.approx(mean, rel=1e-5, abs=1e-6)


def test_scores_by_hand():
    matrix = np.array([[1, 3, 5], [0, 0, 6]], np.float32)
    found = evaluate(lambda: blocks.scores(tf.constant(matrix), (1, 2)))
    assert found.tolist() == [[2, 5], [0, 6]]


def test_a_ragged_block_of_removed_weights_scores_exactly_minus_one():
    matrix = np.full((5, 7), -1, np.float32)
    assert (evaluate(lambda: blocks.scores(tf.constant(matrix), (3, 4))) == -1).all()


@pytest.mark.parametrize("shape,block", CASES)
def test_the_grid_covers_the_matrix(shape, block):
    expected = cells(np.empty(shape), block)
    grid = blocks.grid_shape(shape, block)
    assert set(expected) == set(itertools.product(*map(range, grid)))


@pytest.mark.parametrize("shape,block", CASES)
def test_segments_hold_every_block_once_with_its_size(shape, block):
    expected = cells(np.empty(shape), block)
    grid = np.arange(len(expected)).reshape(blocks.grid_shape(shape, block))
    found = {
        int(number): segment.size
        for segment in blocks.segments(grid, shape, block)
        for number in segment.scores.ravel()
    }
    assert found == {int(grid[key]): cell.size for key, cell in expected.items()}
    held = sum(s.scores.size for s in blocks.segments(grid, shape, block))
    assert held == len(expected)


def test_segments_are_views_of_the_grid():
    grid = np.zeros((3, 3))
    for segment in blocks.segments(grid, (5, 7), (2, 3)):
        segment.scores[...] = segment.size
    assert grid.tolist() == [[6, 6, 2], [6, 6, 2], [3, 3, 1]]


@pytest.mark.parametrize("shape,block", CASES)
def test_expand_repeats_each_block_over_its_entries(shape, block):
    grid = blocks.grid_shape(shape, block)
    keep = np.random.RandomState(4).uniform(size=grid) < 0.5
    expected = np.empty(shape, bool)
    for key, cell in cells(expected, block).items():
        cell[...] = keep[key]
    found = evaluate(lambda: blocks.expand(tf.constant(keep), block, shape))
    np.testing.assert_array_equal(found, expected)
