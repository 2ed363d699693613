"""Accuracy of a quantized ResNet-20 on CIFAR-10.

    python -m tests.benchmarks.cifar10_quantization \\
        --checkpoint=CHECKPOINT --data_dir=DATA_DIR --work_dir=WORK_DIR

CHECKPOINT: folder of a dense ResNet-20. DATA_DIR: the TFRecords. Every method starts
from the same weights and trains for two epochs at the same learning rates.

fp32: trained as long without quantization. w4a4, w3a3 and w2a2 keep the first and the
last layer at 8 bits. contrib8 and contrib4: tf.contrib.quantize at these widths, all
layers. w4a4_one_trial: step sizes are fitted at the start only. w8a8_RULE, w4a4_RULE
and w2a2_RULE, which run only if they are asked for: the same with another rule that
moves step sizes, one of step_rules.py (fixed, lsq, log_sgd, bounded).

An interrupted benchmark goes on where it was if --work_dir is given. Use
intel-tensorflow, which trains convolutions several times as fast.
"""
import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from tests.benchmarks import (
    cifar10,
    networks,
    other_quantization,
    record,
    step_rules,
)

FLAGS = flags.FLAGS
flags.DEFINE_float("epochs", 2, "epochs of each run", lower_bound=0)
TRIALS = 10
CONFIGS = {
    "w8a8": {},
    "w4a4": {"bits": 4, "wbits": 4, "first_last_bits": 8},
    "w3a3": {"bits": 3, "wbits": 3, "first_last_bits": 8},
    "w2a2": {"bits": 2, "wbits": 2, "first_last_bits": 8},
    "w8a8_winograd": {"int8_winograd": True},
    "w4a4_one_trial": {"bits": 4, "wbits": 4, "first_last_bits": 8, "num_trials": 1},
}
# {method: (that of CONFIGS, the rule)}.
RULES = {
    f"{config}_{rule}": (config, rule)
    for config in ("w8a8", "w4a4", "w2a2")
    for rule in step_rules.RULES[1:]
}
CONTRIB = {"contrib8": 8, "contrib4": 4}
flags.DEFINE_list("methods", ["fp32", *CONFIGS, *CONTRIB], "what runs")


def make_model_fn(method, steps):
    """The model_fn of a method, but for its rule, for a run of so many steps."""
    if method in CONTRIB:
        return networks.make_model_fn(
            other_quantization.with_contrib(networks.resnet20, CONTRIB[method])
        )
    model_fn = networks.make_model_fn(networks.resnet20)
    if method == "fp32":
        return model_fn
    settings = {
        "signed": "auto",
        "num_trials": TRIALS,
        "step_interval": max(1, steps // TRIALS),
        **CONFIGS[method],
    }
    return ec.compress(model_fn, ec.LSQQuantizer(ec.QuantizerConfig(**settings)))


def run(method, seed, folder):
    """Trains and evaluates one model; the figures of the run."""
    steps = cifar10.steps_of(FLAGS.epochs)
    config, rule = RULES.get(method, (method, step_rules.RULES[0]))
    estimator = cifar10.make_estimator(
        make_model_fn(config, steps),
        folder,
        seed,
        steps,
        warm_start_from=ec.warm_start(FLAGS.checkpoint),
    )

    def rate():
        return networks.learning_rate(tf.train.get_global_step(), estimator.params)

    with step_rules.trained_by(rule, rate, cifar10.BATCH):
        estimator.train(cifar10.train_input_fn, max_steps=steps)
    accuracy = cifar10.test_accuracy(estimator)
    return {"method": method, "seed": seed, "accuracy": accuracy}


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    at_start = cifar10.start_accuracy()
    runs = cifar10.collect(run, FLAGS.methods)
    means = {
        method: round(
            float(np.mean([r["accuracy"] for r in runs if r["method"] == method])), 4
        )
        for method in FLAGS.methods
    }
    print(f"start: {at_start:.4f}")
    record.print_table(("method", "accuracy"), means.items())
    record.save(
        "cifar10_quantization",
        "tests.benchmarks.cifar10_quantization",
        {
            "accuracy_at_start": at_start,
            "epochs": FLAGS.epochs,
            "batch": cifar10.BATCH,
            "peak_learning_rate": FLAGS.learning_rate,
            "mean_accuracy": means,
            "runs": runs,
        },
        cifar10.PLACEHOLDERS,
    )


if __name__ == "__main__":
    app.run(main)
