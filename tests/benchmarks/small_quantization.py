"""Accuracy of quantized training on small models, beside float with the same steps.

    python -m tests.benchmarks.small_quantization --census=FOLDER --sst2=FOLDER

Three tasks: scikit-learn's digits; Census income, FOLDER holds train.csv and eval.csv;
SST-2, FOLDER holds train.tsv and dev.tsv. Float for half of the steps, then float and
quantized from there, with optimizers that users have (small_optimizers.py) and rules
that move step sizes (step_rules.py; log_adam is the package's). A row is written as
soon as it is known; rows that are there are not run again. It takes one core: others
with other --tasks, --optimizers or --seeds can run at the same time.
"""
import functools
import os
import tempfile
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from tests.benchmarks import record
from tests.benchmarks.small_optimizers import OPTIMIZERS
from tests.benchmarks.small_tasks import TASKS
from tests.benchmarks.step_rules import RULES, trained_by

FLAGS = flags.FLAGS
flags.DEFINE_list("tasks", list(TASKS), "tasks")
flags.DEFINE_string("census", None, "folder of the Census data; None: no such task")
flags.DEFINE_string("sst2", None, "folder of the SST-2 data; None: no such task")
flags.DEFINE_integer("steps", None, "training steps of each half; None: the task's")
flags.DEFINE_list("seeds", ["1", "2"], "seeds")
flags.DEFINE_list("optimizers", list(OPTIMIZERS), "optimizers")
flags.DEFINE_list("bits", ["float", "8", "4", "2"], "widths of weights and activations")
flags.DEFINE_list("rules", list(RULES), "rules that move step sizes")
flags.DEFINE_string("results", "small_quantization", "results' file name")
PLACEHOLDERS = {"census": "FOLDER", "sst2": "FOLDER"}
# What tells a row from the others.
KEY = ("task", "optimizer", "bits", "rule", "seed", "steps")
# Training steps whose mean loss is written.
LAST = 50


class Losses(tf.train.SessionRunHook):
    """values: the loss of each training step."""

    def __init__(self, loss):
        self._loss = loss
        self.values = []

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._loss)

    def after_run(self, run_context, run_values):
        self.values.append(run_values.results)


class Setting:
    """A task with an optimizer and a seed.

    losses: the Losses of what was trained last.
    """

    def __init__(self, task, optimizer, seed):
        self.names = {"task": task, "optimizer": optimizer, "seed": seed}
        self._task = TASKS[task]
        self._optimizer = OPTIMIZERS[optimizer]
        self._peak = self._task.rates[optimizer]
        self.steps = FLAGS.steps or self._task.steps
        folder = FLAGS[task].value if task in FLAGS else None
        self._train, self._test = self._task.load(folder)
        self.losses = None

    def model_fn(self, features, labels, mode):
        training = mode == tf.estimator.ModeKeys.TRAIN
        logits = self._task.network(features, training)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, {"logits": logits})
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        if not training:
            classes = tf.argmax(logits, axis=1, output_type=tf.int32)
            metrics = {"accuracy": tf.metrics.accuracy(labels, classes)}
            return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
        step = tf.train.get_global_step()
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        train_op = tf.group(self._optimizer.minimize(loss, step, self._rate()), updates)
        self.losses = Losses(loss)
        return tf.estimator.EstimatorSpec(
            mode, loss=loss, train_op=train_op, training_hooks=[self.losses]
        )

    def _rate(self):
        step = tf.train.get_global_step()
        return self._optimizer.rate(self._peak, step, self.steps)

    def trained(self, bits, rule, folder, start=None):
        """An Estimator that has trained.

        Args:
          bits: "float", or the width.
          rule: one of RULES.
          start: folder of the model that it starts from, or None.
        """
        model_fn = self.model_fn
        if bits != "float":
            config = ec.QuantizerConfig(
                bits=int(bits),
                wbits=int(bits),
                signed="auto",
                step_interval=max(1, self.steps // 3),
                num_trials=2,
            )
            model_fn = ec.compress(model_fn, ec.LSQQuantizer(config))
        seed = self.names["seed"]
        config = tf.estimator.RunConfig(
            folder,
            tf_random_seed=seed,
            save_checkpoints_steps=10**6,
            session_config=tf.ConfigProto(
                intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
            ),
        )
        begin = ec.warm_start(start) if start else None
        estimator = tf.estimator.Estimator(
            model_fn, config=config, warm_start_from=begin
        )
        shuffled = functools.partial(self._batches, seed + 100 if start else seed)
        with trained_by(rule, self._rate, self._task.batch):
            estimator.train(shuffled, max_steps=self.steps)
        return estimator

    def _batches(self, seed):
        count = len(self._train[1])
        rows = tf.data.Dataset.range(count).shuffle(count, seed).repeat()
        return rows.batch(self._task.batch).map(lambda some: taken(self._train, some))

    def accuracy(self, estimator):
        data = tf.data.Dataset.from_tensor_slices
        found = estimator.evaluate(lambda: data(self._test).batch(500))
        return float(found["accuracy"])

    def rows(self, done):
        """Yields the rows that are not among the keys in `done`."""
        widths = [bits for bits in FLAGS.bits if bits != "float"]
        runs = [("float", "none")] * ("float" in FLAGS.bits)
        runs += [(bits, rule) for bits in widths for rule in FLAGS.rules]
        keys = [
            {**self.names, "bits": b, "rule": r, "steps": self.steps} for b, r in runs
        ]
        keys = [key for key in keys if key_of(key) not in done]
        if not keys:
            return
        with tempfile.TemporaryDirectory() as folder:
            dense = os.path.join(folder, "dense")
            self.trained("float", "log_adam", dense)
            for key in keys:
                bits, rule = key["bits"], key["rule"]
                began = time.time()
                estimator = self.trained(
                    bits,
                    "log_adam" if bits == "float" else rule,
                    os.path.join(folder, f"{bits}_{rule}"),
                    dense,
                )
                # A rule may lead step sizes to NaN, or below zero.
                try:
                    accuracy = round(self.accuracy(estimator), 4)
                except tf.errors.InvalidArgumentError:
                    accuracy = None
                yield {
                    **{name: key[name] for name in KEY},
                    "accuracy": accuracy,
                    "last_loss": round(float(np.mean(self.losses.values[-LAST:])), 6),
                    "seconds": round(time.time() - began, 1),
                }


def taken(data, rows):
    """Rows of nested arrays, which stay out of the graph: Estimators write that as
    text."""
    arrays = tf.nest.flatten(data)
    found = tf.numpy_function(
        lambda some: [array[some] for array in arrays],
        [rows],
        [array.dtype for array in arrays],
    )
    for tensor, array in zip(found, arrays):
        tensor.set_shape([None, *array.shape[1:]])
    return tf.nest.pack_sequence_as(data, found)


def key_of(row):
    return tuple(row[name] for name in KEY)


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    for task in FLAGS.tasks:
        if task in ("census", "sst2") and not FLAGS[task].value:
            print(f"{task}: no --{task}, skipped")
            continue
        for optimizer in FLAGS.optimizers:
            for seed in map(int, FLAGS.seeds):
                done = {key_of(row) for row in record.rows(FLAGS.results)}
                for row in Setting(task, optimizer, seed).rows(done):
                    print(row, flush=True)
                    # Read again: others may have written meanwhile.
                    record.save(
                        FLAGS.results,
                        "tests.benchmarks.small_quantization",
                        {"rows": [*record.rows(FLAGS.results), row]},
                        PLACEHOLDERS,
                    )
    done = record.rows(FLAGS.results)
    rows = [[row[name] for name in (*KEY, "accuracy")] for row in done]
    record.print_table((*KEY, "accuracy"), rows)


if __name__ == "__main__":
    app.run(main)
