"""Small models for the tests of channel groups, in PREDICT mode.

Each is a function without arguments that builds into the default graph and returns the
tensor that the model predicts. MODELS says how many groups can be pruned, counted by
hand. FROZEN says which type of op freezes the first layer's channels in frozen_by(...).
"""
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.contrib.slim import arg_scope
from tensorflow.contrib.slim.nets import inception, resnet_v1, resnet_v2, vgg
from tensorflow.python.framework import function

layers = tf.layers
relu = tf.nn.relu


def some(*shape, **kwargs):
    return tf.placeholder(kwargs.pop("dtype", tf.float32), shape, **kwargs)


def weights(name, *shape):
    return tf.get_variable(name, shape)


def conv(x, filters, size=3, strides=1, **kwargs):
    return layers.conv2d(x, filters, size, strides, "same", **kwargs)


def conv_bn(x, filters, size=3, strides=1, **kwargs):
    x = conv(x, filters, size, strides, use_bias=False)
    return relu(layers.batch_normalization(x, **kwargs))


def head(x):
    return layers.dense(tf.reduce_mean(x, [1, 2]), 5)


def depthwise(x, multiplier, name):
    w = weights(name, 3, 3, x.shape.as_list()[-1], multiplier)
    x = tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME")
    return relu(layers.batch_normalization(x))


# Convolutional networks.


def resnet20():
    x = conv_bn(some(2, 8, 8, 3), 16)
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stage and not block else 1
            y = conv_bn(x, width, 3, strides)
            y = layers.batch_normalization(conv(y, width))
            shortcut = conv(x, width, 1, strides) if strides == 2 else x
            x = relu(shortcut + y)
    return head(x)


def slim_resnet_v1():
    with arg_scope(resnet_v1.resnet_arg_scope()):
        return resnet_v1.resnet_v1_50(some(1, 32, 32, 3), 1000, is_training=False)[0]


def slim_resnet_v2():
    with arg_scope(resnet_v2.resnet_arg_scope()):
        return resnet_v2.resnet_v2_50(some(1, 32, 32, 3), 1000, is_training=False)[0]


def slim_inception_v3():
    with arg_scope(inception.inception_v3_arg_scope()):
        return inception.inception_v3(some(1, 107, 107, 3), 10, is_training=False)[0]


def slim_vgg_16():
    with arg_scope(vgg.vgg_arg_scope()):
        return vgg.vgg_16(some(1, 224, 224, 3), 10, is_training=False)[0]


def vgg_conv_head():
    x = relu(conv(some(2, 8, 8, 3), 8))
    x = layers.max_pooling2d(relu(conv(x, 12)), 2, 2)
    x = relu(layers.conv2d(x, 20, 4))
    x = layers.dropout(x, training=False)
    return tf.squeeze(layers.conv2d(x, 5, 1), [1, 2])


def vgg_flatten():
    x = relu(conv(some(2, 8, 8, 3), 8))
    x = layers.max_pooling2d(relu(conv(x, 12)), 2, 2)
    x = relu(layers.dense(layers.flatten(x), 20))
    return layers.dense(x, 5)


def flatten_unknown_batch():
    x = relu(conv(some(None, 4, 4, 3), 6))
    x = tf.reshape(x, [tf.shape(x)[0], np.prod(x.shape.as_list()[1:])])
    return layers.dense(x, 5)


def flatten_by_shape():
    x = relu(conv(some(None, 4, 4, 3), 6))
    shape = tf.shape(x)
    x = tf.reshape(x, [-1, tf.reduce_prod(shape[1:])])
    x.set_shape([None, 96])
    return layers.dense(x, 5)


def flatten_literal():
    return layers.dense(tf.reshape(relu(conv(some(2, 4, 4, 3), 6)), [-1, 96]), 5)


def densenet():
    x = conv_bn(some(2, 8, 8, 3), 6)
    for block in range(2):
        for _ in range(3):
            y = conv_bn(x, 8, 1)
            x = tf.concat([x, conv(y, 4)], 3)
        if not block:
            x = layers.average_pooling2d(conv_bn(x, 9, 1), 2, 2)
    return head(x)


def mobilenet_v1():
    x = conv_bn(some(2, 8, 8, 3), 8)
    for index, width in enumerate((12, 16)):
        x = conv_bn(depthwise(x, 1, f"depthwise_{index}"), width, 1)
    return head(x)


def multiplier_2():
    x = conv_bn(some(2, 8, 8, 3), 8)
    x = conv_bn(depthwise(x, 2, "depthwise"), 12, 1)
    return head(layers.separable_conv2d(x, 10, 3, depth_multiplier=3))


def mobilenet_v2():
    x = conv_bn(some(2, 8, 8, 3), 8)
    for index in range(2):
        y = depthwise(conv_bn(x, 24, 1), 1, f"depthwise_{index}")
        x += layers.batch_normalization(conv(y, 8, 1))
    return head(x)


def keras_mobilenet_v2():
    tf.keras.backend.set_learning_phase(0)
    model = tf.keras.applications.MobileNetV2((96, 96, 3), weights=None, classes=10)
    return model.outputs[0]


def keras_layers():
    k = tf.keras.layers
    x = some(2, 8, 8, 3)
    x = k.BatchNormalization()(k.Conv2D(6, 3)(x), training=False)
    x = k.PReLU()(k.SeparableConv2D(8, 3)(x))
    x = k.Conv2DTranspose(7, 2)(k.ReLU(6.0)(x))
    return k.Dense(5)(k.GlobalAveragePooling2D()(x))


def _excite(expand):
    x = conv_bn(some(2, 8, 8, 3), 12)
    s = relu(layers.dense(tf.reduce_mean(x, [1, 2]), 4))
    return head(x * expand(tf.sigmoid(layers.dense(s, 12))))


def se_reshape():
    return _excite(lambda s: tf.reshape(s, [-1, 1, 1, 12]))


def se_new_axes():
    return _excite(lambda s: s[:, None, None, :])


def se_ellipsis():
    return _excite(lambda s: s[:, tf.newaxis, ..., tf.newaxis, :])


def se_convolutions():
    x = conv_bn(some(2, 8, 8, 3), 12)
    s = relu(conv(tf.reduce_mean(x, [1, 2], keepdims=True), 4, 1))
    return head(x * tf.sigmoid(conv(s, 12, 1)))


def unet():
    x = some(2, 8, 8, 3)
    a = conv_bn(x, 6)
    b = conv_bn(layers.max_pooling2d(a, 2, 2), 8)
    c = conv_bn(layers.max_pooling2d(b, 2, 2), 10)
    up = relu(layers.conv2d_transpose(c, 7, 2, 2))
    d = conv_bn(tf.concat([up, b], -1), 9)
    up = tf.image.resize_bilinear(d, tf.shape(a)[1:3])
    e = conv_bn(tf.concat([a, up], -1), 5)
    return conv(e, 2, 1)


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


# Other networks.


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


def layer_norm(x, name):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    size = x.shape.as_list()[-1]
    gamma, beta = weights(name + "/gamma", size), weights(name + "/beta", size)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-6)


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


# How variables come.


def resource_variables():
    with tf.variable_scope("", use_resource=True):
        return vgg_flatten()


def resource_batch_norm_in_cond():
    with tf.variable_scope("", use_resource=True):
        return batch_norm_in_cond()


def partitioned_inputs():
    with tf.variable_scope("", partitioner=tf.fixed_size_partitioner(2)):
        return dense()


def partitioned_outputs():
    with tf.variable_scope("", partitioner=tf.fixed_size_partitioner(3, axis=1)):
        x = tf.matmul(some(2, 4), weights("a", 4, 8))
        return tf.matmul(relu(x), weights("b", 8, 5))


def scaled_weights():
    x = tf.nn.conv2d(some(2, 8, 8, 3), weights("a", 3, 3, 3, 6) * 0.3, 1, "SAME")
    w = weights("b", 3, 3, 6, 7) * weights("scale", 7)
    return head(tf.nn.conv2d(relu(x), tf.tanh(w), 1, "SAME"))


def summed_weights():
    x = relu(layers.dense(some(2, 4), 8))
    return tf.matmul(x, weights("a", 8, 3) + weights("b", 8, 3))


def float16():
    x = tf.cast(relu(layers.dense(some(2, 4), 8)), tf.float16)
    return tf.matmul(x, tf.cast(weights("w", 8, 3), tf.float16))


# {model: number of groups that can be pruned}.
MODELS = {
    resnet20: 16 + 32 + 64 + 3 * (16 + 32 + 64),
    vgg_conv_head: 8 + 12 + 20,
    vgg_flatten: 8 + 12 + 20,
    flatten_unknown_batch: 6,
    flatten_by_shape: 6,
    flatten_literal: 6,
    densenet: 6 + 6 * (8 + 4) + 9,
    mobilenet_v1: 8 + 12 + 16,
    multiplier_2: 8 + 12 + 10,
    mobilenet_v2: 8 + 2 * 24,
    keras_layers: 6 + 8 + 7,
    se_reshape: 12 + 4,
    se_new_axes: 12 + 4,
    se_ellipsis: 12 + 4,
    se_convolutions: 12 + 4,
    unet: 6 + 8 + 10 + 7 + 9 + 5,
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
    resource_variables: 8 + 12 + 20,
    resource_batch_norm_in_cond: 6 + 7,
    partitioned_inputs: 8,
    partitioned_outputs: 8,
    scaled_weights: 6 + 7,
    summed_weights: 8,
    float16: 8,
}


# What freezes.


def frozen_by(change):
    """A model whose first layer has eight channels that meet `change`. A second layer
    beside it has four channels that stay free."""

    def build():
        x = some(None, 8, 8, 3)
        beside = layers.dense(relu(layers.dense(x, 4, name="free")), 3)
        return [change(relu(layers.dense(x, 8, name="first"))), beside]

    return build


def _read(x):
    return layers.dense(x, 3, name="reader")


def _last_conv(x):
    return conv(x, 2, 1, name="reader")


def _shuffle(x):
    x = tf.transpose(tf.reshape(x, [-1, 8, 8, 2, 4]), [0, 1, 2, 4, 3])
    return _last_conv(tf.reshape(x, [-1, 8, 8, 8]))


def _two_axes(x):
    """A kernel on the left makes rows beside the channels; both become one axis."""
    x = tf.matmul(weights("rows", 5, 64), tf.reshape(x, [-1, 64, 8]))
    return _read(tf.reshape(x, [-1, 40]))


def _while_loop(x):
    return _read(
        tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, y + y), [0, x])[1]
    )


def _dynamic_rnn(x):
    cell = tf.nn.rnn_cell.GRUCell(5)
    x = tf.reshape(x, [-1, 64, 8])
    return _read(tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)[0])


def _size(x):
    return tf.cast(tf.shape(x)[-1], tf.float32)


def _by(x, w):
    return tf.tensordot(x, w, [[-1], [0]])


def _offset_weights(x):
    """The kernel is not zero where its first variable is."""
    return _by(x, weights("w", 8, 3) + weights("offset", 3))


def _attention_over_channels(x):
    x = tf.reshape(x, [-1, 64, 8])
    return tf.matmul(x, x, transpose_b=True)


def _counted(x):
    """How many are large, then as large as they are."""
    return _by(tf.to_float(tf.argsort(x)), weights("counts", 8, 3)) + _read(x)


def _function(x):
    @function.Defun(tf.float32)
    def double(y):
        return 2.0 * y

    y = double(x)
    y.set_shape(x.shape)
    return _read(y)


def _crossed(x):
    """Columns where channels are expected, and the other way round."""
    return tf.transpose(x, [0, 3, 2, 1])


# {name: (model, type of the op that freezes the first layer's channels)}.
FROZEN = {
    "the input": (lambda x: _read(x + some(None, 8, 8, 8)), "AddV2"),
    "layer norm": (lambda x: _read(layer_norm(x, "norm")), "Mean"),
    "l2 normalize": (lambda x: _read(tf.nn.l2_normalize(x, -1)), "Sum"),
    "local response": (lambda x: _read(tf.nn.lrn(x)), "LRN"),
    "softmax": (lambda x: _read(tf.nn.softmax(x)), "Softmax"),
    "channel shuffle": (_shuffle, "Reshape"),
    "two axes": (_two_axes, "Reshape"),
    "space to depth": (lambda x: _last_conv(tf.space_to_depth(x, 2)), "SpaceToDepth"),
    "top k": (lambda x: _read(tf.nn.top_k(x, 3)[0]), "TopKV2"),
    "argmax": (lambda x: tf.argmax(x, -1), "ArgMax"),
    "argsort": (_counted, "TopKV2"),
    "max": (lambda x: tf.reduce_max(x, -1), "Max"),
    "mean of all": (lambda x: _read(x / tf.reduce_mean(x)), "Mean"),
    "cumulative sum": (lambda x: _read(tf.cumsum(x, -1)), "Cumsum"),
    "attention over channels": (_attention_over_channels, "BatchMatMulV2"),
    "while loop": (_while_loop, "Enter"),
    "dynamic rnn": (_dynamic_rnn, "Transpose"),
    "function": (_function, "double"),
    # Sizes that would change.
    "size": (lambda x: _read(x / tf.sqrt(_size(x))), "Cast"),
    "size less one": (lambda x: _read(x / tf.to_float(tf.shape(x)[-1] - 1)), "Sub"),
    "number of entries": (lambda x: _read(x / tf.to_float(tf.size(x))), "Cast"),
    "range": (lambda x: _read(x * tf.to_float(tf.range(tf.shape(x)[-1]))), "Range"),
    "one hot": (lambda x: _read(x + tf.one_hot(2, tf.shape(x)[-1])), "OneHot"),
    "filled": (lambda x: _read(x * tf.to_float(tf.fill([8], tf.shape(x)[3]))), "Fill"),
    "border": (lambda x: tf.range(20)[tf.shape(x)[-1] :], "StridedSlice"),
    # Positions that would move.
    "unequal split": (lambda x: _read(tf.split(x, [2, 6], -1)[0]), "SplitV"),
    "slice": (lambda x: _read(tf.slice(x, [0, 0, 0, 2], [-1, -1, -1, 4])), "Slice"),
    "strided slice": (lambda x: _read(x[..., 1:]), "StridedSlice"),
    "backwards": (lambda x: _read(x + x[..., ::-1]), "StridedSlice"),
    "every other": (lambda x: _read(x[..., ::2]), "StridedSlice"),
    "one channel": (lambda x: x[..., 2], "StridedSlice"),
    "reverse": (lambda x: _read(tf.reverse(x, [-1])), "ReverseV2"),
    "gather": (lambda x: _read(tf.gather(x, [0, 3, 1], axis=3)), "GatherV2"),
    "pad": (lambda x: _read(tf.pad(x, [[0, 0]] * 3 + [[0, 2]])), "Pad"),
    "tile": (lambda x: _read(tf.tile(x, [1, 1, 1, 2])), "Tile"),
    "unstack": (lambda x: tf.unstack(x, axis=3)[0], "Unpack"),
    "constant vector": (lambda x: _read(x * np.arange(8.0)), "Mul"),
    # Kernels that a mask of their variable does not silence.
    "constant kernel": (lambda x: _by(x, tf.ones([8, 3])), "MatMul"),
    "positive kernel": (lambda x: _by(x, tf.nn.softplus(weights("w", 8, 3))), "MatMul"),
    "offset kernel": (_offset_weights, "MatMul"),
    "normed kernel": (
        lambda x: _by(x, tf.nn.l2_normalize(weights("w", 8, 3), 0)),
        "Sum",
    ),
    # Layers that take the channels for pixels.
    "convolved": (lambda x: conv(_crossed(x), 2, name="reader"), "Conv2D"),
    "pooled": (lambda x: layers.max_pooling2d(_crossed(x), 2, 1), "MaxPool"),
    "resized": (
        lambda x: tf.image.resize_bilinear(_crossed(x), [4, 4]),
        "ResizeBilinear",
    ),
    "dilated": (
        lambda x: conv(_crossed(x), 2, dilation_rate=2, name="reader"),
        "SpaceToBatchND",
    ),
    "transposed convolution": (
        lambda x: layers.conv2d_transpose(_crossed(x), 2, 2, name="reader"),
        "AddV2",
    ),
    "pooled over": (
        lambda x: tf.nn.max_pool2d(x, [1, 1, 1, 2], [1, 1, 1, 2], "VALID"),
        "MaxPool",
    ),
}
