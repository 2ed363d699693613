"""Latency of pruned networks beside the whole ones, at half the multiply-accumulates.

    python -m tests.benchmarks.pruned_latency

Each network is pruned in a few training steps on noise, from initial values, with
channel_align 1, 8 and 16: latency depends on the widths that are left, not on what the
network has learned. Then whole and small network predict the same batch in turns, as
`python -m ec_estimator report --model` measures it: in a session with TensorFlow's own
threads, fed from memory.

Runs with stock TensorFlow and with intel-tensorflow, whichever is installed.
"""
import json
import os
import tempfile

import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from ec_estimator.report.latency import measure_latency
from tests.benchmarks import networks, record

FLAGS = flags.FLAGS
flags.DEFINE_integer("runs", 200, "timed batches of each network", lower_bound=5)
flags.DEFINE_list("networks", ["resnet20", "vgg11", "mobile_net"], "which networks")
flags.DEFINE_list("aligns", ["1", "8", "16"], "values of channel_align")
flags.DEFINE_list("batch_sizes", ["1", "32"], "images in a batch")

RATIO = 0.5
SIDES = {"resnet20": 32, "vgg11": 32, "mobile_net": 64}
TRIALS, INTERVAL = 2, 3


def prune(model_fn, input_fn, align, folder):
    """(the artifact that pruning leaves in the folder, fraction of MACs in it)."""
    config = ec.PrunerConfig(
        compression_ratio=RATIO,
        ratio_metric="macs",
        step_interval=INTERVAL,
        num_trials=TRIALS,
        channel_align=align,
    )
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, ec.Pruner(config)),
        folder,
        tf.estimator.RunConfig(tf_random_seed=1),
        params={"steps": 1000, "learning_rate": 1e-3, "weight_decay": 1e-4},
    )
    estimator.train(input_fn, max_steps=TRIALS * INTERVAL)
    artifact = os.path.join(folder, "compression", "pruned")
    with open(os.path.join(artifact, "manifest.json")) as file:
        whole, small = json.load(file)["macs"]
    return artifact, small / whole


def measure(network, align):
    """The figures of one network with one alignment, one dict a batch size."""
    model_fn = networks.make_model_fn(getattr(networks, network))
    input_fn = networks.noise((SIDES[network],) * 2 + (3,), 16)
    with tempfile.TemporaryDirectory() as folder:
        artifact, macs = prune(model_fn, input_fn, align, folder)
        found = measure_latency(
            model_fn,
            artifact,
            input_fn,
            [int(size) for size in FLAGS.batch_sizes],
            FLAGS.runs,
            {},
            "",
        )
    return [
        {
            "network": network,
            "channel_align": align,
            "batch": latency.batch_size,
            "whole_ms": round(latency.before, 3),
            "small_ms": round(latency.after, 3),
            "latency": round(latency.after / latency.before, 3),
            "macs": round(macs, 4),
        }
        for latency in found.latencies
    ]


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    figures = [
        case
        for network in FLAGS.networks
        for align in FLAGS.aligns
        for case in measure(network, int(align))
    ]
    print(f"TensorFlow {tf.version.VERSION} ({record.flavour()})")
    record.print_table(list(figures[0]), [list(case.values()) for case in figures])
    record.save(
        f"pruned_latency_{record.flavour()}",
        "tests.benchmarks.pruned_latency",
        {"runs": FLAGS.runs, "cases": figures},
    )


if __name__ == "__main__":
    app.run(main)
