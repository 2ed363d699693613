"""Time of a trial, and memory of the chief, against the number of weights.

    python -m tests.benchmarks.large_models

The training graph is a chain of 50 dense kernels with SGD. Its variables are in one
process, a parameter server; the chief, another one, takes a step and runs trials. Both
are on this machine, so what is sent goes through the loopback device. Memory is the
chief's highest resident size in the trials less that before them. A row is written as
soon as it is known; what is in the results already is not measured again.
"""
import json
import os
import resource
import subprocess
import sys
import time

import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from ec_estimator.training.attachment import attach_to_finished_graph
from examples.cluster import free_ports
from tests.benchmarks import record

FLAGS = flags.FLAGS
flags.DEFINE_list("millions", ["10", "100", "1000"], "weights in all kernels together")
flags.DEFINE_list(
    "cases", ["sparsifier 1x1", "sparsifier 1x4", "pruner", "quantizer"], "what to run"
)
flags.DEFINE_integer("trials", 2, "trials of a case", lower_bound=2)
flags.DEFINE_string("chief", None, "used by the script itself: runs this one case")
flags.DEFINE_string("ps", None, "used by the script itself: a parameter server")

RESULTS = "large_models"
KERNELS = 50
# Rows and columns of the first kernel, the other way round in the second, and so on.
SHAPES = {10: (400, 500), 100: (1000, 2000), 1000: (4000, 5000)}
PS = "/job:ps/task:0"


def compressor(case):
    kind, _, block = case.partition(" ")
    schedule = {"step_interval": 1, "num_trials": FLAGS.trials}
    if kind == "sparsifier":
        shape = tuple(map(int, block.split("x")))
        return ec.Sparsifier(
            ec.SparsifierConfig(
                sparse_block_shape=shape, sort_range="global", **schedule
            )
        )
    if kind == "pruner":
        return ec.Pruner(ec.PrunerConfig(0.5, **schedule))
    return ec.LSQQuantizer(ec.QuantizerConfig(**schedule))


def build(shape, compressor):
    """(train_op, Attached) of the chain, its variables on the parameter server."""

    def initial(shape):
        with tf.device(PS):
            return tf.random_uniform(shape, -0.02, 0.02)

    with tf.device(tf.train.replica_device_setter(1, worker_device="/job:chief")):
        step = tf.train.get_or_create_global_step()
        x = tf.ones([1, shape[0]])
        for index in range(KERNELS):
            rows, columns = shape if index % 2 == 0 else shape[::-1]
            kernel = tf.Variable(
                lambda rows=rows, columns=columns: initial([rows, columns]),
                name=f"layer_{index}/kernel",
                expected_shape=[rows, columns],
            )
            x = tf.nn.relu(tf.matmul(x, kernel))
        loss = tf.reduce_sum(tf.square(tf.layers.dense(x, 1, name="end")))
        if isinstance(compressor, ec.LSQQuantizer):
            ec.quantize_graph(mode="train", model_dir=None, config=compressor.config)
        train_op = tf.train.GradientDescentOptimizer(1e-6).minimize(loss, step)
        attachment = attach_to_finished_graph(tf.get_default_graph(), [compressor])
    return tf.group(train_op, *attachment.train_ops, *attachment.chief_ops), attachment


def run_case(cluster, millions, case):
    """The figures of one case, in this process, which is the chief."""
    compressed = compressor(case)
    train_op, attachment = build(SHAPES[millions], compressed)
    (attached,) = attachment.attached
    server = tf.train.Server(cluster, "chief", 0)
    seconds = []
    with tf.Session(server.target) as session:
        session.run(tf.global_variables_initializer())
        attached.start(session)
        session.run(train_op)
        before = _peak()
        for trial in range(1, FLAGS.trials + 1):
            started = time.perf_counter()
            ratio = compressed.schedule.ratio(trial)
            attached.run_trial(session, trial, ratio)
            seconds.append(time.perf_counter() - started)
    return {
        "case": case,
        "millions": millions,
        "first_trial_s": round(seconds[0], 2),
        "trial_s": round(min(seconds[1:]), 2),
        "chief_bytes_on_top": _peak() - before,
    }


def _peak():
    """The most bytes that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(millions, case):
    """The figures of a case, from fresh processes."""
    ports = free_ports(2)
    cluster = {job: [f"localhost:{p}"] for job, p in zip(("chief", "ps"), ports)}
    given = json.dumps([cluster, millions, case])
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.large_models"]
    command.append(f"--trials={FLAGS.trials}")
    with subprocess.Popen([*command, f"--ps={given}"]) as ps:
        try:
            done = subprocess.run(
                [*command, f"--chief={given}"],
                check=True,
                stdout=subprocess.PIPE,
                universal_newlines=True,
            )
        finally:
            ps.kill()
    return json.loads(done.stdout.splitlines()[-1])


def main(_):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    tf.logging.set_verbosity(tf.logging.ERROR)
    if FLAGS.ps:
        tf.train.Server(json.loads(FLAGS.ps)[0], "ps", 0).join()
    if FLAGS.chief:
        print(json.dumps(run_case(*json.loads(FLAGS.chief))))
        return
    rows = record.rows(RESULTS)
    known = {(row["millions"], row["case"]) for row in rows}
    for millions in map(int, FLAGS.millions):
        for case in FLAGS.cases:
            if (millions, case) not in known:
                rows.append(measure(millions, case))
                record.save(
                    RESULTS,
                    "tests.benchmarks.large_models",
                    {"kernels": KERNELS, "rows": rows},
                )
    record.print_table(list(rows[0]), [list(row.values()) for row in rows])


if __name__ == "__main__":
    app.run(main)
