"""Networks of the benchmarks, as a user would write them, and a model_fn for them.

Each is a callable(inputs, training) -> logits [batch, 10].
"""
import tensorflow.compat.v1 as tf

from examples import cifar10_model

resnet20 = cifar10_model.network


def dense_net(x, training):
    """Float features [batch, 2048] -> logits [batch, 10], by way of 3 x 2048 units."""
    del training
    for _ in range(3):
        x = tf.layers.dense(x, 2048, tf.nn.relu)
    return tf.layers.dense(x, 10)


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
            _learning_rate(step, params), 0.9, use_nesterov=True
        )
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            train_op = optimizer.minimize(loss + decay, step)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def _learning_rate(step, params):
    """Linear warm-up over the first 15 % of the steps, then a cosine to zero."""
    fraction = tf.cast(step, tf.float32) / params["steps"]
    cosine = 0.5 * (1 + tf.cos(3.14159265 * tf.minimum(fraction, 1.0)))
    return params["learning_rate"] * tf.minimum(fraction / 0.15, cosine)
