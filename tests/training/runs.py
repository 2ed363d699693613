"""Estimators, specs and checkpoints of a small raw model, for the tests of runs."""
import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.training.test_zoo import checkpoint


def sparsifier(**kwargs):
    return ec.Sparsifier(
        ec.SparsifierConfig(**{"step_interval": 2, "num_trials": 3, **kwargs})
    )


def raw_model():
    return models.classifier(models._raw_network, (8, 8, 3))


def estimator(model_dir, model_fn=None, wrap=None, **config):
    model_fn = model_fn or raw_model()[0]
    wrap = wrap or (lambda f: ec.compress(f, sparsifier()))
    return tf.estimator.Estimator(
        wrap(model_fn), config=models.run_config(str(model_dir), **config)
    )


def receiver():
    x = tf.placeholder(tf.float32, [None, 8, 8, 3])
    return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})


def specs(steps, **evaluation):
    input_fn = raw_model()[1]
    return (
        tf.estimator.TrainSpec(input_fn, steps),
        tf.estimator.EvalSpec(
            input_fn, 2, start_delay_secs=0, throttle_secs=0, **evaluation
        ),
    )


def zeros(folder, name="w2"):
    return np.mean(checkpoint(str(folder))[name] == 0)
