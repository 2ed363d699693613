"""What the CIFAR-10 benchmarks share: flags, input, start, and runs that go on.

The common start is a checkpoint of a dense ResNet-20 (examples/cifar10_model.py), the
data are the TFRecords that examples/make_cifar10_tfrecords.py writes.
"""
import json
import os
import tempfile

import tensorflow.compat.v1 as tf
from absl import flags

from examples import cifar10_model
from tests.benchmarks import networks

FLAGS = flags.FLAGS
flags.DEFINE_string("checkpoint", None, "folder of the dense checkpoint")
flags.DEFINE_string("data_dir", None, "folder of the TFRecord files")
flags.DEFINE_string("work_dir", None, "folder for the runs; default: a temporary one")
flags.DEFINE_float("learning_rate", 0.05, "peak learning rate")
flags.DEFINE_list("seeds", ["1", "2", "3"], "seeds of the runs")
flags.mark_flags_as_required(["checkpoint", "data_dir"])

BATCH = 128
TRAIN_IMAGES = 50000
WEIGHT_DECAY = 1e-4
# What a result's command shows instead of this machine's paths.
PLACEHOLDERS = {
    "checkpoint": "CHECKPOINT",
    "data_dir": "DATA_DIR",
    "work_dir": "WORK_DIR",
}


def train_input_fn():
    return _dataset("train", BATCH, training=True)


def test_input_fn():
    return _dataset("test", 500, training=False)


def _dataset(split, batch, training):
    files = cifar10_model.find_files(FLAGS.data_dir, split)
    data = cifar10_model.dataset(files, batch, training)
    return data.map(lambda features, labels: ({"x": features["image"]}, labels))


def steps_of(epochs):
    return int(epochs * TRAIN_IMAGES / BATCH)


def make_estimator(model_fn, folder, seed, steps, **kwargs):
    """An Estimator whose learning rate ends after `steps`, with one checkpoint."""
    return tf.estimator.Estimator(
        model_fn,
        folder,
        tf.estimator.RunConfig(
            tf_random_seed=seed,
            save_checkpoints_steps=steps,
            save_summary_steps=steps,
            keep_checkpoint_max=1,
        ),
        params={
            "steps": steps,
            "learning_rate": FLAGS.learning_rate,
            "weight_decay": WEIGHT_DECAY,
        },
        **kwargs,
    )


def test_accuracy(estimator, checkpoint=None):
    found = estimator.evaluate(test_input_fn, checkpoint_path=checkpoint)
    return round(float(found["accuracy"]), 4)


def start_accuracy():
    """Accuracy of the checkpoint that all runs start from."""
    estimator = tf.estimator.Estimator(networks.make_model_fn(networks.resnet20))
    return test_accuracy(estimator, tf.train.latest_checkpoint(FLAGS.checkpoint))


def collect(run, methods):
    """Runs each method with each seed, or reads what an earlier call left.

    Args:
      run: callable(method, seed, folder) -> JSON-ready figures.
      methods: names.

    Returns:
      The figures of all runs.
    """
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        work_dir = FLAGS.work_dir or temporary
        os.makedirs(work_dir, exist_ok=True)
        for seed in FLAGS.seeds:
            for method in methods:
                folder = os.path.join(work_dir, f"{method}_seed{seed}")
                result = folder + ".json"
                if not os.path.exists(result):
                    figures = run(method, int(seed), folder)
                    with open(result, "w") as file:
                        json.dump(figures, file)
                with open(result) as file:
                    runs.append(json.load(file))
                print(runs[-1], flush=True)
    return runs
