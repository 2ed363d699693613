"""Accuracy of quantized training on a small model, beside float with the same steps.

    python -m tests.benchmarks.small_quantization

scikit-learn's digits (examples/digits_model.py's network), float for half of the steps,
then float and quantized from there, with the optimizers that users have: SGD with
momentum and the gradients clipped by their global norm, and Adam. A row is written as
soon as it is known; rows that are there are not run again.
"""
import json
import os
import tempfile

import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from examples import digits_model
from tests.benchmarks import record

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", 300, "training steps of each half")
flags.DEFINE_list("seeds", ["1", "2"], "seeds")
flags.DEFINE_list("optimizers", ["clipped_momentum", "adam"], "optimizers")
flags.DEFINE_list("bits", ["float", "8", "4", "2"], "widths of weights and activations")
flags.DEFINE_string("results", "small_quantization", "results' file name")


def clipped_momentum(loss, step):
    optimizer = tf.train.MomentumOptimizer(0.02, 0.9)
    gradients, variables = zip(*optimizer.compute_gradients(loss))
    gradients, _ = tf.clip_by_global_norm(gradients, 1.0)
    return optimizer.apply_gradients(zip(gradients, variables), step)


def adam(loss, step):
    return tf.train.AdamOptimizer(1e-3).minimize(loss, step)


OPTIMIZERS = {"clipped_momentum": clipped_momentum, "adam": adam}


def model_fn_with(minimize):
    def model_fn(features, labels, mode):
        training = mode == tf.estimator.ModeKeys.TRAIN
        logits = digits_model.network(features["image"], training)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, {"logits": logits})
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        classes = tf.argmax(logits, axis=1, output_type=tf.int32)
        metrics = {"accuracy": tf.metrics.accuracy(labels, classes)}
        train_op = None
        if training:
            updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
            train_op = tf.group(minimize(loss, tf.train.get_global_step()), updates)
        return tf.estimator.EstimatorSpec(
            mode, loss=loss, train_op=train_op, eval_metric_ops=metrics
        )

    return model_fn


def input_fn(seed, train):
    (images, labels), test = digits_model.load_data()
    if not train:
        images, labels = test
    data = tf.data.Dataset.from_tensor_slices(({"image": images}, labels))
    if train:
        data = data.shuffle(len(labels), seed).repeat()
    return data.batch(64 if train else 500)


def estimator_of(model_fn, folder, seed, start=None):
    config = tf.estimator.RunConfig(
        folder, tf_random_seed=seed, save_checkpoints_steps=10**6
    )
    return tf.estimator.Estimator(model_fn, config=config, warm_start_from=start)


def evaluated(estimator, seed):
    """Loss on the data that was trained on, and accuracy on the rest."""
    train, test = (
        estimator.evaluate(lambda t=t: input_fn(seed, t), steps=20 if t else None)
        for t in (True, False)
    )
    return {
        "train_loss": round(float(train["loss"]), 6),
        "test_accuracy": round(float(test["accuracy"]), 4),
    }


def rows_of(optimizer, seed, done):
    """Yields (key, figures) of what is not done yet."""
    keys = {b: f"{optimizer}, {b}, seed {seed}" for b in FLAGS.bits}
    if set(keys.values()) <= set(done):
        return
    model_fn, steps = model_fn_with(OPTIMIZERS[optimizer]), FLAGS.steps
    with tempfile.TemporaryDirectory() as folder:
        dense = os.path.join(folder, "dense")
        estimator = estimator_of(model_fn, dense, seed)
        estimator.train(lambda: input_fn(seed, True), max_steps=steps)
        for bits, key in keys.items():
            if key in done:
                continue
            wrapped = model_fn
            if bits != "float":
                config = ec.QuantizerConfig(
                    bits=int(bits),
                    wbits=int(bits),
                    signed="auto",
                    step_interval=max(1, steps // 3),
                    num_trials=2,
                )
                wrapped = ec.compress(model_fn, ec.LSQQuantizer(config))
            quantized = estimator_of(
                wrapped, os.path.join(folder, bits), seed, ec.warm_start(dense)
            )
            quantized.train(lambda: input_fn(seed + 100, True), max_steps=steps)
            yield key, evaluated(quantized, seed)


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    path = os.path.join(record.RESULTS, FLAGS.results + ".json")
    done = {}
    if os.path.exists(path):
        with open(path) as file:
            done = json.load(file)["rows"]
    for optimizer in FLAGS.optimizers:
        for seed in map(int, FLAGS.seeds):
            for key, figures in rows_of(optimizer, seed, done):
                done[key] = figures
                record.save(
                    FLAGS.results,
                    "tests.benchmarks.small_quantization",
                    {"steps": FLAGS.steps, "rows": done},
                )
    rows = [(key, *figures.values()) for key, figures in done.items()]
    record.print_table(("run", "train loss", "test accuracy"), rows)


if __name__ == "__main__":
    app.run(main)
