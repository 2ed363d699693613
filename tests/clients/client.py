"""What the tests need of a model that comes from somebody else's package."""
from typing import Callable, Dict, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tests import models

BATCH = 4


class Client(NamedTuple):
    """A model_fn as its package makes it, and all that an Estimator is given with it.

    Fields:
      model_fn: of the package, not changed.
      estimator: callable(model_fn, model_dir) -> an Estimator as the package uses it.
      train_input_fn, eval_input_fn, predict_input_fn: the second and third end.
      receiver: serving_input_receiver_fn.
      inputs: {name of receiver's input: array}, the examples of predict_input_fn.
      answer: the prediction that is compared, float32.
      sparse: how many kernels a Sparsifier takes.
      cut: how many variables a Pruner makes smaller at least.
    """

    model_fn: Callable
    estimator: Callable
    train_input_fn: Callable
    eval_input_fn: Callable
    predict_input_fn: Callable
    receiver: Callable
    inputs: Dict[str, np.ndarray]
    answer: str
    sparse: int
    cut: int


def receiver_of(inputs):
    """A serving_input_receiver_fn for features that are given as they are."""

    def receiver():
        given = {
            name: tf.placeholder(value.dtype, (None,) + value.shape[1:], name)
            for name, value in inputs.items()
        }
        return tf.estimator.export.ServingInputReceiver(given, given)

    return receiver


def batches(features, labels, repeat=False):
    """An input_fn of all examples, once or for ever."""

    def input_fn():
        data = tf.data.Dataset.from_tensor_slices((features, labels))
        return (data.repeat() if repeat else data).batch(BATCH)

    return input_fn


def of_examples(model_fn, features, labels, **fields):
    """A Client of a model_fn that any Estimator takes, with these examples.

    Args:
      features, labels: arrays, [examples, ...].
      fields: answer, sparse and cut of the Client.
    """
    return Client(
        model_fn=model_fn,
        estimator=lambda model_fn, model_dir: tf.estimator.Estimator(
            model_fn, config=models.run_config(model_dir)
        ),
        train_input_fn=batches(features, labels, repeat=True),
        eval_input_fn=batches(features, labels),
        predict_input_fn=batches(features, labels),
        receiver=receiver_of(features),
        inputs=features,
        **fields,
    )
