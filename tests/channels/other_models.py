"""Models of dense layers, lookups, attention, and convolutions over one or three axes.

Each is a function without arguments that builds into the default graph and returns the
tensor that the model predicts. MODELS says how many groups can be pruned, counted by
hand.
"""
import numpy as np
import tensorflow.compat.v1 as tf

from tests.channels.parts import layer_norm, layers, relu, some, weights


def dense():
    x = relu(layers.dense(some(2, 4), 8))
    return layers.dense(x, 3)


def kernel_on_the_left():
    x = some(4, 2)
    x = relu(tf.matmul(weights("a", 6, 4), x))
    x = relu(tf.matmul(weights("b", 6, 7), x, transpose_a=True))
    return tf.matmul(x, weights("c", 7, 3), transpose_a=True)


def wide_and_deep():
    ids, x = some(2, 3, dtype=tf.int32), some(2, 4)
    embedded = tf.nn.embedding_lookup(weights("embedding", 10, 6), ids)
    deep = tf.concat([layers.flatten(embedded), x], 1)
    for width in (16, 8):
        deep = relu(layers.dense(deep, width))
    wide = tf.reduce_sum(tf.nn.embedding_lookup(weights("wide", 10, 1), ids), 1)
    return layers.dense(deep, 1) + wide


def multi_task():
    ids = some(2, 3, dtype=tf.int32)
    pooled = tf.nn.embedding_lookup_sparse(
        weights("embedding", 10, 6), tf.sparse.from_dense(ids), None, combiner="mean"
    )
    pooled.set_shape([2, 6])
    shared = relu(layers.dense(pooled, 8))
    gate = tf.sigmoid(layers.dense(shared, 8))
    a, b = (layers.dense(relu(layers.dense(shared * gate, 5)), 1) for _ in range(2))
    return tf.concat([a, b], 1)


def rank_3(batch=None):
    """tf.layers.dense on rank 3 is a tensordot."""
    x = relu(layers.dense(some(batch, 6, 4), 8))
    return layers.dense(tf.nn.elu(layers.dense(x, 7)), 3)


def rank_3_static():
    return rank_3(2)


def rank_3_all_unknown():
    x = relu(layers.dense(some(None, None, 4), 8))
    return layers.dense(x, 3)


def conv1d():
    x = relu(layers.conv1d(some(None, 12, 3), 6, 3))
    x = relu(layers.conv1d(x, 7, 3, padding="same", dilation_rate=2))
    return layers.dense(layers.flatten(layers.max_pooling1d(x, 2, 2)), 5)


def conv3d():
    x = relu(layers.conv3d(some(2, 4, 4, 4, 2), 6, 2))
    x = layers.max_pooling3d(layers.batch_normalization(x), 2, 1)
    return layers.dense(layers.flatten(layers.conv3d(x, 7, 1)), 5)


def tied_autoencoder():
    w = weights("w", 9, 6)
    code = tf.sigmoid(tf.matmul(some(2, 9), w) + weights("b", 6))
    return tf.matmul(code, w, transpose_b=True)


def encoder_layer(x, heads=2):
    size = x.shape.as_list()[-1]
    query, key, value = (
        tf.transpose(
            tf.reshape(layers.dense(x, size), [-1, 6, heads, size // heads]),
            [0, 2, 1, 3],
        )
        for _ in range(3)
    )
    scores = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) / 2.0)
    mixed = tf.transpose(tf.matmul(scores, value), [0, 2, 1, 3])
    mixed = layers.dense(tf.reshape(mixed, [-1, 6, size]), size)
    x = layer_norm(x + mixed, "a")
    hidden = layers.dense(x, 4 * size)
    hidden = hidden * 0.5 * (1.0 + tf.erf(hidden / np.sqrt(2.0)))
    return layer_norm(x + layers.dense(hidden, size), "b")


def transformer():
    ids = some(None, 6, dtype=tf.int32)
    x = tf.nn.embedding_lookup(weights("embedding", 10, 8), ids)
    x += weights("position", 6, 8)
    for index in range(2):
        with tf.variable_scope(f"layer_{index}"):
            x = encoder_layer(x)
    return layers.dense(x[:, 0], 3)


# {model: number of groups that can be pruned}.
MODELS = {
    dense: 8,
    kernel_on_the_left: 6 + 7,
    wide_and_deep: 16 + 8,
    multi_task: 8 + 5 + 5,
    rank_3: 8 + 7,
    rank_3_static: 8 + 7,
    rank_3_all_unknown: 8,
    conv1d: 6 + 7,
    conv3d: 6 + 7,
    tied_autoencoder: 6,
    transformer: 2 * 32,
}
