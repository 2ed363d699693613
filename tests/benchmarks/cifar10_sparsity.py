"""Accuracy of a 60 % sparse ResNet-20 on CIFAR-10, beside contrib's and a dense one.

    python -m tests.benchmarks.cifar10_sparsity \\
        --checkpoint=CHECKPOINT --data_dir=DATA_DIR

CHECKPOINT: folder of a dense ResNet-20 (examples/cifar10_model.py). DATA_DIR: what
examples/make_cifar10_tfrecords.py writes.

Every method starts from the same weights and moving averages, and trains the same
number of steps with the same learning rates, data order and times of trials. An
interrupted benchmark goes on where it was if --work_dir is given. Use
intel-tensorflow, which trains convolutions several times as fast.

tf.contrib.model_pruning masks blocks of matrices only: with (1, 16) it falls back to
single weights on each convolution kernel, so its figure there is one of single weights
for all but the last layer.
"""
import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from tests.benchmarks import cifar10, contrib_pruning, networks, record

FLAGS = flags.FLAGS
flags.DEFINE_integer("epochs", 3, "epochs of each run", lower_bound=1)
flags.DEFINE_list(
    "methods",
    ["dense", "ec_1x1", "contrib_1x1", "ec_1x16", "contrib_1x16"],
    "what runs",
)

TARGET = 0.6
TRIALS = 10


def run(method, seed, folder):
    """Trains and evaluates one model; the figures of the run."""
    steps = cifar10.steps_of(FLAGS.epochs)
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
    estimator = cifar10.make_estimator(
        model_fn, folder, seed, steps, warm_start_from=ec.warm_start(FLAGS.checkpoint)
    )
    hooks = [contrib_pruning.MaskUpdateHook(config)] if kind == "contrib" else []
    estimator.train(cifar10.train_input_fn, hooks, max_steps=steps)
    return {
        "method": method,
        "seed": seed,
        "accuracy": cifar10.test_accuracy(estimator),
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


def _report(runs, dense_at_start):
    rows, steps = [], cifar10.steps_of(FLAGS.epochs)
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
            "batch": cifar10.BATCH,
            "peak_learning_rate": FLAGS.learning_rate,
            "mean_accuracy": {row[0]: float(row[1]) for row in rows},
            "contrib_1x16": "falls back to single weights on convolution kernels",
            "runs": runs,
        },
        cifar10.PLACEHOLDERS,
    )


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    dense_at_start = cifar10.start_accuracy()
    _report(cifar10.collect(run, FLAGS.methods), dense_at_start)


if __name__ == "__main__":
    app.run(main)
