"""Accuracy of a 60 % sparse ResNet-20 on CIFAR-10, beside contrib's and a dense one.

    python -m tests.benchmarks.cifar10_sparsity \\
        --checkpoint=CHECKPOINT --data_dir=DATA_DIR

CHECKPOINT: folder of a dense ResNet-20 (tests/benchmarks/networks.py). DATA_DIR: files
train-*.tfrecord and test-*.tfrecord with `image/encoded` (JPEG, 32x32x3) and
`image/class/label` (int64).

Every method starts from the same weights and moving averages, and trains the same
number of steps with the same learning rates, data order and times of trials. An
interrupted benchmark goes on where it was if --work_dir is given. Use
intel-tensorflow, which trains convolutions several times as fast.

tf.contrib.model_pruning masks blocks of matrices only: with (1, 16) it falls back to
single weights on each convolution kernel, so its figure there is one of single weights
for all but the last layer.
"""
import glob
import json
import os
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from tests.benchmarks import contrib_pruning, networks, record

FLAGS = flags.FLAGS
flags.DEFINE_string("checkpoint", None, "folder of the dense checkpoint")
flags.DEFINE_string("data_dir", None, "folder of the TFRecord files")
flags.DEFINE_string("work_dir", None, "folder for the runs; default: a temporary one")
flags.DEFINE_integer("epochs", 3, "epochs of each run", lower_bound=1)
flags.DEFINE_float("learning_rate", 0.05, "peak learning rate")
flags.DEFINE_list("seeds", ["1", "2", "3"], "seeds of the runs")
flags.DEFINE_list(
    "methods",
    ["dense", "ec_1x1", "contrib_1x1", "ec_1x16", "contrib_1x16"],
    "what runs",
)

BATCH = 128
TARGET = 0.6
TRIALS = 10
MEAN, STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)


def input_fn(split, batch, training):
    files = sorted(glob.glob(os.path.join(FLAGS.data_dir, split + "-*.tfrecord")))

    def parse(serialized):
        example = tf.io.parse_single_example(
            serialized,
            {
                "image/encoded": tf.io.FixedLenFeature([], tf.string),
                "image/class/label": tf.io.FixedLenFeature([], tf.int64),
            },
        )
        image = tf.io.decode_jpeg(example["image/encoded"], 3)
        label = tf.cast(example["image/class/label"], tf.int32)
        return tf.reshape(image, [32, 32, 3]), label

    def augment(image, label):
        image = tf.pad(image, [[4, 4], [4, 4], [0, 0]], constant_values=120)
        image = tf.image.random_crop(image, [32, 32, 3])
        return tf.image.random_flip_left_right(image), label

    def normalize(image, label):
        return {"x": (tf.cast(image, tf.float32) - MEAN) / STD}, label

    dataset = tf.data.TFRecordDataset(files).map(parse).cache()
    if training:
        # One call at a time, so that the seed decides every crop.
        dataset = dataset.shuffle(50000).repeat().map(augment)
    return dataset.map(normalize).batch(batch, drop_remainder=training).prefetch(4)


def run(method, seed, steps, folder):
    """Trains and evaluates one model; the figures of the run."""
    kind, block = (method.split("_") + ["1x1"])[:2]
    config = ec.SparsifierConfig(
        target_sparse_ratio=TARGET,
        sparse_block_shape=tuple(int(side) for side in block.split("x")),
        num_trials=TRIALS,
        # The last trial after 60 % of the steps.
        step_interval=int(0.6 * steps / TRIALS),
    )
    getter = contrib_pruning.mask_kernels if kind == "contrib" else None
    model_fn = networks.make_model_fn(networks.resnet20, getter)
    if kind == "ec":
        model_fn = ec.compress(model_fn, ec.Sparsifier(config))
    estimator = tf.estimator.Estimator(
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
            "weight_decay": 1e-4,
        },
        warm_start_from=ec.warm_start(FLAGS.checkpoint),
    )
    hooks = [contrib_pruning.MaskUpdateHook(config)] if kind == "contrib" else []
    estimator.train(lambda: input_fn("train", BATCH, True), hooks, max_steps=steps)
    found = estimator.evaluate(lambda: input_fn("test", 500, False))
    return {
        "method": method,
        "seed": seed,
        "accuracy": round(float(found["accuracy"]), 4),
        **_sparsity(estimator, kind, config.sparse_block_shape),
    }


def _sparsity(estimator, kind, block):
    """What is zero in the kernels that the trained model computes with."""
    kernels = []
    for name in estimator.get_variable_names():
        if name.endswith("/kernel"):
            kernel = estimator.get_variable_value(name)
            if kind == "contrib":
                # apply_mask names it so: <layer>//mask.
                kernel = kernel * estimator.get_variable_value(name[:-6] + "/mask")
            kernels.append(kernel)
    if len(kernels) != 22:
        raise ValueError(f"{len(kernels)} kernels in the checkpoint, expected 22")
    return {
        "sparsity": round(_zeros(kernels) / sum(k.size for k in kernels), 5),
        "least_sparse_kernel": round(min(_zeros([k]) / k.size for k in kernels), 4),
        "zeros_in_whole_blocks": round(
            sum(_in_whole_blocks(k, block) for k in kernels) / max(1, _zeros(kernels)),
            4,
        ),
    }


def _zeros(kernels):
    return sum(int(np.count_nonzero(kernel == 0)) for kernel in kernels)


def _in_whole_blocks(kernel, block):
    """Weights of a kernel that are in blocks of zeros; blocks of one row."""
    matrix = (kernel == 0).reshape(-1, kernel.shape[-1])
    starts = np.arange(0, matrix.shape[1], block[1])
    sizes = np.add.reduceat(np.ones(matrix.shape[1], int), starts)
    return int((np.logical_and.reduceat(matrix, starts, axis=1) * sizes).sum())


def start_accuracy():
    """Accuracy of the checkpoint that all runs start from."""
    estimator = tf.estimator.Estimator(networks.make_model_fn(networks.resnet20))
    found = estimator.evaluate(
        lambda: input_fn("test", 500, False),
        checkpoint_path=tf.train.latest_checkpoint(FLAGS.checkpoint),
    )
    return round(float(found["accuracy"]), 4)


def _report(runs, dense_at_start, steps):
    rows = []
    for method in FLAGS.methods:
        mine = [r for r in runs if r["method"] == method]
        values = [r["accuracy"] for r in mine]
        if values:
            rows.append(
                (
                    method,
                    f"{np.mean(values):.4f}",
                    " ".join(f"{value:.4f}" for value in values),
                    f"{np.mean([r['sparsity'] for r in mine]):.4f}",
                    f"{np.mean([r['zeros_in_whole_blocks'] for r in mine]):.3f}",
                )
            )
    print(f"start: {dense_at_start:.4f}, then {steps} steps")
    header = ("method", "mean accuracy", "by seed", "sparsity", "zeros in blocks")
    record.print_table(header, rows)
    if "contrib_1x16" in FLAGS.methods:
        print(
            "contrib_1x16: single weights on the convolutions, blocks on the last layer"
        )
    record.save(
        "cifar10_sparsity",
        "tests.benchmarks.cifar10_sparsity",
        {
            "accuracy_at_start": dense_at_start,
            "steps": steps,
            "batch": BATCH,
            "peak_learning_rate": FLAGS.learning_rate,
            "mean_accuracy": {row[0]: float(row[1]) for row in rows},
            "contrib_1x16": "falls back to single weights on convolution kernels",
            "runs": runs,
        },
        {"checkpoint": "CHECKPOINT", "data_dir": "DATA_DIR", "work_dir": "WORK_DIR"},
    )


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    steps = int(FLAGS.epochs * 50000 / BATCH)
    with tempfile.TemporaryDirectory() as temporary:
        work_dir = FLAGS.work_dir or temporary
        os.makedirs(work_dir, exist_ok=True)
        dense_at_start, runs = start_accuracy(), []
        for seed in FLAGS.seeds:
            for method in FLAGS.methods:
                folder = os.path.join(work_dir, f"{method}_seed{seed}")
                result = folder + ".json"
                if not os.path.exists(result):
                    figures = run(method, int(seed), steps, folder)
                    with open(result, "w") as file:
                        json.dump(figures, file)
                with open(result) as file:
                    runs.append(json.load(file))
                print(runs[-1], flush=True)
    _report(runs, dense_at_start, steps)


if __name__ == "__main__":
    flags.mark_flags_as_required(["checkpoint", "data_dir"])
    app.run(main)
