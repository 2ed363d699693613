"""Loads a SavedModel of the digits without ec_estimator and tests it.

What an export promises is shown in a process of its own: TensorFlow alone loads and
runs it, since the zeros are in its weights and the graph is the model's own.

    python -m examples.digits_serve --saved_model=demo_output/sparse/export/...
"""
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

from examples import digits_model

FLAGS = flags.FLAGS
flags.DEFINE_string("saved_model", None, "folder with saved_model.pb")


def accuracy(saved_model):
    """Fraction of the test images that a SavedModel tells right.

    Args:
      saved_model: folder with saved_model.pb.
    """
    _, (images, labels) = digits_model.load_data()
    with tf.Graph().as_default(), tf.Session() as session:
        tags = [tf.saved_model.tag_constants.SERVING]
        loaded = tf.saved_model.load(session, tags, saved_model)
        signature = loaded.signature_def["serving_default"]
        classes = session.run(
            signature.outputs["classes"].name,
            {signature.inputs["image"].name: images},
        )
    return float(np.mean(classes == labels))


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    result = accuracy(FLAGS.saved_model)
    if "ec_estimator" in sys.modules:
        sys.exit("examples.digits_serve: ec_estimator was imported; it must not be")
    print(f"{result:.6f}")


if __name__ == "__main__":
    flags.mark_flag_as_required("saved_model")
    app.run(main)
