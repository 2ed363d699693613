"""Networks as they are published, most of them in small, and ways to write them.

Each is a function without arguments that builds into the default graph and returns the
tensor that the model predicts. MODELS says how many groups can be pruned, counted by
hand.
"""
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.contrib.slim import arg_scope
from tensorflow.contrib.slim.nets import inception, resnet_v1, resnet_v2, vgg

from tests.channels.parts import conv, conv_bn, depthwise, head, layers, relu, some


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
}
