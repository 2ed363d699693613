"""Ways in which user code makes layers; each has dropout and random first values.

Each entry of WAYS is a function() -> Network, for the default graph.
"""
import collections

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.contrib import slim

ROWS, STEPS, WIDTH, CLASSES = 3, 4, 6, 5

# Tensors: the input, what lies between the layers, and the loss.
Network = collections.namedtuple("Network", "x activations loss")


def images():
    return _constant(ROWS, 8, 8, 3)


def vectors():
    return _constant(ROWS, WIDTH)


def sequences():
    return _constant(ROWS, STEPS, WIDTH)


def _constant(*shape):
    # A placeholder, so that nothing is computed before the session runs.
    value = np.random.RandomState(1).standard_normal(shape).astype(np.float32)
    return tf.placeholder_with_default(value, shape)


def loss_of(logits):
    return tf.reduce_mean(tf.sin(tf.cast(logits, tf.float32)) ** 2)


def two_layers(x):
    h = tf.layers.dense(x, WIDTH, tf.tanh)
    logits = tf.layers.dense(h, CLASSES)
    return h, logits


def network(x, *activations):
    return Network(x, activations, loss_of(activations[-1]))


def tf_layers():
    x = images()
    h = tf.layers.conv2d(x, 4, 3, kernel_regularizer=lambda w: 0.1 * tf.nn.l2_loss(w))
    h = tf.nn.relu(tf.layers.batch_normalization(h, training=True))
    h = tf.layers.dropout(h, 0.4, training=True)
    logits = tf.layers.dense(tf.layers.flatten(h), CLASSES)
    penalties = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    return Network(x, [h, logits], loss_of(logits) + tf.add_n(penalties))


def contrib_slim():
    x = images()
    with slim.arg_scope([slim.conv2d], weights_regularizer=slim.l2_regularizer(0.1)):
        h = slim.conv2d(x, 4, [3, 3], normalizer_fn=slim.batch_norm)
    h = slim.dropout(h, 0.6)
    logits = slim.fully_connected(slim.flatten(h), CLASSES, activation_fn=None)
    return Network(x, [h, logits], loss_of(logits) + tf.losses.get_total_loss())


def raw_with_reuse():
    """One kernel, asked for twice and read by two layers."""

    def layer(h):
        with tf.variable_scope("shared", reuse=tf.AUTO_REUSE):
            w = tf.get_variable("w", [WIDTH, WIDTH])
            b = tf.get_variable("b", [WIDTH])
        return tf.nn.dropout(tf.tanh(tf.matmul(h, w) + b), rate=0.4)

    x = vectors()
    h = layer(x)
    logits = layer(h)
    return Network(x, [h, logits], loss_of(logits))


def partitioned():
    x = vectors()
    with tf.variable_scope("", partitioner=tf.fixed_size_partitioner(2)):
        h = tf.layers.dense(x, 8, tf.tanh)
        h = tf.nn.dropout(h, rate=0.4)
        logits = tf.layers.dense(h, CLASSES)
    return Network(x, [h, logits], loss_of(logits))


def resource_variables():
    """Read more often than they are made: each use of a resource is a read."""
    x = vectors()
    with tf.variable_scope("", use_resource=True):
        w = tf.get_variable("w", [WIDTH, WIDTH])
        h = tf.nn.dropout(tf.tanh(tf.matmul(x, w)), rate=0.4)
        h = tf.tanh(tf.matmul(h, w))
        logits = tf.layers.dense(h, CLASSES)
    return Network(x, [h, logits], loss_of(logits))


def keras_layers():
    """Keras layers ask no getter."""
    x = images()
    h = tf.keras.layers.Conv2D(4, 3, activation="relu")(x)
    h = tf.keras.layers.BatchNormalization()(h, training=True)
    h = tf.keras.layers.Dropout(0.4)(h, training=True)
    logits = tf.keras.layers.Dense(CLASSES)(tf.keras.layers.Flatten()(h))
    return Network(x, [h, logits], loss_of(logits))


def dynamic_rnn():
    x = sequences()
    cell = tf.nn.rnn_cell.DropoutWrapper(
        tf.nn.rnn_cell.LSTMCell(WIDTH), output_keep_prob=0.6
    )
    h, _ = tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)
    logits = tf.layers.dense(h[:, -1], CLASSES)
    return Network(x, [h, logits], loss_of(logits))


def keras_lstm():
    """Its kernels are read inside of the loop."""
    x = sequences()
    h = tf.keras.layers.LSTM(WIDTH, dropout=0.3, recurrent_dropout=0.3)(
        x, training=True
    )
    logits = tf.keras.layers.Dense(CLASSES)(h)
    return Network(x, [h, logits], loss_of(logits))


WAYS = {
    way.__name__: way
    for way in (
        *(tf_layers, contrib_slim, raw_with_reuse, partitioned),
        *(resource_variables, keras_layers, dynamic_rnn, keras_lstm),
    )
}
