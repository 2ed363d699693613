"""A user's input_fn, called as an Estimator calls it."""
from typing import Any, NamedTuple, Tuple

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private


class Data(NamedTuple):
    """Tensors of a batch, and hooks that a session needs to make them."""

    features: Any
    labels: Any
    hooks: Tuple[Any, ...]


def call_input_fn(input_fn, mode, params, config):
    """Calls an input_fn with those of the arguments that it takes.

    Args:
      mode, params, config: as a model_fn gets them.

    Returns:
      Data, in the default graph.
    """
    offered = {"mode": mode, "params": params, "config": config}
    taken = tf_private.arguments_of(input_fn)
    data, hooks = input_fn(**{k: v for k, v in offered.items() if k in taken}), ()
    if isinstance(data, tf.data.Dataset):
        # Not a one-shot iterator: the data may look things up in tables.
        iterator = tf.data.make_initializable_iterator(data)
        data, hooks = iterator.get_next(), (_Initialize(iterator),)
    features, labels = data if isinstance(data, (tuple, list)) else (data, None)
    return Data(features, labels, hooks)


class _Initialize(tf.train.SessionRunHook):
    """Starts an iterator after tables are initialized."""

    def __init__(self, iterator):
        self._iterator = iterator

    def begin(self):
        self._initializer = self._iterator.initializer

    def after_create_session(self, session, coord):
        session.run(self._initializer)
