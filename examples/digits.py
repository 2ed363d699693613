"""Trains a small CNN dense, then block-sparse, exports both and compares them.

    python -m examples.digits [--output_dir=demo_output]

The model is examples/digits_model.py, which knows nothing about ec_estimator. Two
trainings on scikit-learn's digits take about a minute on two cores. The sparse one
starts from the dense weights and sets 80 % of each kernel to zero, in blocks of four
neighbouring output channels. TensorBoard reads the folders dense/ and sparse/.
"""
import gzip
import logging
import os
import shutil
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags
from tqdm import tqdm

import ec_estimator as ec
from examples import digits_model

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "output_dir",
    "demo_output",
    "folder for the runs, dense/ and sparse/; those of an earlier demo are replaced",
)
flags.DEFINE_integer(
    "steps", 1500, "training steps of each of the two trainings", lower_bound=10
)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MARKER = "made_by_examples_digits.txt"
RUNS = ("dense", "sparse")


def train_dense(model_dir, steps):
    """Trains and exports the model as its author would.

    Returns:
      (evaluation, folder of the SavedModel).
    """
    estimator = tf.estimator.Estimator(
        digits_model.model_fn,
        model_dir,
        tf.estimator.RunConfig(tf_random_seed=1, log_step_count_steps=-(-steps // 10)),
    )
    estimator.train(digits_model.train_input_fn, max_steps=steps)
    evaluation = estimator.evaluate(digits_model.eval_input_fn)
    export = estimator.export_saved_model(
        os.path.join(model_dir, "export"), digits_model.serving_input_receiver_fn
    )
    return evaluation, export.decode()


def train_sparse(model_dir, dense_dir, steps):
    """Goes on from the dense weights, more of them zero at each of seven trials.

    The trials take 70 % of the steps, the rest is for the model to recover.

    Returns:
      (evaluation, folder of the SavedModel).
    """
    sparsifier = ec.Sparsifier(
        ec.SparsifierConfig(
            target_sparse_ratio=0.8,
            sparse_block_shape=(1, 4),
            step_interval=steps // 10,
            num_trials=7,
        )
    )
    estimator = tf.estimator.Estimator(
        ec.compress(digits_model.model_fn, sparsifier),
        model_dir,
        tf.estimator.RunConfig(
            tf_random_seed=1,
            save_checkpoints_steps=-(-steps // 3),
            log_step_count_steps=-(-steps // 3),
        ),
        warm_start_from=ec.warm_start(dense_dir),
    )
    exporter = ec.SavedModelExporter(digits_model.serving_input_receiver_fn)
    evaluation, exports = ec.train_and_evaluate(
        estimator,
        tf.estimator.TrainSpec(digits_model.train_input_fn, max_steps=steps),
        tf.estimator.EvalSpec(
            digits_model.eval_input_fn,
            steps=None,
            exporters=[exporter],
            start_delay_secs=0,
            throttle_secs=0,
        ),
    )
    return evaluation, exports[0].decode()


def serve(saved_model):
    """Accuracy of a SavedModel in a new process that has TensorFlow only."""
    command = [sys.executable, "-m", "examples.digits_serve"]
    command.append(f"--saved_model={os.path.abspath(saved_model)}")
    return float(subprocess.check_output(command, cwd=ROOT))


def comparison(dense, sparse, accuracies):
    """The table before / after.

    Args:
      dense, sparse: folders of the two SavedModels.
      accuracies: (dense, sparse).

    Returns:
      Text of several lines.
    """
    kernels = [read_kernels(dense), read_kernels(sparse)]
    files = [weights_file(dense), weights_file(sparse)]
    rows = [
        ("", "dense", "sparse"),
        ("test accuracy", *(f"{value:.3f}" for value in accuracies)),
        ("weights in kernels", *(f"{count(k, np.size):,}" for k in kernels)),
        ("  of these not zero", *(f"{count(k, np.count_nonzero):,}" for k in kernels)),
        ("weights file, bytes", *(f"{len(content):,}" for content in files)),
        ("  compressed by gzip", *(f"{len(gzip.compress(c)):,}" for c in files)),
        ("latency", "", "unchanged"),
        ("", "", ""),
        ("zeros in", "dense", "sparse"),
        *(
            (
                f"  {name} {list(kernels[0][name].shape)}",
                *(zeros(k[name]) for k in kernels),
            )
            for name in sorted(kernels[0])
        ),
    ]
    return "\n".join(f"{a:<35}{b:>12}{c:>12}".rstrip() for a, b, c in rows)


def read_kernels(saved_model):
    """{name: array} of the kernels of a SavedModel."""
    reader = tf.train.load_checkpoint(
        os.path.join(saved_model, "variables", "variables")
    )
    names = reader.get_variable_to_shape_map()
    return {n: reader.get_tensor(n) for n in names if n.endswith("/kernel")}


def count(kernels, of_one):
    return sum(int(of_one(kernel)) for kernel in kernels.values())


def zeros(kernel):
    return f"{np.mean(kernel == 0):.3f}"


def weights_file(saved_model):
    """Content of the file that holds a SavedModel's weights."""
    path = os.path.join(saved_model, "variables", "variables.data-00000-of-00001")
    with open(path, "rb") as file:
        return file.read()


def prepare(output_dir):
    """Makes the folder; deletes the runs that an earlier demo left there.

    Nothing else is deleted, and no folder `dense` or `sparse` that is not ours.
    """
    marker = os.path.join(output_dir, MARKER)
    if os.path.exists(output_dir) and not os.path.isdir(output_dir):
        sys.exit(f"--output_dir: {output_dir!r} is a file; name a folder")
    for run in RUNS:
        path = os.path.join(output_dir, run)
        if os.path.lexists(path):
            if not os.path.exists(marker):
                sys.exit(
                    f"--output_dir: {path!r} is not of this demo; name another folder"
                )
            shutil.rmtree(path)
    os.makedirs(output_dir, exist_ok=True)
    with open(marker, "w") as file:
        file.write("The demo deletes dense/ and sparse/ in this folder when it runs.\n")
    return [os.path.join(output_dir, run) for run in RUNS]


class Lines(logging.Handler):
    """Shows the plan, trials, loss and evaluations of TensorFlow's log, and what went
    wrong.

    Left out are the deprecation warnings for tf.layers and the like.
    """

    SHOWN = (
        *("Compression plan", "sparsity:", "pruning:", "quantization:"),
        *("loss = ", "Saving dict for global step"),
    )

    def emit(self, record):
        deprecation = record.pathname.endswith("deprecation.py")
        warning = record.levelno >= logging.WARNING and not deprecation
        if warning or record.getMessage().startswith(self.SHOWN):
            tqdm.write(self.format(record))  # Does not tear a progress bar.
            sys.stdout.flush()


def main(_):
    logger = tf.get_logger()
    logger.handlers, logger.propagate = [Lines()], False
    logger.setLevel(logging.INFO)
    dense_dir, sparse_dir = prepare(FLAGS.output_dir)

    print(f"1. Dense training, {FLAGS.steps} steps", flush=True)
    dense, dense_export = train_dense(dense_dir, FLAGS.steps)
    print(f"\n2. Sparse training, {FLAGS.steps} steps more, from the dense weights")
    _, sparse_export = train_sparse(sparse_dir, dense_dir, FLAGS.steps)
    print("\n3. The export in a new process, with TensorFlow alone")
    served = serve(sparse_export)
    print(f"accuracy {served:.3f}: {sparse_export}\n")
    print(comparison(dense_export, sparse_export, (dense["accuracy"], served)))
    print(
        "\nZeros are stored and multiplied like other numbers: the latency changes only"
        "\nin an engine with kernels for sparse weights."
    )


if __name__ == "__main__":
    app.run(main)
