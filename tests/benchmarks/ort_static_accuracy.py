"""Accuracy in ONNX Runtime of a trained ResNet-20: float, ours, and its own quantizer.

    python -m tests.benchmarks.ort_static_accuracy \\
        --checkpoint=CHECKPOINT --data_dir=DATA_DIR

CHECKPOINT: folder of a dense ResNet-20. DATA_DIR: the TFRecords. Each method starts
from the same weights.

float: they, as they are. ort_static: quantized by ONNX Runtime's static quantizer,
calibrated with training images, activations uint8. lsq: trained at 8 bits.
float_trained and ort_static_trained: the same as the first two after as many steps in
float, so that what training alone does is seen. A row is written as soon as it is
known; rows that are there are not run again.
"""
import os
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from ec_estimator.export.frozen_model import freeze_model
from examples import cifar10_model
from tests.benchmarks import cifar10, networks, record
from tests.benchmarks.ort_static import OrtStaticFormat

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", 200, "training steps", lower_bound=10)
flags.DEFINE_integer("images", 2000, "test images")
flags.DEFINE_integer("calibration_images", 256, "training images to calibrate with")
flags.DEFINE_string("results", "ort_static_accuracy", "results' file name")
# As weights that are trained already can take.
FLAGS.set_default("learning_rate", 0.005)
FLAGS.set_default("seeds", ["1"])
ONNX = ec.FORMATS["onnx_onnxruntime"]
BATCH = 100
TRIALS = 4
SERVING = "serving_default"


def quantized(model_fn):
    config = ec.QuantizerConfig(
        signed="auto",
        post_quant=True,
        num_trials=TRIALS,
        step_interval=max(1, FLAGS.steps // (2 * TRIALS)),
    )
    return ec.compress(model_fn, ec.LSQQuantizer(config))


def in_float(model_fn):
    return model_fn


# method: (what is trained, or None; format).
METHODS = {
    "float": (None, ONNX),
    "ort_static": (None, lambda: OrtStaticFormat("QUInt8")),
    "lsq": (quantized, ONNX),
    "float_trained": (in_float, ONNX),
    "ort_static_trained": (in_float, lambda: OrtStaticFormat("QUInt8")),
}
flags.DEFINE_list("methods", list(METHODS), "what runs")


def receiver():
    features = {"x": tf.placeholder(tf.float32, (None, 32, 32, 3))}
    return tf.estimator.export.ServingInputReceiver(features, features)


def images(split, count):
    """The first images of a split, unaugmented, and their labels."""
    with tf.Graph().as_default(), tf.Session() as session:
        files = cifar10_model.find_files(FLAGS.data_dir, split)
        data = cifar10_model.dataset(files, count, training=False)
        features, labels = tf.data.make_one_shot_iterator(data).get_next()
        return session.run((features["image"], labels))


def run(method, seed, folder):
    """Trains where it has to, exports, and asks ONNX Runtime; the row."""
    wrap, make_format = METHODS[method]
    model_fn = networks.make_model_fn(networks.resnet20)
    checkpoint = tf.train.latest_checkpoint(FLAGS.checkpoint)
    estimator = cifar10.make_estimator(
        wrap(model_fn) if wrap else model_fn,
        os.path.join(folder, "run"),
        seed,
        FLAGS.steps,
        warm_start_from=ec.warm_start(FLAGS.checkpoint) if wrap else None,
    )
    if wrap:
        estimator.train(cifar10.train_input_fn, max_steps=FLAGS.steps)
        checkpoint = estimator.latest_checkpoint()
    model = freeze_model(estimator, receiver, checkpoint)
    calibration, _ = images("train", FLAGS.calibration_images)
    tested, labels = images("test", FLAGS.images)
    place = os.path.join(folder, "onnx")
    os.mkdir(place)
    file, *_ = make_format().write(model, SERVING, place, {"x": calibration})
    batches = [{"x": tested[i : i + BATCH]} for i in range(0, len(tested), BATCH)]
    answers = make_format().run_all(place, batches)
    classes = np.concatenate([answer["classes"] for answer in answers])
    return {
        "method": method,
        "seed": seed,
        "accuracy": round(float(np.mean(classes == labels)), 4),
        "bytes": os.path.getsize(os.path.join(place, file)),
    }


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    rows = record.rows(FLAGS.results)
    known = {(row["method"], row["seed"]) for row in rows}
    for seed in map(int, FLAGS.seeds):
        for method in FLAGS.methods:
            if (method, seed) in known:
                continue
            with tempfile.TemporaryDirectory() as folder:
                rows.append(run(method, seed, folder))
            record.save(
                FLAGS.results,
                "tests.benchmarks.ort_static_accuracy",
                {
                    "images": FLAGS.images,
                    "calibration_images": FLAGS.calibration_images,
                    "steps": FLAGS.steps,
                    "batch": cifar10.BATCH,
                    "peak_learning_rate": FLAGS.learning_rate,
                    "rows": rows,
                },
                cifar10.PLACEHOLDERS,
            )
    header = ("method", "seed", "accuracy", "bytes")
    record.print_table(header, [[row[name] for name in header] for row in rows])


if __name__ == "__main__":
    app.run(main)
