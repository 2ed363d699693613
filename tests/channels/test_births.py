"""Which variable axes labels were made for."""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.channels.births import Births
from ec_estimator.channels.groups import find_channels

W, B, OTHER = ("w", 1), ("b", 0), ("other", 1)


def three():
    """Labels 0..3 of w, 4..5 of no variable, 6..9 of b, 10..13 of other."""
    births = Births()
    births.add(np.arange(0, 4), W)
    births.add(np.arange(4, 6), None)
    births.add(np.arange(6, 10), B)
    births.add(np.arange(10, 14), OTHER)
    return births


def test_labels_have_the_births_that_they_were_made_with():
    births = three()
    assert births.of(np.array([3])) == {W}
    assert births.of(np.array([9, 0, 3, 4])) == {W, B}
    assert births.of(np.array([5])) == set()


def test_more_labels_than_there_was_room_for():
    births = three()
    births.add(np.arange(14, 5000), ("wide", 0))
    births.add(np.arange(5000, 5000), ("empty", 0))
    births.add(np.arange(5000, 5001), ("last", 0))
    assert births.of(np.array([0, 13, 4999])) == {W, OTHER, ("wide", 0)}
    assert births.of(np.array([5000])) == {("last", 0)}


def test_kin_are_found_at_any_remove():
    births = three()
    births.pair(np.arange(0, 4), np.arange(6, 10))
    births.pair(np.arange(10, 14), np.arange(6, 10))
    assert births.kin(np.array([0])) == {W, B, OTHER}
    assert three().kin(np.array([0])) == {W}


def test_a_kernel_that_is_added_to_itself_many_times_is_zero_where_it_is():
    """There are 2 ** 64 ways back to its variable."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [2, 4])
        h = tf.layers.dense(x, 6, use_bias=False)
        kernel = tf.get_variable("w", [6, 3])
        for _ in range(64):
            kernel += kernel
        channels = find_channels(graph, [tf.matmul(h, kernel)])
    assert len(channels.prunable()) == 6
