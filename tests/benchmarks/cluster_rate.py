"""Steps per second of a cluster on this machine, compressed over plain.

    python -m tests.benchmarks.cluster_rate

Chief, two workers and two parameter servers, a process with one thread of ops each, on
the digits model. contrib_quantize is tf.contrib.quantize, to compare with. Methods take
turns, round after round. What counts is how far the global step moves after all trials,
by the chief's clock. A row is written as soon as it is known; rounds that the results
have already are not run again.
"""
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from examples import digits_model
from examples.cluster import tf_configs
from tests.benchmarks import other_quantization, record

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "methods",
    ["plain", "sparsifier", "pruner", "quantizer", "contrib_quantize"],
    "what to compare",
)
flags.DEFINE_integer("rounds", 3, "of each method", lower_bound=1)
flags.DEFINE_integer("steps", 900, "global steps of a run", lower_bound=200)
flags.DEFINE_string("task", None, "used by the script itself: [folder, method]")

RESULTS = "cluster_rate"
# The global step from which on is counted; the last trial is before it.
START = 150
_SCHEDULE = {"step_interval": 25, "num_trials": 4}
COMPRESSORS = {
    "sparsifier": lambda: ec.Sparsifier(
        ec.SparsifierConfig(sparse_block_shape=(1, 4), **_SCHEDULE)
    ),
    "pruner": lambda: ec.Pruner(ec.PrunerConfig(0.5, **_SCHEDULE)),
    "quantizer": lambda: ec.LSQQuantizer(ec.QuantizerConfig(**_SCHEDULE)),
}


class _Rate(tf.train.SessionRunHook):
    """Prints how many global steps a second there were from START on."""

    def begin(self):
        self._step, self._first, self._last = tf.train.get_global_step(), None, None

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._step)

    def after_run(self, run_context, run_values):
        self._last = time.perf_counter(), int(run_values.results)
        if self._first is None and self._last[1] >= START:
            self._first = self._last

    def end(self, session):
        seconds, steps = np.subtract(self._last, self._first)
        print(json.dumps(steps / seconds), flush=True)


def run_task(folder, method):
    """Trains as the task that TF_CONFIG names."""
    model_fn = digits_model.model_fn
    if method == "contrib_quantize":
        network = other_quantization.with_contrib(digits_model.network, bits=8)
        # A quantizer of TensorFlow's is called between the network and its gradients.
        digits_model.network = network
    if method in COMPRESSORS:
        model_fn = ec.compress(model_fn, COMPRESSORS[method]())
    config = tf.estimator.RunConfig(
        folder,
        save_checkpoints_secs=3600,
        save_summary_steps=None,
        log_step_count_steps=None,
        experimental_max_worker_delay_secs=1,
        session_config=tf.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=2
        ),
    )
    hooks = [_Rate()] if config.task_type == "chief" else []
    tf.estimator.train_and_evaluate(
        tf.estimator.Estimator(model_fn, config=config),
        tf.estimator.TrainSpec(digits_model.train_input_fn, FLAGS.steps, hooks),
        tf.estimator.EvalSpec(digits_model.eval_input_fn),
    )


def measure(method):
    """Global steps a second of a cluster."""
    with tempfile.TemporaryDirectory() as folder:
        module = ["-W", "ignore", "-m", "tests.benchmarks.cluster_rate"]
        given = json.dumps([folder, method])
        options = [f"--steps={FLAGS.steps}", f"--task={given}"]
        processes = {
            task: subprocess.Popen(
                [sys.executable, *module, *options],
                env={**os.environ, "TF_CONFIG": config, "TF_CPP_MIN_LOG_LEVEL": "2"},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                universal_newlines=True,
            )
            for task, config in tf_configs(2, 2).items()
            if not task.startswith("evaluator")
        }
        try:
            output, _ = processes["chief-0"].communicate(timeout=180)
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
    return json.loads(output.splitlines()[-1])


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    if FLAGS.task:
        run_task(*json.loads(FLAGS.task))
        return
    rows = record.rows(RESULTS)
    known = {(row["round"], row["method"]) for row in rows}
    for number in range(FLAGS.rounds):
        for method in FLAGS.methods:
            if (number, method) not in known:
                rate = round(measure(method), 2)
                rows.append({"round": number, "method": method, "steps_per_s": rate})
                record.save(RESULTS, "tests.benchmarks.cluster_rate", {"rows": rows})
    medians = {
        m: np.median([row["steps_per_s"] for row in rows if row["method"] == m])
        for m in FLAGS.methods
    }
    record.print_table(
        ["method", "steps/s", "over plain"],
        [[m, rate, round(rate / medians["plain"], 3)] for m, rate in medians.items()],
    )


if __name__ == "__main__":
    app.run(main)
