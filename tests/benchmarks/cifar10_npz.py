"""CIFAR-10's pixels and a checkpoint as one .npz, for a framework that reads neither.

    python -m tests.benchmarks.cifar10_npz \\
        --checkpoint=CHECKPOINT --data_dir=DATA_DIR --output=FILE

Arrays: every variable of the checkpoint but slots, by its name; train_images and
test_images, uint8 [count, 32, 32, 3]; train_labels and test_labels; test_logits, what
TensorFlow computes for the test images, to compare with.
"""
import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

from examples import cifar10_model
from tests.benchmarks import cifar10  # noqa: F401 (its flags)

FLAGS = flags.FLAGS
flags.DEFINE_string("output", None, "the file to write", required=True)


def read_split(split):
    """(uint8 images, int32 labels), in the order of the files."""
    files = cifar10_model.find_files(FLAGS.data_dir, split)
    with tf.Graph().as_default(), tf.Session() as session:
        data = cifar10_model.dataset(files, 500, training=False)
        batch = tf.data.make_one_shot_iterator(data).get_next()
        images, labels = [], []
        while True:
            try:
                features, numbers = session.run(batch)
            except tf.errors.OutOfRangeError:
                return np.concatenate(images), np.concatenate(labels)
            pixels = features["image"] * cifar10_model.DEVIATION + cifar10_model.MEAN
            images.append(np.rint(pixels).astype(np.uint8))
            labels.append(numbers)


def compute_logits(images):
    with tf.Graph().as_default(), tf.Session() as session:
        batch = tf.placeholder(tf.uint8, [None, 32, 32, 3])
        logits = cifar10_model.network(cifar10_model.normalize(batch), training=False)
        checkpoint = tf.train.latest_checkpoint(FLAGS.checkpoint)
        tf.train.Saver().restore(session, checkpoint)
        return np.concatenate(
            [
                session.run(logits, {batch: images[start : start + 500]})
                for start in range(0, len(images), 500)
            ]
        )


def main(_):
    reader = tf.train.load_checkpoint(FLAGS.checkpoint)
    arrays = {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if "Momentum" not in name
    }
    for split in ("train", "test"):
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = read_split(split)
    arrays["test_logits"] = compute_logits(arrays["test_images"])
    np.savez(FLAGS.output, **arrays)


if __name__ == "__main__":
    app.run(main)
