"""A user's code: a small CNN for scikit-learn's digits as an Estimator model_fn.

It stands in for a project that was there before: nothing in it knows about
ec_estimator. Because it has the usual names, this trains it compressed:

    python -m ec_estimator train --model=examples.digits_model --model_dir=digits \\
        --compressor=sparsifier --sparsifier_step_interval=50 --train_steps=600
"""
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

BATCH_SIZE = 64
LEARNING_RATE = 1e-3


def load_data():
    """The 1,797 digits: 1,297 to train with, 500 to test with.

    Returns:
      (images, labels) to train with and (images, labels) to test with. Images are
      float32 `[count, 8, 8]`, from 0 to 16; labels int32 `[count]`, from 0 to 9.
    """
    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        digits.images.astype("float32"),
        digits.target.astype("int32"),
        test_size=500,
        random_state=0,
        stratify=digits.target,
    )
    return (train_images, train_labels), (test_images, test_labels)


def network(images, training):
    """Three convolutions with batch norm, one dense layer; 112,928 weights in kernels.

    Args:
      images: float32 `[batch, 8, 8]`, from 0 to 16.
      training: whether batch norms use the batch's statistics.

    Returns:
      Logits `[batch, 10]`.
    """

    def convolution(x, filters):
        x = tf.layers.conv2d(x, filters, 3, padding="same", use_bias=False)
        x = tf.layers.batch_normalization(x, training=training, momentum=0.9)
        return tf.nn.relu(x)

    x = tf.expand_dims(images / 16.0, axis=3)
    x = convolution(x, 32)
    x = convolution(x, 64)
    x = tf.layers.max_pooling2d(x, 2, 2)
    x = convolution(x, 128)
    return tf.layers.dense(tf.layers.flatten(x), 10)


def model_fn(features, labels, mode):
    """As tf.estimator.Estimator takes it."""
    logits = network(features["image"], mode == tf.estimator.ModeKeys.TRAIN)
    classes = tf.argmax(logits, axis=1, output_type=tf.int32)
    if mode == tf.estimator.ModeKeys.PREDICT:
        predictions = {"classes": classes, "probabilities": tf.nn.softmax(logits)}
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == tf.estimator.ModeKeys.EVAL:
        metrics = {"accuracy": tf.metrics.accuracy(labels, classes)}
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
    optimizer = tf.train.AdamOptimizer(LEARNING_RATE)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.minimize(loss, tf.train.get_or_create_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def train_input_fn():
    """Shuffled batches without end."""
    (images, labels), _ = load_data()
    dataset = tf.data.Dataset.from_tensor_slices(({"image": images}, labels))
    return dataset.shuffle(len(labels)).repeat().batch(BATCH_SIZE, drop_remainder=True)


def eval_input_fn():
    """The test images, once."""
    _, (images, labels) = load_data()
    return tf.data.Dataset.from_tensor_slices(({"image": images}, labels)).batch(100)


def serving_input_receiver_fn():
    """Takes a batch of images, `[batch, 8, 8]`, from 0 to 16, as `image`."""
    image = tf.placeholder(tf.float32, [None, 8, 8], name="image")
    return tf.estimator.export.ServingInputReceiver({"image": image}, {"image": image})
