"""Sizes that are computed in the graph, and the channels that they count."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.channels.values import Values

CHANNELS = np.arange(100, 108)


def elements(compute):
    """What is known of compute(x), x: [?, 7, 8] with labels on its last axis.

    Pairs of value and whether the labels are those of the channels; or None.
    """
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 7, 8])
        values = Values(lambda tensor: [None, None, CHANNELS] if tensor is x else None)
        found = values.of(compute(x))
    if found is None:
        return None
    return [
        (e.value, e.labels is not None and set(e.labels) == set(CHANNELS))
        for e in found
    ]


BATCH, WIDTH, CHANNEL = (None, False), (7, False), (8, True)


KNOWN = {
    "shape": (tf.shape, [BATCH, WIDTH, CHANNEL]),
    "long shape": (lambda x: tf.shape(x, out_type=tf.int64), [BATCH, WIDTH, CHANNEL]),
    "size": (tf.size, [(None, True)]),
    "constant": (lambda x: tf.constant([3, -1]), [(3, False), (-1, False)]),
    "scalar": (lambda x: tf.constant(4), [(4, False)]),
    "one of them": (lambda x: tf.shape(x)[2], [CHANNEL]),
    "the last": (lambda x: tf.shape(x)[-1], [CHANNEL]),
    "some": (lambda x: tf.shape(x)[1:], [WIDTH, CHANNEL]),
    "the first two": (lambda x: tf.shape(x)[:2], [BATCH, WIDTH]),
    "backwards": (lambda x: tf.shape(x)[::-1], [CHANNEL, WIDTH, BATCH]),
    "gathered": (lambda x: tf.gather(tf.shape(x), [2, 0]), [CHANNEL, BATCH]),
    "cast": (lambda x: tf.cast(tf.shape(x), tf.int64), [BATCH, WIDTH, CHANNEL]),
    "product": (lambda x: tf.reduce_prod(tf.shape(x)[1:]), [(56, True)]),
    "product of unknown": (lambda x: tf.reduce_prod(tf.shape(x)[:2]), [BATCH]),
    "multiplied": (lambda x: tf.shape(x)[2] * 3, [(24, True)]),
    "all multiplied": (
        lambda x: tf.shape(x) * 2,
        [(None, False), (14, False), (16, True)],
    ),
    "stacked": (
        lambda x: tf.stack([tf.shape(x)[0], -1, tf.shape(x)[2]]),
        [BATCH, (-1, False), CHANNEL],
    ),
    "joined": (
        lambda x: tf.concat([tf.shape(x)[1:], [5]], 0),
        [WIDTH, CHANNEL, (5, False)],
    ),
    "joined with unknown": (
        lambda x: tf.concat([tf.placeholder(tf.int32, [2]), tf.shape(x)[2:]], 0),
        [(None, False), (None, False), CHANNEL],
    ),
    "reshaped": (lambda x: tf.reshape(tf.shape(x)[2], [1]), [CHANNEL]),
    "expanded": (lambda x: tf.expand_dims(tf.shape(x)[2], 0), [CHANNEL]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_sizes_are_followed_with_what_they_count(name):
    compute, expected = KNOWN[name]
    assert elements(compute) == expected


UNKNOWN = {
    "floats": lambda x: tf.to_float(tf.shape(x)),
    "floats rounded": lambda x: tf.cast(tf.constant([2.5]), tf.int32),
    "a matrix": lambda x: tf.stack([tf.shape(x), tf.shape(x)]),
    "a constant matrix": lambda x: tf.constant([[1, 2]]),
    "data": lambda x: tf.constant(np.arange(1000)),
    "a sum": lambda x: tf.shape(x) + 1,
    "fed": lambda x: tf.placeholder(tf.int32, [3]),
    "an unknown rank": lambda x: tf.placeholder(tf.int32),
    "an unknown shape": lambda x: tf.shape(tf.placeholder(tf.float32)),
    "unknown indices": lambda x: tf.gather(tf.shape(x), tf.placeholder(tf.int32, [2])),
    "unknown borders": lambda x: tf.shape(x)[tf.placeholder(tf.int32, []) :],
    "a new axis": lambda x: tf.shape(x)[tf.newaxis, :],
    "dots": lambda x: tf.shape(x)[...],
    "joined with any number": lambda x: tf.concat(
        [tf.placeholder(tf.int32, [None]), tf.shape(x)], 0
    ),
    "a product of unknowns": lambda x: tf.reduce_prod(tf.placeholder(tf.int32, [2])),
    "times unknown": lambda x: tf.shape(x) * tf.placeholder(tf.int32, []),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_of_the_rest_nothing_is_known(name):
    assert elements(UNKNOWN[name]) is None


def test_a_constant_operand_is_known_only_as_a_whole():
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 7, 8])
        values = Values(lambda tensor: None)
        assert values.const(tf.shape(x)) is None
        assert values.const(tf.shape(x)[1:]) == [7, 8]
        assert values.const(tf.constant(2)) == [2]
        assert values.const(tf.placeholder(tf.int32, [1])) is None


def test_it_is_known_whether_an_op_hands_sizes_on():
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 7, 8])
        values = Values(lambda tensor: [None, None, CHANNELS])
        shape = tf.shape(x)
        assert values.follow(tf.stack([3, shape[2]]).op, 1)
        assert values.follow((3 * shape[2]).op, 1)
        assert values.follow(tf.gather(shape, [0]).op, 0)
        assert not values.follow((shape + 1).op, 0)
        assert not values.follow(tf.to_float(shape).op, 0)
        # Where it is a border or an index it is lost.
        assert not values.follow(tf.gather([1] * 9, shape[2]).op, 1)
        assert not values.follow(tf.constant([1] * 9)[shape[2]].op, 1)


def test_an_axis_of_unknown_size_has_as_many_channels_as_labels():
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, None])
        values = Values(lambda tensor: [None, CHANNELS])
        assert values.const(tf.shape(x)[1]) == [8]


def test_a_loop_ends():
    with tf.Graph().as_default():
        count = tf.while_loop(lambda i: i < 3, lambda i: i + 1, [0])
        assert Values(lambda tensor: None).of(count) is None
