"""Quantized Estimators of mode_models, and what they are in each mode."""
import json

import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.quantization import mode_models
from tests.quantization.quantized_ops import EXPORT, FLOAT, assert_same, everywhere
from tests.quantization.test_zoo import run_saved_model


def make(model_fn, folder, params=None):
    """An Estimator of a model that is quantized, with signs by what it computes."""
    config = ec.QuantizerConfig(signed="auto", step_interval=1, num_trials=1)
    return tf.estimator.Estimator(
        ec.compress(model_fn, ec.LSQQuantizer(config)),
        config=models.run_config(str(folder), save_summary_steps=None),
        params=params,
    )


def trained(model_fn, folder, input_fn):
    estimator = make(model_fn, folder)
    estimator.train(input_fn, max_steps=3)
    return estimator


def export(estimator, placeholders, names=None):
    """Path of a SavedModel with a receiver of {feature: (dtype, shape)}."""

    def receiver():
        given = {
            name: tf.placeholder(dtype, shape, (names or {}).get(name, name))
            for name, (dtype, shape) in placeholders.items()
        }
        return tf.estimator.export.ServingInputReceiver(given, given)

    folder = f"{estimator.model_dir}/{EXPORT}"
    return estimator.export_saved_model(folder, receiver).decode()


def first_batch(input_fn):
    with tf.Graph().as_default(), tf.Session() as session:
        made = input_fn()
        if isinstance(made, tf.data.Dataset):
            made = tf.data.make_one_shot_iterator(made).get_next()
        return session.run(made[0])


def predicted(estimator, input_fn):
    rows = estimator.predict(input_fn)
    return np.stack([row["y"] for row in rows])


def served(path, features):
    return run_saved_model(path, features)[0]["y"]


def assert_serves_the_same(estimator, input_fn, path, names):
    """What PREDICT and the export answer, of the first batch."""
    features = {n: v for n, v in first_batch(input_fn).items() if n in names}
    expected = predicted(estimator, input_fn)[: mode_models.BATCH]
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(served(path, features), expected, rtol=0, atol=1e-5)


def assert_quantized_everywhere(
    estimator, input_fn, placeholders, kernels, products=0, names=None
):
    """{mode: Counter of layers}, all of them with the same kernels and products."""
    path = export(estimator, placeholders, names)
    found = everywhere(estimator, input_fn, path)
    same = assert_same(found)
    assert {kernel for kernel, *_ in same if kernel} == set(kernels)
    assert sum(not kernel for kernel, *_ in same) == products
    assert not any(FLOAT in layer for layer in same)
    assert_serves_the_same(estimator, input_fn, path, placeholders)
    return found


def left_alone(estimator):
    """{op: why it is not quantized}, from the coverage report."""
    with open(f"{estimator.model_dir}/compression/coverage.json") as file:
        rows = json.load(file)["layers"]
    return {
        row["op"]: row["decisions"]["quantization"]
        for row in rows
        if row["decisions"]["quantization"] != "compressed"
    }
