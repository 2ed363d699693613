"""Step sizes follow what they quantize, the model's input included."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models

WEIGHTS = np.random.RandomState(3).standard_normal((6, 4)).astype(np.float32)
STATE = "ec_estimator/quantization/"
MODES = tf.estimator.ModeKeys
CONFIG = ec.QuantizerConfig(bits=3, wbits=8, step_interval=1, num_trials=1)
STEPS = 200
# The steps are fitted before the second training step; this comes after it.
CHANGED = 3


def batches(factor):
    """What the model has learnt already; later the input is `factor` times as large."""
    random = np.random.RandomState(4)
    x = random.standard_normal((CHANGED + STEPS, 32, 6)).astype(np.float32)
    x[CHANGED:] *= factor
    return tf.data.Dataset.from_tensor_slices(x).map(lambda x: ({"x": x}, x))


def model_fn(features, labels, mode):
    """Rounding alone makes its loss, and weights stay as they are."""
    start = tf.constant_initializer(WEIGHTS)
    y = tf.layers.dense(features["x"], 4, use_bias=False, kernel_initializer=start)
    if mode == MODES.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"y": y})
    loss = tf.reduce_mean(tf.square(y - tf.matmul(labels, WEIGHTS)))
    step = tf.train.get_or_create_global_step()
    optimizer = tf.train.GradientDescentOptimizer(1e-9)
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=optimizer.minimize(loss, step)
    )


class Watch(tf.train.SessionRunHook):
    """Keeps what a variable is before each step."""

    def __init__(self, name):
        self._name = name
        self.values = []

    def before_run(self, run_context):
        graph = run_context.session.graph
        (variable,) = [
            v for v in graph.get_collection("variables") if v.op.name == self._name
        ]
        self.values.append(run_context.session.run(variable))

    @property
    def ratio(self):
        """The last value by that when the input changed."""
        return self.values[-1] / self.values[CHANGED]


def in_estimator(factor, folder):
    watch = Watch(f"{STATE}dense/kernel/input/step")
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, ec.LSQQuantizer(CONFIG)),
        config=models.run_config(str(folder)),
    )
    estimator.train(lambda: batches(factor), [watch], max_steps=STEPS)
    return watch


def in_session(factor, folder):
    watch = Watch(f"{STATE}dense/kernel/input/step")
    with tf.Graph().as_default():
        features, labels = tf.data.make_one_shot_iterator(batches(factor)).get_next()
        start = tf.constant_initializer(WEIGHTS)
        y = tf.layers.dense(features["x"], 4, use_bias=False, kernel_initializer=start)
        loss = tf.reduce_mean(tf.square(y - tf.matmul(labels, WEIGHTS)))
        ec.quantize_graph("train", None, CONFIG)
        train_op = tf.train.GradientDescentOptimizer(1e-9).minimize(loss)
        hook = ec.CompressionHook(ec.LSQQuantizer(CONFIG))
        with tf.train.MonitoredSession(hooks=[hook, watch]) as session:
            for _ in range(STEPS):
                session.run(train_op)
    return watch


@pytest.mark.parametrize("train", [in_estimator, in_session])
def test_the_step_of_the_models_input_goes_after_its_values(train, tmp_path):
    # By a thousandth a step, and LSQ's optimum is more than 1.1 times the fit away.
    assert 1.1 < train(2.0, tmp_path / "2").ratio < 1.25
    assert 0.8 < train(0.5, tmp_path / "0.5").ratio < 0.91


def test_in_a_loop_too(tmp_path):
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(2)
        random = np.random.RandomState(5)
        x = tf.constant(random.standard_normal((4, 7, 6)).astype(np.float32))
        cell = tf.nn.rnn_cell.BasicRNNCell(5)
        outputs, _ = tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)
        loss = tf.reduce_mean(tf.square(outputs - 0.5))
        ec.quantize_graph("train", None, CONFIG)
        train_op = tf.train.AdamOptimizer(1e-3).minimize(loss)
        hook = ec.CompressionHook(ec.LSQQuantizer(CONFIG))
        names = [
            v.op.name
            for v in graph.get_collection("variables")
            if v.op.name.startswith(STATE) and v.op.name.endswith("/step")
        ]
        watches = [Watch(name) for name in names]
        with tf.train.MonitoredSession(hooks=[hook, *watches]) as session:
            for _ in range(6):
                session.run(train_op)
    assert len(names) == 2
    for watch in watches:
        assert np.any(watch.values[-1] != watch.values[2])
        np.testing.assert_allclose(watch.values[-1], watch.values[2], rtol=1e-2)
