"""Accuracy of a ResNet-20 on CIFAR-10 that is pruned to half its multiply-accumulates.

    python -m tests.benchmarks.cifar10_pruning \\
        --checkpoint=CHECKPOINT --data_dir=DATA_DIR --work_dir=WORK_DIR

CHECKPOINT: folder of a dense ResNet-20. DATA_DIR: the TFRecords. Every method starts
from the same weights, prunes in the first two epochs and then trains the small network
for three more, with a fresh optimizer; learning rates are the same everywhere.

ec: the package as it is, Taylor importance, global, ten trials. magnitude: importance
is the sum of the squared weights that a removal would set to zero. local: each stage
loses the same fraction. one_trial: one cut in the middle of the two epochs, so that
there is as much training before it as after it until the finetuning; at the tenth
trial's step the whole network would train for two epochs and the cut one for none.
torch_pruning: what tests/benchmarks/torch_pruning_cifar10.py found, run before with the
same WORK_DIR in an environment of its own.

An interrupted benchmark goes on where it was if --work_dir is given. Use
intel-tensorflow, which trains convolutions several times as fast.
"""
import json
import os

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from tests.benchmarks import cifar10, networks, record
from tests.benchmarks.magnitude_pruning import MagnitudePruner

FLAGS = flags.FLAGS
flags.DEFINE_float("prune_epochs", 2, "epochs of the pruning run", lower_bound=0)
flags.DEFINE_float("finetune_epochs", 3, "epochs of the finetuning", lower_bound=0)
flags.DEFINE_list(
    "methods",
    ["ec", "magnitude", "local", "one_trial", "torch_pruning"],
    "what runs",
)

RATIO = 0.5
TRIALS = 10


def make_pruner(method, steps):
    """The Pruner of a method, for a pruning run of so many steps."""
    trials, interval = TRIALS, steps // TRIALS
    if method == "one_trial":
        trials, interval = 1, steps // 2
    config = ec.PrunerConfig(
        compression_ratio=RATIO,
        ratio_metric="macs",
        num_trials=trials,
        step_interval=interval,
        prune_sort_range="local" if method == "local" else "global",
    )
    return (MagnitudePruner if method == "magnitude" else ec.Pruner)(config)


def run(method, seed, folder):
    """Prunes, finetunes and evaluates one model; the figures of the run."""
    if method == "torch_pruning":
        raise FileNotFoundError(
            f"{folder}.json is not there; run torch_pruning_cifar10.py first"
        )
    pruned_dir, small_dir = (os.path.join(folder, n) for n in ("pruned", "small"))
    model_fn = networks.make_model_fn(networks.resnet20)
    steps = cifar10.steps_of(FLAGS.prune_epochs)
    pruned = cifar10.make_estimator(
        ec.compress(model_fn, make_pruner(method, steps)),
        pruned_dir,
        seed,
        steps,
        warm_start_from=ec.warm_start(FLAGS.checkpoint),
    )
    pruned.train(cifar10.train_input_fn, max_steps=steps)
    after_pruning = cifar10.test_accuracy(pruned)

    steps = cifar10.steps_of(FLAGS.finetune_epochs)
    small = cifar10.make_estimator(
        ec.finetune(model_fn, pruned_dir), small_dir, seed, steps
    )
    small.train(cifar10.train_input_fn, max_steps=steps)
    return {
        "method": method,
        "seed": seed,
        "accuracy_after_pruning": after_pruning,
        "accuracy_after_finetuning": cifar10.test_accuracy(small),
        **_sizes(pruned_dir),
    }


def _sizes(pruned_dir):
    """MACs and parameters before and after, and the width of each kernel left."""
    path = os.path.join(pruned_dir, "compression", "pruned", "manifest.json")
    with open(path) as file:
        manifest = json.load(file)
    widths = {}
    for name, variable in manifest["variables"].items():
        if name.endswith("/kernel"):
            kept = variable["kept"][-1]
            widths[name] = len(kept) if kept is not None else variable["shape"][-1]
    return {"macs": manifest["macs"], "params": manifest["params"], "widths": widths}


def _report(runs, at_start):
    rows = []
    for method in FLAGS.methods:
        mine = [r for r in runs if r["method"] == method]
        tuned = [r["accuracy_after_finetuning"] for r in mine]
        rows.append(
            (
                method,
                f"{np.mean([r['accuracy_after_pruning'] for r in mine]):.4f}",
                f"{np.mean(tuned):.4f}",
                " ".join(f"{value:.4f}" for value in tuned),
                *(
                    f"{np.mean([r[key][1] / r[key][0] for r in mine]):.3f}"
                    for key in ("macs", "params")
                ),
            )
        )
    print(f"start: {at_start:.4f}")
    header = ("method", "pruned", "finetuned", "by seed", "MACs", "params")
    record.print_table(header, rows)
    record.save(
        "cifar10_pruning",
        "tests.benchmarks.cifar10_pruning",
        {
            "accuracy_at_start": at_start,
            "ratio_of_macs_to_remove": RATIO,
            "epochs": [FLAGS.prune_epochs, FLAGS.finetune_epochs],
            "batch": cifar10.BATCH,
            "peak_learning_rate": FLAGS.learning_rate,
            "mean_accuracy": {row[0]: float(row[2]) for row in rows},
            "runs": runs,
        },
        cifar10.PLACEHOLDERS,
    )


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    at_start = cifar10.start_accuracy()
    _report(cifar10.collect(run, FLAGS.methods), at_start)


if __name__ == "__main__":
    app.run(main)
