"""Networks of the benchmarks, as a user would write them, and a model_fn for them.

Each is a callable(inputs, training) -> logits [batch, 10].
"""
import numpy as np
import tensorflow.compat.v1 as tf

from examples import cifar10_model

resnet20 = cifar10_model.network


def dense_net(x, training):
    """Float features [batch, 2048] -> logits [batch, 10], by way of 3 x 2048 units."""
    del training
    for _ in range(3):
        x = tf.layers.dense(x, 2048, tf.nn.relu)
    return tf.layers.dense(x, 10)


def vgg11(images, training):
    """Float images [batch, 32, 32, 3] -> logits [batch, 10].

    Source: Simonyan & Zisserman 2015, arXiv 1409.1556, configuration A with batch norm
    and one dense layer, as is usual for CIFAR-10. 9.2 million weights.
    """
    x = images
    for widths in ([64], [128], [256, 256], [512, 512], [512, 512]):
        for width in widths:
            x = tf.layers.conv2d(x, width, 3, padding="same", use_bias=False)
            x = tf.nn.relu(tf.layers.batch_normalization(x, training=training))
        x = tf.layers.max_pooling2d(x, 2, 2)
    return tf.layers.dense(tf.layers.flatten(x), 10)


def mobile_net(images, training):
    """Float images [batch, 64, 64, 3] -> logits [batch, 10].

    Source: Howard et al. 2017, arXiv 1704.04861, table 1, with every width and stride
    once and five blocks of 512 channels as there; the first stride is 1 because the
    images are small. 3.2 million weights.
    """

    def norm(x):
        return tf.nn.relu(tf.layers.batch_normalization(x, training=training))

    x = norm(tf.layers.conv2d(images, 32, 3, padding="same", use_bias=False))
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    blocks.extend([*[(512, 1)] * 5, (1024, 2), (1024, 1)])
    for number, (width, stride) in enumerate(blocks):
        shape = [3, 3, x.shape.as_list()[3], 1]
        kernel = tf.get_variable(f"depthwise_{number}/kernel", shape)
        x = norm(tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME"))
        x = norm(tf.layers.conv2d(x, width, 1, use_bias=False))
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), 10)


def make_model_fn(network, getter=None):
    """A model_fn for a network of this file.

    Its params: steps, learning_rate, weight_decay.

    Args:
      network: callable(inputs, training) -> logits.
      getter: custom_getter for the network's variables, or None.
    """

    def model_fn(features, labels, mode, params):
        training = mode == tf.estimator.ModeKeys.TRAIN
        with tf.variable_scope(tf.get_variable_scope(), custom_getter=getter):
            logits = network(features["x"], training)
        classes = tf.argmax(logits, 1, output_type=tf.int32)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions={"classes": classes})
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        if mode == tf.estimator.ModeKeys.EVAL:
            accuracy = tf.metrics.accuracy(labels, classes)
            return tf.estimator.EstimatorSpec(
                mode, loss=loss, eval_metric_ops={"accuracy": accuracy}
            )
        step = tf.train.get_or_create_global_step()
        decay = params["weight_decay"] * tf.add_n(
            [tf.nn.l2_loss(v) for v in tf.trainable_variables() if "kernel" in v.name]
        )
        optimizer = tf.train.MomentumOptimizer(
            learning_rate(step, params), 0.9, use_nesterov=True
        )
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            train_op = optimizer.minimize(loss + decay, step)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def noise(shape, batch):
    """An input_fn: the same batch without end, "x" [batch, *shape] and 10 classes."""

    def input_fn():
        random = np.random.RandomState(0)
        x = random.standard_normal((batch, *shape)).astype(np.float32)
        labels = np.arange(batch, dtype=np.int32) % 10
        return tf.data.Dataset.from_tensors(({"x": x}, labels)).repeat()

    return input_fn


def learning_rate(step, params):
    """Linear warm-up over the first 15 % of the steps, then a cosine to zero."""
    fraction = tf.cast(step, tf.float32) / params["steps"]
    cosine = 0.5 * (1 + tf.cos(3.14159265 * tf.minimum(fraction, 1.0)))
    return params["learning_rate"] * tf.minimum(fraction / 0.15, cosine)
