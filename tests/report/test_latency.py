"""Latency: what is timed, and what it is fed."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.report.latency import measure_latency, time_in_turns


def test_the_networks_take_turns():
    calls, now = [], [0.0]

    def step(name, seconds):
        calls.append(name)
        now[0] += seconds

    steps = [lambda: step("whole", 2.0), lambda: step("small", 0.5)]
    seconds = time_in_turns(steps, 3, clock=lambda: now[0])
    np.testing.assert_array_equal(seconds, [[2.0, 0.5]] * 3)
    assert calls[-6:] == ["whole", "small"] * 3


def sparse_and_dense():
    """Features of three examples: a row of numbers, and words by their places."""
    words = tf.SparseTensor([[0, 0], [1, 1], [2, 0]], [3, 1, 2], [3, 2])
    return {"x": tf.reshape(tf.range(12.0), [3, 4]), "words": words}


def from_dataset():
    return tf.data.Dataset.from_tensor_slices(sparse_and_dense()).batch(3)


def from_tensors():
    return sparse_and_dense(), tf.constant([0, 1, 2])


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """(model_fn that notes batch sizes and widths, their list, the pruning folder)."""
    folder, built = str(tmp_path_factory.mktemp("pruned")), []

    def model_fn(features, labels, mode, params):
        x = tf.layers.dense(features["x"], params["units"], tf.nn.relu)
        count = tf.reshape(tf.sparse.reduce_sum(features["words"], 1), [-1, 1])
        x = tf.layers.dense(x, 6, tf.nn.relu) + tf.cast(count, tf.float32)
        logits = tf.layers.dense(x, 2, name="head")
        if mode == tf.estimator.ModeKeys.PREDICT:
            size = tf.shape(logits)[0]
            note = tf.py_func(lambda n: built.append(int(n)) or n, [size], tf.int32)
            with tf.control_dependencies([note]):
                logits = tf.identity(logits)
            return tf.estimator.EstimatorSpec(mode, predictions=logits)
        loss = tf.reduce_mean(logits**2)
        train_op = tf.train.GradientDescentOptimizer(0.01).minimize(
            loss, tf.train.get_global_step()
        )
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    pruner = ec.Pruner(ec.PrunerConfig(compression_ratio=0.5))
    tf.estimator.Estimator(
        ec.compress(model_fn, pruner), folder, params={"units": 8}
    ).train(lambda: from_dataset().repeat(), max_steps=2)
    return model_fn, built, folder


@pytest.mark.parametrize("input_fn", [from_dataset, from_tensors])
def test_both_networks_run_on_batches_of_each_size(pruned, input_fn):
    model_fn, built, folder = pruned
    del built[:]
    measured = measure_latency(
        model_fn, folder, input_fn, [1, 7], 3, {"units": 8}, "the command"
    )
    assert (measured.command, measured.runs) == ("the command", 3)
    assert measured.tensorflow == tf.version.VERSION
    assert [row.batch_size for row in measured.latencies] == [1, 7]
    assert all(row.before > 0 and row.after > 0 for row in measured.latencies)
    # Three runs to time and some to warm up, of two networks.
    assert built.count(1) == built.count(7) >= 6
    assert set(built) == {1, 7}


def test_another_model_is_an_error(pruned):
    model_fn, _, folder = pruned
    with pytest.raises(ec.PlanError, match="when it was pruned"):
        measure_latency(model_fn, folder, from_dataset, [1], 1, {"units": 9}, "")
