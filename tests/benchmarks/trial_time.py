"""Time and memory of one trial over many weights in 50 kernels.

    python -m tests.benchmarks.trial_time

Each case runs in fresh processes: the training graph of 50 dense kernels, a few steps,
then the trials of a Sparsifier with sort_range="global". Memory is the highest resident
size during the trials less that before the first one, when weights, slots and masks
are there, over the bytes of the weights. It is measured twice: as a user sees it
(`resident`: the C library keeps freed memory, of the steps before the trial as well as
of the trial), and with the C library told to give back every large piece at once
(`live`: what the trial really holds). The times are from the former process.
"""
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from ec_estimator.core.schedule import Schedule
from ec_estimator.training.attachment import attach_to_finished_graph
from tests.benchmarks import record

FLAGS = flags.FLAGS
flags.DEFINE_list("millions", ["10", "30", "100"], "weights in all kernels together")
flags.DEFINE_list("blocks", ["1x1", "1x16"], "block shapes")
flags.DEFINE_list("optimizers", ["momentum"], "momentum, sgd (has no slots) or both")
flags.DEFINE_integer("trials", 10, "trials of a case", lower_bound=2)
flags.DEFINE_integer("steps", 2, "training steps before them", lower_bound=1)
flags.DEFINE_string("case", None, "used by the script itself: runs this one case")

KERNELS = 50
# Rows x columns of a kernel, by million weights in all 50.
SHAPES = {10: (250, 800), 30: (750, 800), 100: (1250, 1600)}


def run_case(millions, block, optimizer):
    """The figures of one case, in this process."""
    shape = SHAPES[millions]
    config = ec.SparsifierConfig(
        target_sparse_ratio=0.6, sparse_block_shape=block, sort_range="global"
    )
    train_op = _build(shape, optimizer)
    attachment = attach_to_finished_graph(
        tf.get_default_graph(), [ec.Sparsifier(config)]
    )
    masks = attachment.attached[0]
    schedule = Schedule(0.6, 0, 1, FLAGS.trials, "cubic")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(FLAGS.steps):
            session.run(train_op)
        before = _resident()
        seconds = []
        with _Peak() as peak:
            for trial in range(1, FLAGS.trials + 1):
                started = time.perf_counter()
                report = masks.run_trial(session, trial, schedule.ratio(trial))
                seconds.append(time.perf_counter() - started)
        after = _resident()
    weights = KERNELS * shape[0] * shape[1]
    return {
        "weights": weights,
        "block": list(block),
        "optimizer": optimizer,
        "first_trial_s": round(seconds[0], 3),
        "median_s": round(float(np.median(seconds[1:])), 3),
        "max_s": round(max(seconds), 3),
        "resident": round((peak.bytes - before) / (4 * weights), 3),
        "resident_after": round((after - before) / (4 * weights), 3),
        "ratio_reached": report.ratio,
    }


def _build(shape, optimizer):
    tf.set_random_seed(1)
    inputs = tf.ones([1, shape[0]])
    # Kernels of different scales, as a network has them.
    outputs = [
        tf.matmul(
            inputs,
            tf.get_variable(
                f"layer_{i}/kernel",
                shape,
                initializer=tf.random_normal_initializer(stddev=0.02 + 0.001 * i),
            ),
        )
        for i in range(KERNELS)
    ]
    optimizers = {
        "momentum": tf.train.MomentumOptimizer(1e-6, 0.9),
        "adagrad": tf.train.AdagradOptimizer(1e-6),
        "sgd": tf.train.GradientDescentOptimizer(1e-6),
    }
    loss = tf.reduce_sum(tf.square(tf.add_n(outputs)))
    return optimizers[optimizer].minimize(loss, tf.train.get_or_create_global_step())


def _resident():
    """Bytes of memory this process has in RAM."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


class _Peak:
    """The highest resident size inside, looked at every millisecond."""

    def __enter__(self):
        self.bytes = _resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._stop.wait(0.001):
            self.bytes = max(self.bytes, _resident())

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def _measure(millions, block, optimizer):
    """The figures of a case, from two fresh processes."""
    case = json.dumps([millions, block, optimizer])
    figures = _run_in_fresh_process(case, {})
    # From this size on, each piece of memory is mapped and given back for itself.
    live = _run_in_fresh_process(case, {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)})
    figures["live"], figures["live_after"] = live["resident"], live["resident_after"]
    return figures


def _run_in_fresh_process(case, environment):
    module = ["-W", "ignore", "-m", "tests.benchmarks.trial_time"]
    options = [f"--trials={FLAGS.trials}", f"--steps={FLAGS.steps}", f"--case={case}"]
    done = subprocess.run(
        [sys.executable, *module, *options],
        check=True,
        stdout=subprocess.PIPE,
        universal_newlines=True,
        env={**os.environ, **environment},
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    if FLAGS.case:
        millions, block, optimizer = json.loads(FLAGS.case)
        print(json.dumps(run_case(millions, tuple(block), optimizer)))
        return
    cases = [
        _measure(int(millions), [int(n) for n in b.split("x")], optimizer)
        for optimizer in FLAGS.optimizers
        for b in FLAGS.blocks
        for millions in FLAGS.millions
    ]
    print(f"TensorFlow {tf.version.VERSION} ({record.flavour()}), {KERNELS} kernels")
    record.print_table(list(cases[0]), [list(case.values()) for case in cases])
    record.save(
        f"trial_time_{record.flavour()}",
        "tests.benchmarks.trial_time",
        {"kernels": KERNELS, "sort_range": "global", "cases": cases},
    )


if __name__ == "__main__":
    app.run(main)
