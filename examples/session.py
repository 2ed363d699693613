"""Block sparsity in a tf.train.MonitoredSession, and what the hook leaves behind.

    python -m examples.session [--save_dir=demo_output/session]

A training loop without Estimator needs a compressor and a hook, and nothing else
changes. save_dir can be given again: it is the same run, made once more.
"""
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

from ec_estimator import CompressionHook, Sparsifier, SparsifierConfig
from examples import digits_model

FLAGS = flags.FLAGS
flags.DEFINE_string("save_dir", "demo_output/session", "folder for the hook's files")


def build_model(epochs):
    """A training graph on the digits, as its author wrote it.

    Returns:
      The train_op, to be run until the data ends.
    """
    (images, labels), _ = digits_model.load_data()
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    data = data.shuffle(len(labels)).repeat(epochs).batch(64)
    images, labels = tf.data.make_one_shot_iterator(data).get_next()
    logits = digits_model.network(images, training=True)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        optimizer = tf.train.AdamOptimizer(1e-3)
        return optimizer.minimize(loss, tf.train.get_or_create_global_step())


def train(save_dir):
    """The usual loop, until the data ends."""
    # define model architecture ...
    train_op = build_model(epochs=6)

    sparsifier_config = SparsifierConfig(
        target_sparse_ratio=0.6,
        sparse_block_shape=(1, 16),
        step_interval=10,
        num_trials=10,
    )
    sparsifier = Sparsifier(sparsifier_config)
    compression_hook = CompressionHook(sparsifier, save_dir=save_dir)

    with tf.train.MonitoredSession(
        session_creator=tf.train.ChiefSessionCreator(),
        hooks=[compression_hook],
    ) as sess:
        while True:
            try:
                sess.run(train_op)
            except tf.errors.OutOfRangeError:
                break


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    train(FLAGS.save_dir)
    for folder, _, names in sorted(os.walk(FLAGS.save_dir)):
        for name in sorted(names):
            print(os.path.join(folder, name))
    reader = tf.train.load_checkpoint(os.path.join(FLAGS.save_dir, "clean"))
    for name in sorted(reader.get_variable_to_shape_map()):
        if name.endswith("/kernel"):
            print(f"{name}: {np.mean(reader.get_tensor(name) == 0):.3f} zeros")


if __name__ == "__main__":
    app.run(main)
