"""ResNet-20 for CIFAR-10 and its input as plain Estimator code, without compression.

Source of the architecture: He et al. 2016, arXiv 1512.03385, section 4.2; where the
shape changes, the shortcut is a 1x1 convolution with batch norm.
"""
import glob
import math
import os

import tensorflow.compat.v1 as tf

# Labels are indices into this list.
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
# Of the training images, by colour, in [0, 255].
MEAN, DEVIATION = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
WEIGHT_DECAY = 1e-4
WARM_UP = 0.1  # The part of the training in which the learning rate rises.


def network(images, training):
    """Three stages of three residual blocks, 16, 32 and 64 channels wide.

    Args:
      images: float32 `[batch, 32, 32, 3]`, normalized.
      training: whether batch norms use the batch's statistics.

    Returns:
      Logits `[batch, 10]`.
    """
    x = tf.nn.relu(_convolution(images, 16, 3, 1, training))
    for width, first_stride in ((16, 1), (32, 2), (64, 2)):
        for stride in (first_stride, 1, 1):
            x = _residual_block(x, width, stride, training)
    return tf.layers.dense(tf.reduce_mean(x, axis=[1, 2]), len(CLASSES))


def _residual_block(x, width, stride, training):
    # The shortcut is made first: the order decides the names of the variables.
    shortcut = x if stride == 1 else _convolution(x, width, 1, stride, training)
    branch = tf.nn.relu(_convolution(x, width, 3, stride, training))
    branch = _convolution(branch, width, 3, 1, training)
    return tf.nn.relu(branch + shortcut)


def _convolution(x, width, size, stride, training):
    """With batch norm."""
    x = tf.layers.conv2d(
        x,
        width,
        size,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer=tf.variance_scaling_initializer(2.0, "fan_out"),
    )
    return tf.layers.batch_normalization(x, training=training, momentum=0.9)


def model_fn(features, labels, mode, params):
    """As tf.estimator.Estimator takes it.

    Args:
      features: {"image": float32 `[batch, 32, 32, 3]`}.
      labels: int32 `[batch]`.
      mode: a tf.estimator.ModeKeys.
      params: {"learning_rate": its highest value, "steps": when it reaches zero}.
    """
    logits = network(features["image"], mode == tf.estimator.ModeKeys.TRAIN)
    classes = tf.argmax(logits, axis=1, output_type=tf.int32)
    if mode == tf.estimator.ModeKeys.PREDICT:
        predictions = {"classes": classes, "probabilities": tf.nn.softmax(logits)}
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == tf.estimator.ModeKeys.EVAL:
        metrics = {"accuracy": tf.metrics.accuracy(labels, classes)}
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
    step = tf.train.get_or_create_global_step()
    rate = learning_rate(params["learning_rate"], step, params["steps"])
    kernels = [v for v in tf.trainable_variables() if v.op.name.endswith("/kernel")]
    penalty = WEIGHT_DECAY * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
    optimizer = tf.train.MomentumOptimizer(rate, 0.9, use_nesterov=True)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.minimize(loss + penalty, step)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def learning_rate(highest, step, steps):
    """Rises linearly while training warms up, and falls as a cosine to zero."""
    done = tf.minimum(tf.cast(step, tf.float32) / steps, 1.0)
    falling = 0.5 * (1.0 + tf.cos(math.pi * done))
    return highest * tf.minimum(done / WARM_UP, falling)


def find_files(data_dir, split):
    """The TFRecord files of a split, "train" or "test".

    Raises:
      FileNotFoundError: there is none.
    """
    pattern = f"{split}-*.tfrecord"
    files = sorted(glob.glob(os.path.join(glob.escape(data_dir), pattern)))
    if not files:
        raise FileNotFoundError(
            f"there is no {pattern} in {data_dir!r}; make them with "
            "python -m examples.make_cifar10_tfrecords"
        )
    return files


def dataset(files, batch_size, training):
    """Batches of ({"image": float32 `[batch, 32, 32, 3]`}, labels int32 `[batch]`).

    Args:
      files: TFRecord files of Examples with `image/encoded`, a JPEG or PNG of 32x32
        pixels, and `image/class/label`, an index into CLASSES.
      batch_size: images a batch.
      training: whether images come shuffled, augmented and without end.
    """
    data = tf.data.TFRecordDataset(files).map(_parse, 2).cache()
    if training:
        # One call at a time, so that the seed decides every crop.
        data = data.shuffle(50000).repeat().map(_augment)
    data = data.map(lambda image, label: ({"image": normalize(image)}, label), 2)
    return data.batch(batch_size, drop_remainder=training).prefetch(2)


def _parse(record):
    example = tf.io.parse_single_example(
        record,
        {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        },
    )
    # Decodes JPEG too; decode_image also does, but can return a GIF's four axes.
    image = tf.io.decode_png(example["image/encoded"], channels=3)
    label = tf.cast(example["image/class/label"], tf.int32)
    return tf.reshape(image, [32, 32, 3]), label


def _augment(image, label):
    image = tf.pad(image, [[4, 4], [4, 4], [0, 0]], constant_values=120)
    image = tf.image.random_crop(image, [32, 32, 3])
    return tf.image.random_flip_left_right(image), label


def normalize(images):
    """uint8 `[..., 32, 32, 3]` -> float32 of about mean 0 and variance 1."""
    return (tf.cast(images, tf.float32) - MEAN) / DEVIATION


def serving_input_receiver_fn():
    """Takes a batch of images, uint8 `[batch, 32, 32, 3]`, as `image`."""
    images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="image")
    return tf.estimator.export.ServingInputReceiver(
        {"image": normalize(images)}, {"image": images}
    )
