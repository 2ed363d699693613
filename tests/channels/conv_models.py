"""Convolutional networks, each around one construct that channels pass through.

Each is a function without arguments that builds into the default graph and returns the
tensor that the model predicts. MODELS says how many groups can be pruned, counted by
hand.
"""
import tensorflow.compat.v1 as tf

from tests.channels.parts import conv, conv_bn, head, layers, relu, some, weights


def transposed_to_skip():
    """The shape of the skip sizes the transposed convolution."""
    a = conv_bn(some(None, 8, 8, 3), 6)
    b = conv_bn(a, 8, 3, 2)
    up = tf.nn.conv2d_transpose(b, weights("w", 2, 2, 6, 8), tf.shape(a), [1, 2, 2, 1])
    up.set_shape(a.shape)
    return conv(tf.concat([a, up], -1), 2, 1)


def padded():
    x = conv_bn(some(2, 8, 8, 3), 6)
    x = tf.pad(x, [[0, 0], [1, 1], [2, 0], [0, 0]], "REFLECT")
    return head(layers.conv2d(x, 7, 3))


def dilated():
    x = conv_bn(some(2, 8, 8, 3), 6)
    return head(relu(conv(x, 7, dilation_rate=2)))


def grouped():
    x = conv_bn(some(2, 8, 8, 3), 12)
    x = tf.concat([conv(part, 4) for part in tf.split(x, 3, -1)], -1)
    return head(relu(x))


def grouped_by_split_kernel():
    x = conv_bn(some(2, 8, 8, 3), 8)
    kernels = tf.split(weights("w", 3, 3, 4, 6), 2, 3)
    parts = zip(tf.split(x, 2, 3), kernels)
    return head(tf.concat([tf.nn.conv2d(p, w, 1, "SAME") for p, w in parts], 3))


def glu():
    x = conv(some(2, 8, 8, 3), 12)
    a, b = tf.split(x, [6, 6], -1)
    return head(a * tf.sigmoid(b))


def shared_kernel():
    x = conv_bn(some(2, 8, 8, 3), 6)
    w = weights("w", 3, 3, 6, 6)
    for _ in range(2):
        x = relu(tf.nn.conv2d(x, w, 1, "SAME"))
    return head(x)


def shared_by_two_branches():
    w = weights("w", 3, 3, 6, 4)
    a, b = (conv_bn(some(2, 8, 8, 3), 6) for _ in range(2))
    return head(tf.nn.conv2d(a, w, 1, "SAME") - tf.nn.conv2d(b, w, 1, "SAME"))


def shared_layers():
    """Two towers of the same variables, compared."""
    with tf.variable_scope("tower"):
        a = conv_bn(some(2, 8, 8, 3), 6)
    with tf.variable_scope("tower", reuse=True):
        b = conv_bn(some(2, 8, 8, 3), 6)
    return layers.dense(tf.reduce_mean(tf.abs(a - b), [1, 2]), 1)


def unfused_batch_norm():
    x = conv(some(2, 8, 8, 3), 6, use_bias=False)
    x = layers.batch_normalization(x, fused=False)
    return head(relu(layers.batch_normalization(conv(relu(x), 7), scale=False)))


def batch_norm_without_scale():
    x = conv_bn(some(2, 8, 8, 3), 6, scale=False, center=False)
    return head(conv_bn(x, 7, training=True))


def batch_norm_in_cond():
    training = tf.placeholder_with_default(False, [])
    x = conv_bn(some(2, 8, 8, 3), 6, training=training)
    x = conv(x, 7)
    x = layers.batch_normalization(x, training=training, fused=False)
    return head(relu(x))


def branches():
    choice = tf.placeholder_with_default(True, [])
    x = conv_bn(some(2, 8, 8, 3), 6)
    x = tf.cond(choice, lambda: relu(conv(x, 8)), lambda: conv(conv(x, 7), 8))
    return head(x)


def zero_branch():
    choice = tf.placeholder_with_default(False, [])
    x = conv_bn(some(2, 8, 8, 3), 6)
    x += tf.cond(choice, lambda: tf.zeros_like(x), lambda: conv(x, 6))
    return head(x)


def prelu():
    x = conv(some(2, 8, 8, 3), 6)
    alpha = weights("alpha", 6)
    x = tf.maximum(x, 0.0) + alpha * tf.minimum(x, 0.0)
    return head(relu(x * tf.ones([6]) + tf.constant(0.5, shape=[6])))


def relu_by_mask():
    x = conv(some(2, 8, 8, 3), 6)
    x = x * tf.cast(x > 0.1, tf.float32)
    return head(tf.where(x < 1.0, x, tf.ones_like(x)))


def each_on_its_own():
    x = some(2, 8, 8, 3)
    a, b = tf.identity_n([conv(x, 6), conv(x, 7)])
    return head(tf.concat([relu(a), relu(b)], -1))


def rows_by_condition():
    x = some(2, 4)
    a, b = (layers.dense(x, 8) for _ in range(2))
    return layers.dense(tf.where(x[:, 0] > 0, a, relu(b)), 3)


def swish():
    x = conv(some(2, 8, 8, 3), 6)
    return head(tf.nn.swish(x) + tf.nn.leaky_relu(x) + 0.5 * tf.nn.elu(x))


def instance_norm():
    x = conv(some(2, 8, 8, 3), 6)
    mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
    gamma, beta = weights("gamma", 6), weights("beta", 6)
    return head(relu(tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)))


def option_a_shortcut(batch=2):
    """Every other pixel, and zeros for the new channels."""
    x = conv_bn(some(batch, 8, 8, 3), 6)
    y = conv(conv_bn(x, 7, 3, 2), 12)
    short = x[:, ::2, ::2, :]
    return head(relu(y + tf.concat([short, tf.zeros_like(short)], -1)))


def option_a_shortcut_unknown_batch():
    """The zeros are as many as the channels that they stand beside."""
    return option_a_shortcut(None)


def nhwc_to_nchw_and_back():
    x = tf.transpose(conv(some(2, 8, 8, 3), 6), [0, 3, 1, 2])
    x = relu(x + weights("bias", 6, 1, 1))
    return head(tf.transpose(x, [0, 2, 3, 1]))


def stacked():
    x = some(2, 8, 8, 3)
    a, b = conv(x, 6), conv(x, 6)
    c, d = tf.unstack(tf.stack([a, b], 1), axis=1)
    return head(tf.add_n([c, d, relu(c)]) + tf.tile(c[:, :1], [1, 8, 1, 1]))


def nchw():
    """Does not run on a CPU."""
    x = some(2, 3, 8, 8)
    for width in (6, 8):
        x = layers.conv2d(x, width, 3, data_format="channels_first")
        x = relu(layers.batch_normalization(x, axis=1))
    x = layers.max_pooling2d(x, 2, 2, data_format="channels_first")
    return layers.dense(layers.flatten(x), 5)


# {model: number of groups that can be pruned}.
MODELS = {
    transposed_to_skip: 6 + 8,
    padded: 6 + 7,
    dilated: 6 + 7,
    # Position i of all parts is one group.
    grouped: 4 + 3 * 4,
    grouped_by_split_kernel: 4 + 3,
    glu: 6,
    shared_kernel: 6,
    shared_by_two_branches: 6 + 4,
    shared_layers: 6,
    unfused_batch_norm: 6 + 7,
    batch_norm_without_scale: 6 + 7,
    batch_norm_in_cond: 6 + 7,
    branches: 6 + 7 + 8,
    zero_branch: 6,
    prelu: 6,
    relu_by_mask: 6,
    each_on_its_own: 6 + 7,
    rows_by_condition: 8,
    swish: 6,
    instance_norm: 6,
    # Six of the twelve that are added to the zeros are frozen,
    option_a_shortcut: 6 + 7,
    # or go with the other six.
    option_a_shortcut_unknown_batch: 6 + 7,
    nhwc_to_nchw_and_back: 6,
    stacked: 6,
}
