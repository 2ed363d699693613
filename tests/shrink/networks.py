"""Networks that the pruner is tested on: what each has, real code has.

Each is a function(x, training) -> logits.
"""
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.contrib.layers import layer_norm
from tensorflow.contrib.slim import arg_scope
from tensorflow.contrib.slim.nets import resnet_utils, resnet_v1, resnet_v2

from tests import models


def slim_resnet_v1(x, training):
    """slim's code at two units a block; it chooses shortcuts by channel counts."""
    with arg_scope(_resnet_scope()):
        logits, _ = resnet_v1.resnet_v1(
            x, _blocks(resnet_v1.resnet_v1_block), models.CLASSES, training
        )
    return tf.squeeze(logits, [1, 2])


def slim_resnet_v2(x, training):
    with arg_scope(_resnet_scope()):
        logits, _ = resnet_v2.resnet_v2(
            x, _blocks(resnet_v2.resnet_v2_block), models.CLASSES, training
        )
    return tf.squeeze(logits, [1, 2])


def _resnet_scope():
    return resnet_utils.resnet_arg_scope(weight_decay=1e-3, batch_norm_decay=0.5)


def _blocks(block):
    return [
        block("block1", base_depth=4, num_units=2, stride=2),
        block("block2", base_depth=6, num_units=2, stride=1),
    ]


def slim_resnet_v1_50(x, training):
    with arg_scope(_resnet_scope()):
        logits, _ = resnet_v1.resnet_v1_50(x, models.CLASSES, is_training=training)
    return tf.squeeze(logits, [1, 2])


def slim_resnet_v2_50(x, training):
    with arg_scope(_resnet_scope()):
        logits, _ = resnet_v2.resnet_v2_50(x, models.CLASSES, is_training=training)
    return tf.squeeze(logits, [1, 2])


def keras_mobile_net_v2(x, training):
    """Adds a shortcut where two widths are equal."""
    network = tf.keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), weights=None, include_top=False, pooling="avg"
    )
    return tf.layers.dense(network(x, training=training), models.CLASSES)


def transformer(x, training):
    """An encoder: only the feed-forward part can go."""
    return tf.layers.dense(encoder(x, 8, 2), models.CLASSES)


def encoder(x, width, heads):
    """Two layers; of the first token."""
    x = tf.layers.dense(x, width)
    for _ in range(2):
        q, k, v = (_heads(tf.layers.dense(x, width), heads) for _ in range(3))
        scores = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / width**0.5)
        mixed = tf.transpose(tf.matmul(scores, v), [0, 2, 1, 3])
        mixed = tf.reshape(mixed, [-1, x.shape[1], width])
        x = layer_norm(x + tf.layers.dense(mixed, width), begin_norm_axis=-1)
        h = tf.layers.dense(tf.layers.dense(x, 4 * width, tf.nn.relu), width)
        x = layer_norm(x + h, begin_norm_axis=-1)
    return x[:, 0]


def _heads(x, heads):
    x = tf.reshape(x, [-1, x.shape[1], heads, x.shape[2] // heads])
    return tf.transpose(x, [0, 2, 1, 3])


def vgg(x, training):
    x = tf.layers.conv2d(x, 8, 3, padding="same", activation=tf.nn.relu)
    x = tf.layers.max_pooling2d(x, 2, 2)
    x = tf.layers.conv2d(x, 12, 3, padding="same", activation=tf.nn.relu)
    return tf.layers.dense(tf.layers.flatten(x), models.CLASSES)


def residual(x, training):
    def conv(x, filters, size=3):
        x = tf.layers.conv2d(x, filters, size, padding="same", use_bias=False)
        return tf.layers.batch_normalization(x, training=training, momentum=0.5)

    x = tf.nn.relu(conv(x, 8))
    x = tf.nn.relu(x + conv(tf.nn.relu(conv(x, 10)), 8))
    x = tf.nn.relu(conv(x, 12, 1) + conv(tf.nn.relu(conv(x, 10)), 12))
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), models.CLASSES)


def dense_net(x, training):
    for _ in range(3):
        new = tf.layers.conv2d(x, 6, 3, padding="same", activation=tf.nn.relu)
        x = tf.concat([x, new], -1)
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), models.CLASSES)


def mobile_net(x, training):
    x = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu6)
    x = tf.layers.separable_conv2d(x, 12, 3, activation=tf.nn.relu6)
    w = tf.get_variable("depthwise", [3, 3, 12, 2])
    x = tf.nn.relu6(tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"))
    x = tf.layers.conv2d(x, 10, 1, activation=tf.nn.relu6)
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), models.CLASSES)


def squeeze_and_excite(x, training):
    x = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu)
    s = tf.reduce_mean(x, [1, 2])
    s = tf.layers.dense(tf.layers.dense(s, 4, tf.nn.relu), 8, tf.nn.sigmoid)
    x = x * s[:, None, None, :]
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), models.CLASSES)


def u_net(x, training):
    skip = tf.layers.conv2d(x, 8, 3, padding="same", activation=tf.nn.relu)
    x = tf.layers.max_pooling2d(skip, 2, 2)
    x = tf.layers.conv2d(x, 12, 3, padding="same", activation=tf.nn.relu)
    x = tf.image.resize_nearest_neighbor(x, [8, 8])
    x = tf.layers.conv2d(tf.concat([skip, x], -1), 9, 3, activation=tf.nn.relu)
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), models.CLASSES)


def branches_on_counts(x, training):
    h = tf.layers.conv2d(x, 8, 3, padding="same", activation=tf.nn.relu)
    y = tf.layers.conv2d(h, 8, 3, padding="same", activation=tf.nn.relu)
    # Always true for the whole network.
    if int(h.shape[-1]) == 8:
        y = tf.nn.relu(y, name="extra")
    y += h if y.shape[-1] == h.shape[-1] else 0.0
    return tf.layers.dense(tf.reduce_mean(y, [1, 2]), models.CLASSES)


def computes_with_counts(x, training):
    h = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu)
    h = h / np.sqrt(float(int(h.shape[-1])))
    return tf.layers.dense(tf.reduce_mean(h, [1, 2]), models.CLASSES)


def literal_reshape(x, training):
    h = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu)
    h = tf.reshape(h, [-1, 6 * 6 * 8], name="literal")
    return tf.layers.dense(h, models.CLASSES)


def literal_squeeze_and_excite(x, training):
    x = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu)
    s = tf.layers.dense(tf.reduce_mean(x, [1, 2]), 8, tf.nn.sigmoid)
    return tf.layers.dense(
        tf.reduce_mean(x * tf.reshape(s, [-1, 1, 1, 8]), [1, 2]), models.CLASSES
    )


def literal_constants(x, training):
    x = tf.layers.conv2d(x, 8, 3, padding="same")
    x = tf.layers.batch_normalization(x, scale=False, training=training)
    x = tf.nn.relu(x * tf.ones([8]) + tf.fill([8, 8, 8], 0.5))
    x = tf.nn.bias_add(x, tf.constant(0.25, shape=[8]))
    x = tf.slice(x, [0, 1, 1, 0], [-1, 6, 6, 8])
    a, b = tf.split(x, [4, 4], -1)
    x = tf.where(tf.fill([models.BATCH, 6, 6, 4], True), a, b)
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), models.CLASSES)


def transposed(x, training):
    x = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu)
    x = tf.layers.conv2d_transpose(x, 10, 3, activation=tf.nn.relu)
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), models.CLASSES)


def shared(x, training):
    def conv(x):
        return tf.layers.conv2d(x, 8, 3, padding="same", name="c", reuse=tf.AUTO_REUSE)

    x = tf.nn.relu(conv(tf.layers.conv2d(x, 8, 1)))
    x = tf.nn.relu(conv(x))
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), models.CLASSES)


def mixture(x, training):
    """What `shared`, `transposed` and `literal_reshape` have, one after the other."""

    def conv(x):
        return tf.layers.conv2d(x, 8, 3, padding="same", name="c", reuse=tf.AUTO_REUSE)

    x = tf.nn.relu(conv(tf.nn.relu(conv(tf.layers.conv2d(x, 8, 1)))))
    x = tf.layers.conv2d_transpose(x, 10, 1, strides=1, activation=tf.nn.relu)
    x = tf.reshape(x, [-1, 8 * 8 * 10], name="literal")
    return tf.layers.dense(x, models.CLASSES)


IMAGE, SEQUENCE = (8, 8, 3), (6, 10)
SMALL = {
    **{
        network.__name__: (network, IMAGE)
        for network in (
            *(vgg, residual, dense_net, mobile_net, squeeze_and_excite, u_net),
            *(branches_on_counts, computes_with_counts, literal_reshape, shared),
            *(literal_squeeze_and_excite, literal_constants, transposed, mixture),
        )
    },
    "slim_resnet_v1": (slim_resnet_v1, (32, 32, 3)),
    "slim_resnet_v2": (slim_resnet_v2, (32, 32, 3)),
    "transformer": (transformer, SEQUENCE),
    "keras_layers": (models._keras_layers_network, IMAGE),
    "raw": (models._raw_network, IMAGE),
    "placeholder": (models._placeholder_network, IMAGE),
}
LARGE = {
    "slim_resnet_v1_50": (slim_resnet_v1_50, (32, 32, 3)),
    "slim_resnet_v2_50": (slim_resnet_v2_50, (32, 32, 3)),
    "keras_mobile_net_v2": (keras_mobile_net_v2, (32, 32, 3)),
}
