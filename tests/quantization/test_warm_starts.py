"""Whichever way a quantized run is given a float model's values, it starts from these,
and its step sizes are fitted to them."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.quantization.mode_models import MODES, dataset, normal

INPUT = dataset(x=normal(8))
KERNELS = ("Hidden/kernel", "Out/kernel")
STEPS = "ec_estimator/quantization/"


def model(scale, start=None):
    """A model_fn that trains at rate 0, its weights from -scale to scale at first.

    Args:
      start: folder that tf.train.init_from_checkpoint starts it from, or None.
    """

    def model_fn(features, labels, mode):
        initializer = tf.random_uniform_initializer(-scale, scale, seed=3)
        made = {"kernel_initializer": initializer, "bias_initializer": initializer}
        x = tf.layers.dense(features["x"], 12, tf.nn.relu, name="Hidden", **made)
        y = tf.layers.dense(x, 3, name="Out", **made)
        if start:
            tf.train.init_from_checkpoint(start, {n: n for n in ("Hidden/", "Out/")})
        if mode == MODES.PREDICT:
            return tf.estimator.EstimatorSpec(mode, {"y": y})
        loss = tf.losses.sparse_softmax_cross_entropy(labels, y)
        optimizer = tf.train.GradientDescentOptimizer(0.0)
        train_op = optimizer.minimize(loss, tf.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def train(model_fn, folder, warm_start_from=None):
    """{name: value} of its checkpoint."""
    estimator = tf.estimator.Estimator(
        model_fn,
        config=models.run_config(str(folder)),
        warm_start_from=warm_start_from,
    )
    estimator.train(INPUT, max_steps=2)
    return {n: estimator.get_variable_value(n) for n in estimator.get_variable_names()}


def quantized(start, way, folder):
    """What a quantized run from `start` leaves, one of WAYS."""
    made = {"model_fn": model(0.1), "config": {}, "from": None}
    made.update(WAYS[way](start))
    config = ec.QuantizerConfig(step_interval=1, num_trials=1, **made["config"])
    wrapped = ec.compress(made["model_fn"], ec.LSQQuantizer(config))
    return train(wrapped, folder, made["from"])


def _settings(start):
    pattern = "(Hidden|Out)/.*"
    return {"from": tf.estimator.WarmStartSettings(start, vars_to_warm_start=pattern)}


WAYS = {
    "folder": lambda start: {"from": start},
    "settings": _settings,
    "init_from_checkpoint": lambda start: {"model_fn": model(0.1, start)},
    "ec.warm_start": lambda start: {"from": ec.warm_start(start)},
    "pretrained_model": lambda start: {"config": {"pretrained_model": start}},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(the float model's values, {way: the quantized run's})."""
    folder = tmp_path_factory.mktemp("warm_starts")
    start = str(folder / "float")
    values = train(model(5.0), start)
    return values, {way: quantized(start, way, folder / way) for way in WAYS}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_starts_from_the_float_values(way, runs):
    dense, found = runs[0], runs[1][way]
    for name in set(dense) - {"global_step"}:
        np.testing.assert_array_equal(found[name], dense[name], name)
    assert found["global_step"] == 2


@pytest.mark.parametrize("way", WAYS)
def test_step_sizes_are_fitted_to_the_float_kernels(way, runs):
    """At 8 bits a channel's range is about its largest weight. Of the random values it
    would be a fiftieth."""
    dense, found = runs[0], runs[1][way]
    for name in KERNELS:
        ranges = 127 * found[f"{STEPS}{name}/step"]
        share = ranges / np.abs(dense[name]).max(axis=0)
        assert np.all((share > 0.5) & (share < 1.5)), share


@pytest.mark.parametrize("way", [way for way in WAYS if way != "folder"])
def test_step_sizes_are_the_same_in_all_ways(way, runs):
    steps = {n for n in runs[1]["folder"] if n.startswith(STEPS) and "/step" in n}
    assert len(steps) == 4
    for name in steps:
        expected = runs[1]["folder"][name]
        np.testing.assert_allclose(runs[1][way][name], expected, rtol=1e-6)
