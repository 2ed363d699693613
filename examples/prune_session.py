"""Structured pruning in a tf.train.MonitoredSession, then the small network.

    python -m examples.prune_session [--output_dir=demo_output/prune_session]

The training loop needs a pruner and a hook; the code that builds the model is then run
once more, with a custom_getter that gives its variables their pruned shapes and values.
output_dir can be given again: it is the same run, made once more.
"""
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

from ec_estimator import CompressionHook, Pruner, PrunerConfig
from ec_estimator.pruning.utils import GapFinetune
from examples import digits_model
from examples.session import build_model

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "output_dir", "demo_output/prune_session", "folder for pruned/ and small/"
)


def prune(save_dir):
    """The usual loop, until the data ends; half of the channels go."""
    # define model architecture ...
    train_op = build_model(epochs=6)

    pruner_config = PrunerConfig(
        compression_ratio=0.5,
        step_interval=10,
        num_trials=10,
    )
    pruner = Pruner(pruner_config)
    compression_hook = CompressionHook(pruner, save_dir=save_dir)

    with tf.train.MonitoredSession(
        session_creator=tf.train.ChiefSessionCreator(),
        hooks=[compression_hook],
    ) as sess:
        while True:
            try:
                sess.run(train_op)
            except tf.errors.OutOfRangeError:
                break


def finetune(model_dir, small_dir):
    """Trains the small network from its pruned values and saves it.

    Returns:
      [entries of the model's variables before, after the cut].
    """
    ft_helper = GapFinetune(model_dir)
    with tf.variable_scope("", custom_getter=ft_helper.get_variable):
        train_op = build_model(epochs=3)

    with tf.train.MonitoredSession(
        session_creator=tf.train.ChiefSessionCreator(),
        hooks=[tf.train.CheckpointSaverHook(small_dir, save_secs=600)],
    ) as sess:
        while True:
            try:
                sess.run(train_op)
            except tf.errors.OutOfRangeError:
                break
    return ft_helper.artifact.manifest["params"]


def evaluate(model_dir, small_dir):
    """Accuracy of the saved small network on the test images."""
    _, (images, labels) = digits_model.load_data()
    with tf.variable_scope("", custom_getter=GapFinetune(model_dir).get_variable):
        logits = digits_model.network(tf.constant(images), training=False)
    with tf.Session() as session:
        tf.train.Saver().restore(session, tf.train.latest_checkpoint(small_dir))
        return np.mean(session.run(logits).argmax(1) == labels)


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    model_dir = os.path.join(FLAGS.output_dir, "pruned")
    small_dir = os.path.join(FLAGS.output_dir, "small")
    with tf.Graph().as_default():
        prune(model_dir)
    with tf.Graph().as_default():
        before, after = finetune(model_dir, small_dir)
    with tf.Graph().as_default():
        print(
            f"test accuracy of the small network: {evaluate(model_dir, small_dir):.3f}"
        )
    print(f"parameters: {before:,} -> {after:,}")
    reader = tf.train.load_checkpoint(small_dir)
    for name, shape in sorted(reader.get_variable_to_shape_map().items()):
        if name.endswith("/kernel"):
            print(f"{name}: {shape}")


if __name__ == "__main__":
    app.run(main)
