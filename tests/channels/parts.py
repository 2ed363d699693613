"""Layers and inputs that the models for the tests of channel groups are made of."""
import tensorflow.compat.v1 as tf

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


def layer_norm(x, name):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    size = x.shape.as_list()[-1]
    gamma, beta = weights(name + "/gamma", size), weights(name + "/beta", size)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-6)
