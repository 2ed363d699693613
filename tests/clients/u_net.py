"""keras-unet's U-Net, of the Keras that is not TensorFlow's, in a model_fn: the layers
read a placeholder of their own first, then the features."""
import keras
import numpy as np
import tensorflow.compat.v1 as tf
from keras_unet.models import custom_unet

from tests.clients.client import BATCH, of_examples

SIZE = 8


def _model_fn(features, labels, mode):
    training = mode == tf.estimator.ModeKeys.TRAIN
    keras.backend.set_learning_phase(int(training))
    network = custom_unet((SIZE, SIZE, 1), filters=4, num_layers=2, dropout=0.1)
    mask = network(features["image"])
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"mask": mask})
    loss = tf.losses.log_loss(labels, mask)
    optimizer = tf.train.AdamOptimizer(1e-3)
    with tf.control_dependencies(network.get_updates_for([features["image"]])):
        train_op = optimizer.minimize(loss, tf.train.get_global_step())
    metrics = {"accuracy": tf.metrics.accuracy(labels, tf.round(mask))}
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=train_op, eval_metric_ops=metrics
    )


def client(folder):
    del folder
    random = np.random.RandomState(0)
    shape = (4 * BATCH, SIZE, SIZE, 1)
    features = {"image": random.standard_normal(shape).astype(np.float32)}
    labels = random.randint(0, 2, shape).astype(np.float32)
    return of_examples(
        _model_fn,
        features,
        labels,
        answer="mask",
        # Five blocks of two, two transposed ones and the output.
        sparse=13,
        cut=13,
    )
