"""Frozen models of small Estimators, for the tests of the formats."""
import functools
import tempfile
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.export.frozen_model import freeze_model
from tests.models import MODELS, unwrapped


def _wrapped(compressor):
    return lambda model_fn: ec.compress(model_fn, compressor)


# What is done to a model, by name.
COMPRESSED = {
    "dense": lambda: unwrapped,
    "sparse": lambda: _wrapped(
        ec.Sparsifier(
            ec.SparsifierConfig(
                step_interval=1, num_trials=1, sparse_block_shape=(1, 4)
            )
        )
    ),
    "pruned": lambda: _wrapped(
        ec.Pruner(ec.PrunerConfig(compression_ratio=0.5, step_interval=1, num_trials=1))
    ),
    "quantized": lambda: _wrapped(
        ec.LSQQuantizer(
            ec.QuantizerConfig(step_interval=2, num_trials=2, post_quant=True)
        )
    ),
}


class Trained(NamedTuple):
    """model: FrozenModel; signature: its name; samples: 3 examples by input key;
    answers: what the Estimator predicts for them, by output key."""

    model: Any
    signature: str
    samples: Any
    answers: Any


@functools.lru_cache(maxsize=None)
def trained(network, compressed="dense", steps=3):
    """Trains a model of tests.models and freezes it."""
    with tempfile.TemporaryDirectory() as folder:
        estimator, input_fn = MODELS[network](folder, COMPRESSED[compressed]())
        estimator.train(input_fn, max_steps=steps)
        samples = _samples(input_fn)

        def receiver():
            features = {
                key: tf.placeholder(array.dtype, (None, *array.shape[1:]), key)
                for key, array in samples.items()
            }
            return tf.estimator.export.ServingInputReceiver(features, features)

        predictions = list(
            estimator.predict(
                lambda: tf.data.Dataset.from_tensor_slices(samples).batch(3)
            )
        )
        checkpoint = estimator.latest_checkpoint()
        model = freeze_model(estimator, receiver, checkpoint)
    (name,) = model.signatures
    answers = {
        key: np.stack([prediction[key] for prediction in predictions])
        for key in predictions[0]
    }
    return Trained(model, name, samples, answers)


def _samples(input_fn):
    with tf.Graph().as_default(), tf.Session() as session:
        data = input_fn().unbatch().batch(3).take(1)
        features, _ = session.run(tf.data.make_one_shot_iterator(data).get_next())
    return features
