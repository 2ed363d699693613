"""Models whose variables are resources, in partitions, or computed with.

Each is a function without arguments that builds into the default graph and returns the
tensor that the model predicts. MODELS says how many groups can be pruned, counted by
hand.
"""
import tensorflow.compat.v1 as tf

from tests.channels.conv_models import batch_norm_in_cond
from tests.channels.other_models import dense
from tests.channels.parts import head, layers, relu, some, weights
from tests.channels.published_models import vgg_flatten


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
    resource_variables: 8 + 12 + 20,
    resource_batch_norm_in_cond: 6 + 7,
    partitioned_inputs: 8,
    partitioned_outputs: 8,
    scaled_weights: 6 + 7,
    summed_weights: 8,
    float16: 8,
}
