"""A user's code: a classifier on a table of embeddings that is split over servers."""
import numpy as np
import tensorflow.compat.v1 as tf

CLASSES = 4
_IDS = 60


def model_fn(features, labels, mode):
    return estimator_spec(features, labels, mode, tf.train.AdamOptimizer(1e-2))


def estimator_spec(features, labels, mode, optimizer):
    partitioner = tf.fixed_size_partitioner(2)
    with tf.variable_scope("net", partitioner=partitioner):
        table = tf.get_variable("table", [_IDS, 8])
        x = tf.nn.embedding_lookup(table, features["ids"], "div")
        x = tf.layers.flatten(x)
        x = tf.layers.dense(x, 64, tf.nn.relu, name="hidden")
        x = tf.layers.dense(x, 32, tf.nn.relu, name="narrow")
        logits = tf.layers.dense(x, CLASSES, name="logits")
    if mode == tf.estimator.ModeKeys.PREDICT:
        predictions = {"probabilities": tf.nn.softmax(logits)}
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == tf.estimator.ModeKeys.EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    train_op = optimizer.minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def examples():
    """({"ids": [count, 4]}, labels [count]) that can be learned."""
    ids = np.random.RandomState(0).randint(0, _IDS, [640, 4])
    return {"ids": ids}, (ids.sum(1) % CLASSES).astype(np.int32)


def train_input_fn():
    return tf.data.Dataset.from_tensor_slices(examples()).repeat().batch(32, True)


def eval_input_fn():
    return tf.data.Dataset.from_tensor_slices(examples()).batch(128, True)


def serving_input_receiver_fn():
    ids = tf.placeholder(tf.int64, [None, 4], name="ids")
    return tf.estimator.export.ServingInputReceiver({"ids": ids}, {"ids": ids})
